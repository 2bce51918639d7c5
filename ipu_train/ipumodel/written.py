"""Traced programs as bytes and back, the same to the last number: what is kept of traces between commands."""

import json
import zlib
from dataclasses import fields
from typing import Any, Dict, List, Sequence

from .program import Operation, Program, Tensor

_LISTS = ("tensors", "operations")  # rows without the names of their fields
_OTHERS = tuple(field.name for field in fields(Program) if field.name not in _LISTS)


def write(programs: Sequence[Program]) -> bytes:
    """Compressed JSON of programs, which compress well together where they differ in the batch alone.

    Raises:
        ValueError: a program holds something that JSON does not give back as it was.
    """
    text = json.dumps([_plain(program) for program in programs], separators=(",", ":"))
    if repr(_programs(text)) != repr(list(programs)):
        raise ValueError("a program holds something that JSON does not give back as it was")
    return zlib.compress(text.encode())


def read(written: bytes) -> List[Program]:
    """The programs that :func:`write` wrote."""
    return _programs(zlib.decompress(written).decode())


def _plain(program: Program) -> Dict[str, Any]:
    found = {name: getattr(program, name) for name in _OTHERS}
    for name in _LISTS:
        found[name] = [list(vars(row).values()) for row in getattr(program, name)]
    return found


def _programs(text: str) -> List[Program]:
    return [
        Program(
            tensors=[Tensor(*map(_tuples, row)) for row in one["tensors"]],
            operations=[Operation(*map(_tuples, row)) for row in one["operations"]],
            **{name: _tuples(one[name]) for name in _OTHERS},
        )
        for one in json.loads(text)
    ]


def _tuples(value: Any) -> Any:
    """Sequences of a program are tuples, at any depth."""
    if type(value) is list:
        return tuple(map(_tuples, value))
    if type(value) is dict:
        return {key: _tuples(one) for key, one in value.items()}
    return value

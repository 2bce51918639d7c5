"""Traces of one network at several micro-batch sizes as JSON that compresses well, and back to the last number.

Blocks of a network repeat, which only shows when its operations name tensors by how long ago they were made; and traces
of other micro-batch sizes differ in few numbers, so that only those are written of them.
"""

import json
from dataclasses import fields
from typing import Any, Dict, List, Sequence

from ...ipumodel.program import Operation, Program, Tensor

_SAME = "="  # in the place of what is as in the first trace
_OTHERS = tuple(field.name for field in fields(Program) if field.name not in ("tensors", "operations"))
_TENSOR = tuple(field.name for field in fields(Tensor))
_OPERATION = tuple(field.name for field in fields(Operation))
_INDICES = ("reads", "writes", "saves", "differentiable")


def pack(programs: Sequence[Program]) -> List[Any]:
    """What JSON can hold of the traces; the first one in full, of the others where they differ.

    Raises:
        ValueError: it would not give the traces back as they are.
    """
    plain: List[Any] = [json.loads(json.dumps(_plain(program))) for program in programs]
    packed = plain[:1] + [_difference(plain[0], other) for other in plain[1:]]
    if repr(unpack(packed)) != repr(list(programs)):
        raise ValueError("a trace holds something that JSON does not give back as it was")
    return packed


def unpack(packed: Sequence[Any]) -> List[Program]:
    """The traces that :func:`pack` was given."""
    first = packed[0]
    return [_program(one) for one in [first, *(_sum(first, other) for other in packed[1:])]]


def _plain(program: Program) -> Dict[str, Any]:
    found = {name: getattr(program, name) for name in _OTHERS}
    found["tensors"] = [[getattr(tensor, name) for name in _TENSOR[1:]] for tensor in program.tensors]
    rows, before = [], 0
    for op in program.operations:
        made = op.writes[0] if op.writes else before
        row = {name: getattr(op, name) for name in _OPERATION}
        row.update({name: [made - index for index in row[name]] for name in _INDICES})
        rows.append([made - before, *row.values()])
        before = made
    return {**found, "operations": rows}


def _program(plain: Dict[str, Any]) -> Program:
    tensors = [Tensor(index, *map(_tuples, row)) for index, row in enumerate(plain["tensors"])]
    operations, made = [], 0
    for step, *values in plain["operations"]:
        made += step
        row = {name: _tuples(value) for name, value in zip(_OPERATION, values)}
        row.update({name: tuple(made - ago for ago in row[name]) for name in _INDICES})
        operations.append(Operation(**row))
    return Program(tensors=tensors, operations=operations, **{name: _tuples(plain[name]) for name in _OTHERS})


def _difference(first: Any, other: Any) -> Any:
    if type(first) is type(other) and first == other and repr(first) == repr(other):
        return _SAME
    if isinstance(first, list) and isinstance(other, list) and len(first) == len(other):
        return [_difference(a, b) for a, b in zip(first, other)]
    if isinstance(first, dict) and isinstance(other, dict) and list(first) == list(other):
        return {name: _difference(first[name], other[name]) for name in first}
    return {_SAME: other}


def _sum(first: Any, difference: Any) -> Any:
    if isinstance(difference, list):
        return [_sum(a, b) for a, b in zip(first, difference)]
    if isinstance(difference, dict):
        if _SAME in difference:
            return difference[_SAME]
        return {name: _sum(first[name], value) for name, value in difference.items()}
    return first


def _tuples(value: Any) -> Any:
    """Sequences of a program are tuples, at any depth."""
    if type(value) is list:
        return tuple(map(_tuples, value))
    if type(value) is dict:
        return {key: _tuples(one) for key, one in value.items()}
    return value

"""Options written as text: files of setter calls, and JSON."""

import codeop
import json
import os
import re
import sys
import traceback
import warnings
from typing import Any

import torch

from .. import enums

_UNFINISHED = "unexpected EOF while parsing"


class ConfigFileError(Exception):
    """A file of options could not be executed."""


def loadFromFile(options: Any, path: str) -> None:
    """Apply a file of options: each line is executed as if written after ``options.``.

    Empty lines and lines that start with ``#`` are skipped. ``poptorch`` is in scope. Nothing is applied
    when a line is no Python.

    Raises:
        ConfigFileError: names the error's class, the number of the line among those executed, and the file.
    """
    with open(path, encoding="utf-8") as file:
        stripped = [line.strip() for line in file]
    lines = ["options." + line for line in stripped if line and not line.startswith("#")]
    name = os.path.basename(path)

    def failure(error: BaseException, number: int, detail: str) -> ConfigFileError:
        text = lines[number - 1] if 0 < number <= len(lines) else ""
        return ConfigFileError(
            f"{type(error).__name__} at line {number} of {name}: {detail}\n> {text}\n"
            "Options are not allowed to span several lines: check the syntax of this one"
            if isinstance(error, SyntaxError)
            else f"{type(error).__name__} at line {number} of {name}: {detail}\n> {text}"
        )

    programs = []
    for number, line in enumerate(lines, start=1):
        try:
            programs.append(compile(line, name, "exec"))
        except SyntaxError as error:
            # what Python 3.8, which PopTorch 3.4 is built for, says of a line that stops too early
            raise failure(error, number, _UNFINISHED if _unfinished(line) else error.msg) from None
    scope = {"options": options, "poptorch": _poptorch()}
    for number, program in enumerate(programs, start=1):
        try:
            exec(program, scope)
        except Exception as error:
            raise failure(error, number, str(error) or traceback.format_exc(limit=0).strip()) from error


def _unfinished(line: str) -> bool:
    """Whether more text could make Python of a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return codeop.compile_command(line) is None
        except SyntaxError:
            return False


def _poptorch() -> Any:
    """What ``poptorch`` means in a file of options: the whole of this package."""
    return sys.modules[__package__.rpartition(".")[0]]


def applyJson(options: Any, string: str) -> None:
    """Apply ``{"dotted.accessor": value}``.

    A list gives several arguments; a string like ``"ConnectionType.OnDemand"`` becomes the enum's member.

    Raises:
        ConfigFileError: not a JSON object, or no such option.
    """
    try:
        settings = json.loads(string)
    except json.JSONDecodeError as error:
        raise ConfigFileError(f"These options are not valid JSON: {error}\n> {string}") from None
    if not isinstance(settings, dict):
        raise ConfigFileError(f'Expected a JSON object like {{"deviceIterations": 2}}, got\n> {string}')
    for accessor, value in settings.items():
        target = options
        for name in accessor.split("."):
            try:
                target = getattr(target, name)
            except AttributeError as error:
                raise ConfigFileError(f"There is no option {accessor!r}: {error}") from None
        arguments = value if isinstance(value, list) else [value]
        target(*[_member(argument) for argument in arguments])


def _member(value: Any) -> Any:
    """The enum member or torch dtype that a string names, anything else unchanged."""
    match = re.fullmatch(r"(?:poptorch\.)?(\w+)\.(\w+)", value) if isinstance(value, str) else None
    if match is None:
        return value
    owner, name = match.groups()
    if owner == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    enumeration = getattr(enums, owner, None)
    if owner in enums.__all__ and enumeration is not None and name in enumeration.__members__:
        return enumeration[name]
    return value

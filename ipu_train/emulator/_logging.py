"""PopTorch's logger: name, format and levels as in the PopTorch 3.4 user guide's section on logging."""

import logging
import os
import sys
from typing import Any, Union

__all__ = ["logger", "setLogLevel"]

TRACE = 5
OFF = logging.CRITICAL + 10

_LEVELS = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERR": logging.ERROR,
    "OFF": OFF,
}
# understood, never advertised
_HIDDEN_LEVELS = {"TRACE_ALL": TRACE, "DEBUG_IR": logging.DEBUG}
_INTEGERS = {0: "TRACE", 1: "DEBUG", 2: "INFO", 3: "WARN", 4: "ERR", 6: "OFF"}
_NAMES = {TRACE: "trace", OFF: "off"}
_COLOURS = {
    "trace": "\033[37m",
    "debug": "\033[36m",
    "info": "\033[32m",
    "warning": "\033[33m\033[1m",
    "error": "\033[31m\033[1m",
    "critical": "\033[41m\033[1m",
}


class _Formatter(logging.Formatter):
    """``[HH:MM:SS.mmm] [poptorch::python] [level] text``, coloured only on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        level = _NAMES.get(record.levelno, record.levelname.lower())
        if sys.stderr.isatty():
            level = f"{_COLOURS.get(level, '')}{level}\033[0m"
        clock = self.formatTime(record, "%H:%M:%S")
        text = f"[{clock}.{int(record.msecs):03d}] [{record.name}] [{level}] {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _StandardError(logging.StreamHandler):
    """Writes to whatever ``sys.stderr`` is at the moment, so that a redirected stderr is honoured."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


logger = logging.getLogger("poptorch::python")
if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
    _handler = _StandardError()
    _handler.setFormatter(_Formatter())
    logger.addHandler(_handler)


def setLogLevel(level: Union[str, int]) -> None:
    """Set how much is logged.

    Args:
        level: ``"TRACE"``, ``"DEBUG"``, ``"INFO"``, ``"WARN"``, ``"ERR"``, ``"OFF"``, or 0, 1, 2, 3, 4, 6.

    Raises:
        ValueError: no such level.
    """
    if isinstance(level, int):
        if level not in _INTEGERS:
            raise ValueError("Invalid log level integer")
        level = _INTEGERS[level]
    number = _LEVELS.get(level, _HIDDEN_LEVELS.get(level))
    if number is None:
        names = sorted(_LEVELS)
        known = ", ".join(names[:-1]) + " and " + names[-1]
        raise ValueError(f"Unknown log level: {level}. Valid values are {known}")
    logger.setLevel(number)


_popart_level = "WARN"


def setPopartLogLevel(level: str) -> None:
    """Set how much PopART logs. The emulator has no PopART; the name is checked and remembered.

    Raises:
        ValueError: not one of the level names.
    """
    global _popart_level
    if not isinstance(level, str) or level not in _LEVELS:
        raise ValueError("Level must be one of " + ", ".join(sorted(_LEVELS)))
    _popart_level = level


def trace(text: str, *args: Any) -> None:
    """Log below debug level."""
    logger.log(TRACE, text, *args)


def _levelFromEnvironment() -> None:
    """Start with the level ``POPTORCH_LOG_LEVEL`` names, warnings without it."""
    level = os.environ.get("POPTORCH_LOG_LEVEL", "WARN")
    try:
        setLogLevel(int(level) if level.isdigit() else level)
    except ValueError as error:
        setLogLevel("WARN")
        logger.warning("POPTORCH_LOG_LEVEL: %s", error)


_levelFromEnvironment()

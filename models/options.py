"""A network's own options, checked before anything is built from them."""

import math
import numbers
from typing import Any, Callable, Dict, List, Union, get_type_hints

# What a value of each type is called, and how it is told. True and False are numbers to Python, not to us.
_KINDS: Dict[type, Any] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: (
        "a whole number",
        lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool),
    ),
    float: (
        "a finite number",
        lambda value: (
            isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(float(value))
        ),
    ),
    str: ("a name", lambda value: isinstance(value, str)),
}


class OptionError(ValueError):
    """A value that an option cannot have; ``option`` is its name."""

    def __init__(self, option: str, message: str):
        super().__init__(message)
        self.option = option


def keyword_options(make: Callable) -> List[str]:
    """The options that a function making a network has: its keyword-only arguments."""
    from inspect import Parameter, signature

    return [p.name for p in signature(make).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]


def check_kind(option: str, value: Any, make: Callable) -> None:
    """OptionError unless the value is of the type that ``make`` gives its argument ``option``."""
    hint = get_type_hints(make)[option]
    allowed = hint.__args__ if getattr(hint, "__origin__", None) is Union else (hint,)
    if value is None and type(None) in allowed:
        return
    kinds = [_KINDS[kind] for kind in allowed if kind is not type(None)]
    if not any(fits(value) for _, fits in kinds):
        words = " or ".join(word for word, _ in kinds)
        raise OptionError(option, f"{option} must be {words}; got {value!r}")


def check_range(option: str, value: float, fits: bool, what: str) -> None:
    """OptionError with ``what`` the value must be unless it ``fits``."""
    if not fits:
        raise OptionError(option, f"{option} is {value}; it must be {what}")

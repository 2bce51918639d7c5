"""The options that each network has, read from the sources of the functions that make them: without importing torch."""

import ast
import math
import numbers
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

# What a value of each type is called, and how it is told. True and False are numbers to Python, not to us.
_KINDS: Dict[str, Any] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": (
        "a whole number",
        lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool),
    ),
    "float": (
        "a finite number",
        lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_finite(value),
    ),
    "str": ("a name", lambda value: isinstance(value, str)),
}


# Beyond these lies a typing error and a machine without memory; what is too small the networks know.
LARGEST = {"width": 64, "depth": 32, "expansion": 1024, "groups": 2**16, "group_width": 2**16}


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:  # a whole number that no float holds
        return False


class OptionKind(NamedTuple):
    """One option of a network.

    Attributes:
        name: the keyword argument.
        kind: ``bool``, ``int``, ``float`` or ``str``.
        default: where it is not given; None: the network's own.
        takes_none: whether None may be given.
    """

    name: str
    kind: str
    default: Any
    takes_none: bool

    @property
    def words(self) -> str:
        return _KINDS[self.kind][0]

    def complaint(self, value: Any) -> Optional[str]:
        """What is wrong with the type or the size of a value; None when nothing is."""
        if value is None and self.takes_none:
            return None
        if _KINDS[self.kind][1](value):
            most = LARGEST.get(self.name)
            beyond = most is not None and value > most
            return f"{self.name} is {value:g}; it must be at most {most}" if beyond else None
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
        return f"{self.name} must be {self.words}; got {shown}"


@lru_cache(maxsize=None)
def declared(module: str, function: str) -> Dict[str, OptionKind]:
    """The keyword-only arguments of ``function`` in ``module`` of this package."""
    source = Path(__file__).with_name(module + ".py").read_text(encoding="utf-8")
    found = next(
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == function
    )
    result: Dict[str, OptionKind] = {}
    for argument, default in zip(found.args.kwonlyargs, found.args.kw_defaults):
        annotation = (argument.annotation and ast.get_source_segment(source, argument.annotation)) or ""
        optional = annotation.startswith("Optional[")
        kind = annotation[len("Optional[") : -1] if optional else annotation
        value = None if default is None else ast.literal_eval(default)
        result[argument.arg] = OptionKind(argument.arg, kind, value, optional)
    return result

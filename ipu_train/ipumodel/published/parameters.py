"""The parameters of a layer benchmark's row: text in the words of the poplibs command-line tools, read and checked."""

import math
import re
from typing import Dict, List, Optional, Set, Tuple, overload

Pair = Tuple[int, int]


class Unsupported(ValueError):
    """The layer is of a kind this model has no estimate for; the message says which and why."""


# Bytes of an element, by the names that the tools and their users give the types.
_TYPE_BYTES = {
    **dict.fromkeys(("half", "float16", "fp16", "f16"), 2),
    **dict.fromkeys(
        ("float", "float32", "fp32", "f32", "int", "int32", "unsigned", "unsigned int", "uint32"), 4
    ),
    **dict.fromkeys(("short", "int16", "unsigned short", "uint16"), 2),
    **dict.fromkeys(("bool", "char", "int8", "unsigned char", "uint8"), 1),
}
_WHOLE_NUMBERS = ("int", "uns", "uint", "short", "bool", "char")
# Parameters of the tools that change neither the program's cycles nor its memory.
_HARMLESS = {
    *("ignore-data", "tolerance", "absolute-tolerance", "device-type", "profile", "profile-dir", "seed"),
    *("profile-json", "profile-format", "use-unstable-format", "report-var-storage", "compile-only"),
    *("verbose", "plan-only", "report-plan", "show-execution-steps", "show-var-storage", "test-case", "bias"),
    *("debug", "ipus", "preplan", "num-determinism-checks", "help"),
}
# Options that the tools take without a value; a truth value may follow all the same.
_FLAGS = {
    *("inference-only", "ignore-data", "profile", "plan-only", "compile-only", "use-unstable-format"),
    *("verbose", "debug", "help"),
}
_BRACKETED = r"\{(?:[^{}]|\{[^{}]*\})*\}|\[[^\]]*\]|\([^)]*\)|\"[^\"]*\"|'[^']*'"
_LIST = r"[^\s,;{\[(\"']+(?:\s*,\s*[^\s,;=]+(?=[\s,;]|$))*"
_PARAMETER = re.compile(
    rf"-{{0,2}}(?P<name>[A-Za-z][\w-]*)(?:=(?P<given>{_BRACKETED}|{_LIST})?|\s+(?!-{{0,2}}[A-Za-z][\w-]*=|--)"
    rf"(?P<next>{_BRACKETED}|{_LIST}))?"
)
_TRUTH = ("0", "1", "true", "false", "yes", "no", "on", "off")


def parse_parameters(text: Optional[str]) -> Dict[str, str]:
    """``name=value`` or ``--name value`` words as a dict; a name alone, as the tools' flags have it, is "true".

    ``{a,b}`` and quoted braces are one value. Names come in lower case with dashes.
    """
    text = text or ""
    found: Dict[str, str] = {}
    position = 0
    while True:
        match = _PARAMETER.search(text, position)
        if match is None:
            return found
        name, position = match.group("name").lower().replace("_", "-"), match.end()
        value = match.group("given")
        if value is None and match.group("next") is not None:
            value = match.group("next")
            if name in _FLAGS and value.lower() not in _TRUTH:  # the next word is a parameter of its own
                value, position = "true", match.end("name")
        if value is None:
            value = "" if match.group(0).endswith("=") else "true"
        found[name] = value.strip("\"'")


def _numbers(value: str) -> List[int]:
    """The whole numbers of ``4``, ``{4,4}``, ``4x4`` or ``[4, 4]``; ValueError for anything else in it."""
    words = [w for w in re.split(r"[\s,xX]+", value.strip().strip("{}[]()").strip()) if w]
    return [int(word) for word in words]


class Reader:
    """Takes named values out of the parameters and remembers which were never asked for."""

    def __init__(self, text: Optional[str]) -> None:
        self.values = parse_parameters(text)
        self.used: Set[str] = set()

    @overload
    def get(self, *names: str, default: str) -> str: ...

    @overload
    def get(self, *names: str, default: None = None) -> Optional[str]: ...

    def get(self, *names: str, default: Optional[str] = None) -> Optional[str]:
        for name in names:
            if name in self.values:
                self.used.add(name)
                return self.values[name]
        return default

    def numbers(self, *names: str) -> Optional[List[int]]:
        """The whole numbers of the parameter, None when it is not given."""
        value = self.get(*names)
        if value is None:
            return None
        try:
            found = _numbers(value)
        except ValueError:
            found = []
        if not found:
            raise Unsupported(f"parameter {self._named(names)}: {value!r} is not a whole number")
        return found

    def whole(self, *names: str, default: Optional[int] = None, least: Optional[int] = None) -> int:
        found = self.numbers(*names)
        if found is None:
            if default is None:
                raise Unsupported(f"parameter {names[0]} is missing")
            return default
        if len(found) > 1:
            raise Unsupported(f"parameter {self._named(names)}: is one number, not {found}")
        if least is not None and found[0] < least:
            raise Unsupported(f"parameter {self._named(names)}: must be at least {least}, not {found[0]}")
        return found[0]

    def pair(self, *names: str, default: Pair, dimensions: int = 2, least: Optional[int] = None) -> Pair:
        """(y, x) of a parameter over the field; one number stands for all its ``dimensions``.

        A layer over one dimension is one over two with a single row, so that y is then the value that changes
        nothing, ``default``'s.
        """
        found = self.numbers(*names)
        if found is None:
            return default
        if len(found) not in (1, dimensions):
            raise Unsupported(
                f"parameter {self._named(names)}: only one- and two-dimensional layers are modelled, not "
                f"{len(found)} values on a field of {dimensions}"
            )
        if least is not None and min(found) < least:
            raise Unsupported(f"parameter {self._named(names)}: must be at least {least}, not {min(found)}")
        if dimensions == 1:
            return (0 if least is None else 1, found[0])
        return (found[0], found[-1])

    def field(self) -> Tuple[int, Pair]:
        """(number of dimensions, (y, x)) of the input; one number alone is one dimension."""
        found = self.numbers("field")
        if found is None and ("height" in self.values or "width" in self.values):
            found = [self.whole("height", default=1), self.whole("width", default=1)]
        if found is None:
            raise Unsupported("parameter field is missing")
        if len(found) > 2:
            raise Unsupported(
                f"parameter field: only one- and two-dimensional layers are modelled, not {found}"
            )
        if min(found) < 1:
            raise Unsupported(f"parameter field: must be at least 1, not {min(found)}")
        return len(found), (1 if len(found) == 1 else found[0], found[-1])

    def bounds(self, name: str, dimensions: int) -> Tuple[Pair, Pair]:
        """(lower, upper) of padding or truncation, which the tools take together or each by itself."""
        both = self.pair(name, default=(0, 0), dimensions=dimensions)
        lower = self.pair(f"{name}-lower", default=both, dimensions=dimensions)
        upper = self.pair(f"{name}-upper", default=both, dimensions=dimensions)
        return lower, upper

    def share(self, *names: str, default: str) -> float:
        value = self.get(*names, default=default)
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not 0 <= found <= 1:
            raise Unsupported(f"parameter {self._named(names)}: {value!r} is not a number from 0 to 1")
        return found

    def element_bytes(self, *names: str, default: str = "half") -> int:
        value = self.get(*names, default=default)
        found = _TYPE_BYTES.get(value.strip().lower().replace("_", " "))
        if found is None:
            raise Unsupported(f"parameter {self._named(names)}: the type {value!r} is not modelled")
        return found

    def is_float(self, *names: str, default: str = "half") -> bool:
        """Whether the type of a convolution is float rather than half; whole numbers are not convolved."""
        size = self.element_bytes(*names, default=default)
        name = self.get(*names, default=default).strip().lower()
        if name.startswith(_WHOLE_NUMBERS):
            raise Unsupported(f"parameter {self._named(names)}: the type {name!r} is not modelled here")
        return size == 4

    def flag(self, *names: str) -> bool:
        return str(self.get(*names, default="false")).lower() in ("1", "true", "yes", "on")

    def _named(self, names: Tuple[str, ...]) -> str:
        return next((name for name in names if name in self.values), names[0])

    def ignored(self) -> List[str]:
        return sorted(set(self.values) - self.used - _HARMLESS)

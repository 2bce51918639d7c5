"""The error of this room: every problem of a configuration at once, ready for printing."""

import difflib
from typing import Iterable, List, NamedTuple, Optional


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        place: where it is written, ``resnet.yaml:12`` or ``override "optimizer.momentum=x"``.
        path: dotted key path, ``optimizer.momentum``; empty when no key is concerned.
        message: what is wrong, what is allowed, what to do.
        line: line number for sorting (overrides come last).
    """

    place: str
    path: str
    message: str
    line: float = 0.0

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.path, self.message) if part)


TAKE_BACK = "remove it or set it to null"  # how messages about a key that has no place here end

_SHOWN = 100  # nobody reads more


class ConfigError(ValueError):
    """A configuration that cannot be used. ``str(error)`` is one line a problem, in the file's order."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems: List[Problem] = sorted(problems, key=lambda problem: problem.line)
        shown = [str(problem) for problem in self.problems[:_SHOWN]]
        more = len(self.problems) - len(shown)
        super().__init__("\n".join([*shown, *([f"and {more:,} more"] if more else [])]))


def nearest(name: str, names: Iterable[str]) -> Optional[str]:
    """The one of ``names`` that ``name`` was most likely meant to be, or None."""
    names = list(names)
    by_key = {candidate.lower().replace("-", "_"): candidate for candidate in names}
    matches = difflib.get_close_matches(str(name).lower().replace("-", "_"), by_key, n=1, cutoff=0.6)
    return by_key[matches[0]] if matches else None


def suggestion(name: str, names: Iterable[str]) -> str:
    """``; did you mean "norm"?`` or nothing."""
    match = nearest(name, names)
    return f'; did you mean "{match}"?' if match else ""

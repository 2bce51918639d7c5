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
    """The one of ``names`` that ``name`` was most likely meant to be, or None: by its letters, then by its words.

    ``lr`` is short for ``learning_rate``, and ``decay`` for ``weight_decay``.
    """
    by_key = {_spelled(candidate): candidate for candidate in names}
    written = _spelled(name)
    matches = difflib.get_close_matches(written, by_key, n=1, cutoff=0.6) or [
        candidate for candidate in by_key if _is_short_for(written, candidate)
    ]
    return by_key[matches[0]] if matches else None


def _spelled(name: str) -> str:
    return str(name).lower().replace("-", "_")


def _is_short_for(written: str, candidate: str) -> bool:
    """Whether it is the first letters of a key's words, or its last words: ``lr`` or ``rate`` for ``learning_rate``."""
    words = candidate.split("_")
    initials = "".join(word[:1] for word in words)
    return len(words) > 1 and (written == initials or candidate.endswith("_" + written))


def suggestion(name: str, names: Iterable[str]) -> str:
    """``; did you mean "norm"?`` or nothing."""
    match = nearest(name, names)
    return f'; did you mean "{match}"?' if match else ""

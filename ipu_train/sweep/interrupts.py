"""Ctrl-C and SIGTERM during a sweep: an interruption that no callback can swallow."""

import signal
from types import FrameType
from typing import Any, Dict, Optional

from ..signals import EXIT_STATUS


class Interrupted(KeyboardInterrupt):
    """Raised where the signal arrives, and again by :meth:`Interrupts.check`."""


class Interrupts:
    """A context in which SIGINT and SIGTERM raise :class:`Interrupted`.

    Python drops exceptions that are raised inside finalisers, which tracing runs many of; the signal is therefore also
    noted, and :meth:`check` raises it after each step.
    """

    def __init__(self) -> None:
        self.signal: Optional[int] = None
        self._previous: Dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in EXIT_STATUS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        self.signal = number
        raise Interrupted

    def check(self) -> None:
        """Raise if a signal has arrived."""
        if self.signal is not None:
            raise Interrupted

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS.get(self.signal, 130)

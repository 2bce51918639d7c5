"""Stopping from outside: Ctrl-C and SIGTERM ask to finish the step at hand and save."""

import signal
import sys
from types import FrameType
from typing import Any, Dict, Optional

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopRequest:
    """A context in which SIGINT and SIGTERM are noted instead of raised; a second one interrupts at once.

    Args:
        said: what the first signal makes appear on standard error.

    Attributes:
        signal: what was received, None while nothing was.
    """

    def __init__(
        self, said: str = "Stopping after this step and saving a checkpoint; once more to stop at once."
    ) -> None:
        self._said = said
        self.signal: Optional[int] = None
        self._previous: Dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in EXIT_STATUS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        print(f"\n{self._said}", file=sys.stderr)

    @property
    def requested(self) -> bool:
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS.get(self.signal, 0)

"""Stopping from outside: Ctrl-C, SIGTERM and a closed terminal ask to finish the step at hand and save.

Exit status 128 + number of the signal, whatever the run was doing:

    before training     at once; nothing to save
    while training      after the step at hand, with a checkpoint; a validation is broken off, and made up for on resume
    after training      everything is saved already
    a second signal     at once; the newest checkpoint is the last one written
"""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any, Dict, Optional

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def _say(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the terminal has gone
        print(f"\n{message}", file=sys.stderr, flush=True)


class _Handlers:
    """A context in which :attr:`note` handles the signals; what is ignored (nohup) stays ignored."""

    def __init__(self) -> None:
        self._previous: Dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Any:
        for number in EXIT_STATUS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._previous = {}

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        if os.getpid() == self._process:  # not in a data worker that was forked a moment ago
            self.note(number)

    def note(self, number: int) -> None:
        raise NotImplementedError


class ExitAtOnce(_Handlers):
    """A context in which a signal ends the process: before training and after it there is nothing to save.

    Nothing is raised: the signal may come while C++ calls Python, which an exception must not pass.

    Attributes:
        said: what the signal makes appear on standard error.
    """

    def __init__(self, said: str = "Stopped before training: nothing to save.") -> None:
        super().__init__()
        self.said = said

    def note(self, number: int) -> None:
        _say(self.said)
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            sys.stdout.flush()
        os._exit(EXIT_STATUS[number])


class StopRequest(_Handlers):
    """A context in which signals are noted instead of raised; a second one does what signals did outside.

    Args:
        said: what the first signal makes appear on standard error.

    Attributes:
        signal: what was received, None while nothing was.
    """

    def __init__(
        self, said: str = "Stopping after this step and saving a checkpoint; once more to stop at once."
    ) -> None:
        super().__init__()
        self._said = said
        self.signal: Optional[int] = None

    def __exit__(self, *exc_info: Any) -> None:
        self._tell_outside("Stopped after training: everything is saved.")
        super().__exit__(*exc_info)

    def _tell_outside(self, said: str) -> None:
        for handler in self._previous.values():
            outside = getattr(handler, "__self__", None)
            if isinstance(outside, ExitAtOnce):
                outside.said = said

    def note(self, number: int) -> None:
        if self.signal is None:
            self.signal = number
            _say(self._said)
            return
        self._tell_outside("Stopped at once; the newest checkpoint is the last one written.")
        outside = self._previous[number]
        if callable(outside):
            outside(number, None)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @property
    def requested(self) -> bool:
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS.get(self.signal, 0)

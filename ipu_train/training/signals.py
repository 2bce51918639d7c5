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
import threading
import time
from types import FrameType
from typing import Any, Dict, List, Optional

from ..processes import ProcessLost
from ..processes.alone import ALONE, Processes

# Ctrl-C reaches every process of a terminal, and launchers pass it on to theirs: one wish, twice, within seconds.
_TWICE = 3.0
_ENDING = 1000  # in place of a signal, of a process that asks to stop by itself
_FAILING = -1  # in place of a signal, of a process that cannot load its images
EXIT_STATUS: Dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def _say(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the terminal has gone
        print(f"\n{message}", file=sys.stderr, flush=True)


class _Handlers:
    """A context in which :attr:`note` handles the signals; what is ignored (nohup) stays ignored.

    Python lets the main thread alone handle signals: a training in another thread leaves them to the program.
    """

    def __init__(self) -> None:
        self._previous: Dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Any:
        for number in EXIT_STATUS if threading.current_thread() is threading.main_thread() else ():
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
        if self.said:
            _say(self.said)
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            sys.stdout.flush()
        os._exit(EXIT_STATUS[number])


class StopRequest(_Handlers):
    """A context in which signals are noted instead of raised; a second one does what signals did outside.

    Several processes stop after the same step, whichever of them is signalled: they tell each other in every call, and
    what they have all heard counts.

    Args:
        said: what the first signal makes appear on standard error.
        processes: that train together.

    Attributes:
        signal: what this process has received, None while nothing was.
        fails: whether any process has said that it cannot go on (:meth:`fail`), as all of them have heard.
    """

    def __init__(
        self,
        said: str = "Stopping after this step and saving a checkpoint; once more to stop at once.",
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        self._said, self._processes = said, processes
        self.signal: Optional[int] = None
        self._received = 0.0  # when
        self._ends = False  # by itself
        self._heard: Optional[int] = None
        self._fails_here, self.fails = False, False

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        said = "Stopped after training: everything is saved."
        if kind is not None and not self._processes.alone:  # the launcher is about to end the processes left
            said = f"ipu-train: {error}" if isinstance(error, ProcessLost) else ""
        self._tell_outside(said)
        super().__exit__(kind, error, traceback)

    def _tell_outside(self, said: str) -> None:
        for handler in self._previous.values():
            outside = getattr(handler, "__self__", None)
            if isinstance(outside, ExitAtOnce):
                outside.said = said

    def note(self, number: int) -> None:
        if self.signal is None:
            self.signal, self._received = number, time.monotonic()
            if self._processes.alone:
                _say(self._said)
            return
        if not self._processes.alone and time.monotonic() - self._received < _TWICE:
            return
        self._tell_outside("Stopped at once; the newest checkpoint is the last one written.")
        outside = self._previous[number]
        if callable(outside):
            outside(number, None)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def end(self) -> None:
        """Ask all processes to stop as after a signal; why is for the caller to say once everything is saved.

        It is no signal: the first that arrives behind it still waits for what is being saved.
        """
        self._ends = True

    def fail(self) -> None:
        """This process cannot go on; the others hear of it when they are told the next time."""
        self._fails_here = True

    @property
    def word(self) -> int:
        """What the other processes are told: a signal, 0 for none, or that this process ends by itself or fails."""
        return _FAILING if self._fails_here else self._wish or 0

    def hear(self, words: List[int]) -> None:
        """The word of each of several processes."""
        self.fails = self.fails or _FAILING in words
        process, number = next(((i, n) for i, n in enumerate(words) if n > 0), (0, 0))
        if number and self._heard is None:
            self._heard = number
            if self._processes.is_first and number != _ENDING:
                name = signal.Signals(number).name
                _say(
                    f"Stopping after this step and saving a checkpoint: process {process} of 0 to "
                    f"{self._processes.count - 1} has received {name}."
                )

    def agree(self) -> bool:
        """Whether to stop, as all processes see it; all of them must come here."""
        if not self._processes.alone:
            self.hear(self._processes.words(self.word))
        return self.requested

    @property
    def _wish(self) -> Optional[int]:
        """Why this process wants to stop, None while it does not."""
        return _ENDING if self.signal is None and self._ends else self.signal

    @property
    def _counts(self) -> Optional[int]:
        return self._wish if self._processes.alone else self._heard

    @property
    def requested(self) -> bool:
        return self._counts is not None

    @property
    def exit_status(self) -> int:
        return 0 if self._counts is None else EXIT_STATUS.get(self._counts, 0)

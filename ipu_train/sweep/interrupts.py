"""Ctrl-C and SIGTERM during a sweep: what is being computed is finished, and then the sweep ends."""

import multiprocessing
import os
import signal

from ..training.signals import StopRequest


class Interrupted(KeyboardInterrupt):
    """Raised by :meth:`Interrupts.check` once a signal has arrived."""


class Interrupts(StopRequest):
    """A context in which SIGINT and SIGTERM are noted for :meth:`check`; a second one ends the process at once.

    Neither raises where it arrives: that may be in the middle of tracing, where torch calls Python from C++ code that
    aborts the process when an exception reaches it, and where Python drops what finalisers raise.
    """

    def __init__(self) -> None:
        super().__init__("Stopping after what is being computed; once more to stop at once.")

    def note(self, number: int) -> None:
        if self.requested:
            for process in multiprocessing.active_children():
                process.terminate()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        super().note(number)

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal has arrived."""
        if self.requested:
            raise Interrupted

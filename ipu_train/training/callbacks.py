"""Callbacks: what a program of the user's own does while a run goes on."""

from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional

Record = Dict[str, Any]


class Callback:
    """Told what happens in a run; derive from it and write the methods that are needed.

    In a training of several processes the first one's callbacks are called. What a callback raises ends the run, after
    the step at hand is saved where that is possible.
    """

    def started(self, folder: Path) -> None:
        """Before the first step; ``folder`` is the run's."""

    def training(self, record: Record) -> None:
        """Each training line of ``metrics.jsonl``: split, epoch, step, loss, accuracy, learning_rate, ..."""

    def validation(self, record: Record) -> Optional[bool]:
        """Each validation line; True ends the run here, as if it had no more epochs."""

    def finished(self, folder: Path, status: int) -> None:
        """After the last checkpoint; the exit status is 0 unless a signal has stopped the run."""


class Callbacks:
    """Several callbacks as one."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self.all: List[Callback] = list(callbacks)
        for one in self.all:
            if not isinstance(one, Callback):
                raise CallbackError(
                    f"callbacks: {one!r} is no ipu_train.Callback; derive its class from that and write the methods "
                    "that are needed"
                )

    def started(self, folder: Path) -> None:
        for one in self.all:
            one.started(folder)

    def training(self, record: Record) -> None:
        for one in self.all:
            one.training(dict(record))

    def validation(self, record: Record) -> bool:
        """Whether one of them ends the run."""
        said = [one.validation(dict(record)) for one in self.all]  # all of them are told
        return True in said

    def finished(self, folder: Path, status: int) -> None:
        for one in self.all:
            one.finished(folder, status)


class CallbackError(ValueError):
    """Something that is no callback; the message says what to do."""

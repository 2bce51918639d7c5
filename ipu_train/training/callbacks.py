"""Callbacks: what a program of the user's own does while a run goes on."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional

Record = Dict[str, Any]


class Callback:
    """Told what happens in a run; derive from it and write the methods that are needed.

    In a training of several processes the first one's callbacks are called. What ``training`` or ``validation`` raises
    ends the run once the step at hand is saved, as a signal does, and is raised then.
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
    """Several callbacks as one; a context whose errors show what a callback had raised before them.

    Attributes:
        at_failure: called when one has raised something during the steps; no other is called after that.
        failure: what it has raised, for who raises it when the run is saved.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
            raise CallbackError(f"callbacks: takes a list of them, not {callbacks!r} alone")
        self.all: List[Callback] = list(callbacks)
        self.at_failure: Callable[[], None] = lambda: None
        self.failure: Optional[BaseException] = None
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
        self._tell(lambda one: one.training(dict(record)))

    def validation(self, record: Record) -> bool:
        """Whether one of them ends the run."""
        return True in self._tell(lambda one: one.validation(dict(record)))  # all of them are told

    def _tell(self, call: Callable[[Callback], Any]) -> List[Any]:
        said: List[Any] = []
        for one in self.all:
            if self.failure is None:
                try:
                    said.append(call(one))
                except BaseException as error:  # sys.exit, too
                    self.failure = error
                    self.at_failure()
        return said

    def raise_failure(self) -> None:
        """What a callback has raised, if one has."""
        if self.failure is not None:
            raise self.failure

    def __enter__(self) -> "Callbacks":
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], traceback: Any) -> None:
        if self.failure is not None and error is not None:
            _put_behind(error, self.failure)

    def finished(self, folder: Path, status: int) -> None:
        for one in self.all:
            one.finished(folder, status)


def _put_behind(error: BaseException, before: BaseException) -> None:
    """Make ``before`` what Python shows first of all when it shows ``error``."""
    while error is not before:
        reason = error.__cause__
        if reason is None and not error.__suppress_context__:
            reason = error.__context__
        if reason is None:
            error.__context__, error.__suppress_context__ = before, False
            return
        error = reason


class CallbackError(ValueError):
    """Something that is no callback; the message says what to do."""

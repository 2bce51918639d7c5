"""Batches for several processes that all go on or all end: when one has no images, the others must not wait for it."""

from typing import Any, Iterable, Iterator, Optional

from ..data import DataError
from ..processes.alone import Processes
from .signals import StopRequest


class FailElsewhere(Exception):
    """Another process cannot load its images; this one goes no further either."""


class InStep:
    """The batches of one process, whose loading the other processes hear of.

    A device that waits for the gradients of a process without images would wait for ever. So each process tells the
    others whether it has its next batch before any of them calls the device: with what they exchange after the call
    before (:meth:`fetch_ahead`), else by itself.

    Args:
        batches: of this process, as many as of every other.
        stop: carries the word.
        processes: that go in step.

    Raises:
        DataError, FailElsewhere: while iterating, in all processes at the same batch.
    """

    def __init__(self, batches: Iterable[Any], stop: StopRequest, processes: Processes) -> None:
        self._batches, self._stop, self._alone = batches, stop, processes.alone
        self._iterator: Iterator[Any] = iter(())
        self._fetched, self._over = False, False
        self._ahead: Any = None
        self._error: Optional[DataError] = None

    def __iter__(self) -> "InStep":
        self._iterator, self._fetched = iter(self._batches), False
        return self

    def fetch_ahead(self) -> None:
        """Have the next batch, or the reason why there is none, before the processes exchange results."""
        if not self._alone:
            self._fetch()

    def _fetch(self) -> None:
        self._ahead, self._fetched = None, True
        try:
            self._ahead = next(self._iterator)
        except StopIteration:
            self._over = True
        except DataError as error:
            # without the frames that it has passed: loaders must go, with their workers, when nobody uses them
            self._error = error.with_traceback(None)
            self._stop.fail()

    def __next__(self) -> Any:
        if self._alone:
            return next(self._iterator)
        if not self._fetched:
            self._fetch()
            self._stop.agree()
        self._fetched = False
        if self._error is not None:
            raise self._error
        if self._over:
            raise StopIteration
        if self._stop.fails:
            raise FailElsewhere
        return self._ahead

"""Says where a run stands when nothing has moved for a while."""

import threading
import time
from typing import Any, Iterable, Iterator, Optional, Tuple, TypeVar

from ..tracking import tell

Item = TypeVar("Item")


class Watchdog:
    """A context in which a thread names the stage that the run has been in for too long: at that time, and each time
    that the wait has doubled.

    Args:
        patience: seconds without movement; None: says nothing.
        say: what takes the message.
    """

    def __init__(self, patience: Optional[float], say: Any = tell) -> None:
        self.patience, self._say = patience, say
        self._stage: Tuple[str, float] = ("starting", time.monotonic())
        self._end = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def at(self, stage: str) -> None:
        """The run has moved on to ``stage``."""
        self._stage = (stage, time.monotonic())

    def waiting_for(self, what: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items; waiting for the next one is a stage."""
        iterator = iter(items)
        while True:
            self.at(f"waiting for {what}")
            try:
                item = next(iterator)
            except StopIteration:
                return
            yield item

    def _watch(self, patience: float) -> None:
        seen, limit = self._stage, patience
        while not self._end.wait(max(0.01, seen[1] + limit - time.monotonic())):
            stage = self._stage
            if stage is not seen:
                seen, limit = stage, patience
                continue
            waited = time.monotonic() - seen[1]
            if waited >= limit:
                self._say(f"Nothing has moved for {waited:.0f} seconds: {seen[0]}")
                limit *= 2

    def __enter__(self) -> "Watchdog":
        if self.patience is not None:
            self._thread = threading.Thread(
                target=self._watch, args=(self.patience,), name="watchdog", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()

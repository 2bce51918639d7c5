"""Work on all cores: processes that come and go with a ``with`` block and end at once when it is left early."""

import multiprocessing
import os
import signal
import sys
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Tuple

_PATIENCE_IN_S = 0.2  # how long a signal may go unnoticed while nothing finishes
_state: Any = None  # of a worker process: what ``start`` made


class WorkerLost(ValueError):
    """A process was ended from outside; the message says what to do."""


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _begin(start: Callable[..., Any], arguments: Tuple[Any, ...]) -> None:
    global _state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if "torch" in sys.modules:  # else nothing computes
        sys.modules["torch"].set_num_threads(1)
    _state = start(*arguments)


def _call(task: Callable[..., Any], arguments: Tuple[Any, ...]) -> Any:
    return task(_state, *arguments)


class Workers:
    """Runs ``task(state, *arguments)`` on several processes; ``state`` is made once in each by ``start``.

    With one worker everything runs in this process.

    Args:
        count: processes.
        start, arguments: what makes the state; picklable, as tasks and their arguments and results must be.
        check: called between tasks and while waiting for them; what it raises ends the work.
    """

    def __init__(
        self,
        count: int,
        start: Callable[..., Any],
        arguments: Tuple[Any, ...],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.count = count
        self._start, self._arguments, self._check = start, arguments, check
        self._pool: Optional[ProcessPoolExecutor] = None
        self._state: Any = None

    def __enter__(self) -> "Workers":
        if self.count <= 1:
            self._state = self._start(*self._arguments)
            return self
        # a fork starts at once with all that is imported and traced; nothing has computed here that it could disturb
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        self._before = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(
            self.count, multiprocessing.get_context(method), _begin, (self._start, self._arguments)
        )
        return self

    def run(
        self, task: Callable[..., Any], jobs: Iterable[Tuple[Any, Tuple[Any, ...]]]
    ) -> Iterator[Tuple[Any, Any]]:
        """(name, result) of each job (name, arguments), in the order in which they finish.

        Other processes begin at once, so that further jobs may be handed in before these are asked for.

        Raises:
            WorkerLost: a process was killed from outside, most often for want of memory.
        """
        if self._pool is None:
            return self._here(task, jobs)
        futures = {self._pool.submit(_call, task, arguments): name for name, arguments in jobs}
        return self._finished(futures)

    def _here(
        self, task: Callable[..., Any], jobs: Iterable[Tuple[Any, Tuple[Any, ...]]]
    ) -> Iterator[Tuple[Any, Any]]:
        for name, arguments in jobs:
            self._check()
            yield name, task(self._state, *arguments)

    def _finished(self, futures: Dict[Any, Any]) -> Iterator[Tuple[Any, Any]]:
        try:
            while futures:
                self._check()
                done, _ = wait(futures, _PATIENCE_IN_S, FIRST_COMPLETED)
                for future in done:
                    yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise WorkerLost(
                "A process was ended from outside, most often because memory ran out. Try again with fewer --jobs."
            ) from None

    def __exit__(self, kind: Any, *exc_info: Any) -> None:
        if self._pool is None:
            return
        if kind is not None:  # interrupted or failed: do not wait for what is being computed
            for process in set(multiprocessing.active_children()) - self._before:
                process.terminate()
        self._pool.shutdown(wait=True)

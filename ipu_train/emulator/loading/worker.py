"""Starts the process behind an ``AsynchronousDataAccessor`` and talks to it: the consumer's side."""

import contextlib
import multiprocessing
import os
import random
import signal
import sys
from multiprocessing.reduction import ForkingPickler
from typing import Any, Dict, Iterator, Optional, Tuple

import torch
import torch.multiprocessing

from .. import _args_parser
from .._impl import createPoptorchError
from .._logging import logger
from ..enums import SharingStrategy
from .buffers import FAILED, RingBuffers
from .partition import reduceGenerator
from .producer import ALIVE_CHECK_IN_S, Signals, Task, run

_START_METHODS = {
    SharingStrategy.SharedMemory: "spawn",
    SharingStrategy.FileSystem: "spawn",
    SharingStrategy.Fork: "fork",
    SharingStrategy.ForkServer: "forkserver",
}
# how long a worker may take to finish what it is doing before it is killed
PATIENCE_IN_S = 1.0


ForkingPickler.register(torch.Generator, reduceGenerator)  # samplers hold generators


class AsyncWorker:
    """A worker process.

    Raises:
        Error: the first item could not be loaded.
    """

    def __init__(
        self,
        dataset: Any,
        buffer_size: int,
        load_indefinitely: bool,
        early_preload: bool,
        sharing_strategy: SharingStrategy,
        rebatched_size: Optional[int],
    ) -> None:
        self.drop_last = getattr(dataset, "_rebatched_drop_last", True)
        self._owner = os.getpid()
        self._load_indefinitely = load_indefinitely
        context = torch.multiprocessing.get_context(_START_METHODS[SharingStrategy(sharing_strategy)])
        if sharing_strategy == SharingStrategy.ForkServer:
            _preloadForkServer(context)
        self._signals = Signals(
            free=context.Semaphore(buffer_size),
            filled=context.Semaphore(0),
            epochs=context.Semaphore(0),
            control=torch.zeros(2, dtype=torch.int64).share_memory_(),
        )
        self._connection, child = context.Pipe()
        task = Task(
            dataset=dataset,
            buffer_size=buffer_size,
            load_indefinitely=load_indefinitely,
            early_preload=early_preload,
            file_system=sharing_strategy == SharingStrategy.FileSystem,
            rebatched_size=rebatched_size,
            drop_last=self.drop_last,
            random_state=_randomState(),
            parsers=_args_parser.registered_parsers(),
            start_method=_defaultStartMethod(),
        )
        # Not a daemon: the data set may want processes of its own.
        self._process = context.Process(target=run, args=(task, self._signals, child), daemon=False)
        with _blockedInterrupts():
            self._process.start()
        child.close()
        logger.debug("AsynchronousDataAccessor worker process: %d", self._process.pid)
        self._data_buffers, self.rows_per_item = self._receiveBuffers()

    def _receiveBuffers(self) -> Tuple[RingBuffers, int]:
        answer: Any = None
        with contextlib.suppress(EOFError, ConnectionResetError):
            while not self._connection.poll(ALIVE_CHECK_IN_S):
                if not self._process.is_alive() and not self._connection.poll(0):
                    break
            else:
                try:
                    answer = self._connection.recv()
                except (EOFError, ConnectionResetError):
                    raise
                except (
                    Exception
                ):  # an item that cannot be put together here; the worker would be waited for at exit
                    self.stop()
                    raise
        if answer is None:
            self.stop()
            raise createPoptorchError(
                "The data loading worker thread failed to start: the reason was printed above, to the standard "
                "error of the worker process"
            )
        return answer

    @property
    def buffers(self) -> RingBuffers:
        """The ring of buffers."""
        return self._data_buffers

    def start(self) -> None:
        """Let the first epoch begin."""
        self._signals.epochs.release()

    def requestEpoch(self) -> None:
        """Let the next epoch begin, for a worker that does not load indefinitely."""
        self._signals.epochs.release()

    def abandonEpoch(self) -> None:
        """Begin a new epoch; what is left of this one is dropped."""
        self._signals.control[0] += 1
        if not self._load_indefinitely:
            self._signals.epochs.release()

    def waitForItem(self) -> Tuple[int, Optional[int]]:
        """Wait until the slot at the read position holds something of this generation.

        Returns:
            Its kind, and how many rows of it are valid (None: all).
        """
        current = int(self._signals.control[0])
        while True:
            while not self._signals.filled.acquire(timeout=ALIVE_CHECK_IN_S):
                if not self._process.is_alive():
                    raise createPoptorchError(
                        f"The data loading worker process died with exit code {self._process.exitcode}"
                    )
            generation, kind, rows = self._data_buffers.head()
            if generation == current or kind == FAILED:
                return kind, rows
            self.freeItem()

    def freeItem(self) -> None:
        """Let the worker overwrite the slot at the read position."""
        self._data_buffers.free()
        self._signals.free.release()

    def failure(self) -> str:
        """What went wrong in the worker."""
        return self._connection.recv() if self._connection.poll(ALIVE_CHECK_IN_S) else "unknown"

    def stop(self) -> None:
        """End the process, by asking first and then by force."""
        if os.getpid() != self._owner:
            return  # a copy of this object in a forked process
        self._signals.control[1] = 1
        self._signals.free.release()
        self._signals.epochs.release()
        self._process.join(PATIENCE_IN_S)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(PATIENCE_IN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()


def _preloadForkServer(context: Any) -> None:
    """Have the fork server import torch once, so that workers start quickly."""
    from multiprocessing import forkserver

    if getattr(forkserver._forkserver, "_forkserver_pid", None) is None:
        context.set_forkserver_preload(["__main__", "torch", run.__module__])


@contextlib.contextmanager
def _blockedInterrupts() -> Iterator[None]:
    """Hold back Ctrl-C, here and in processes started meanwhile, until they can deal with it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _randomState() -> Dict[str, Any]:
    """State of the generators a data set may use, so that it sees the same numbers as in this process."""
    state: Dict[str, Any] = {"torch": torch.get_rng_state(), "random": random.getstate()}
    if "numpy" in sys.modules:
        state["numpy"] = sys.modules["numpy"].random.get_state()
    return state


def _defaultStartMethod() -> str:
    """How this process starts others unless told otherwise; asking must not settle it."""
    method = multiprocessing.get_start_method(allow_none=True)
    return multiprocessing.get_all_start_methods()[0] if method is None else method

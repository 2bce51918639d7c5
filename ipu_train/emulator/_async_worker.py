"""The process behind an ``AsynchronousDataAccessor``, and the handle its parent holds."""

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import traceback
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
import torch.multiprocessing

from . import _args_parser
from ._async_buffers import DATA, END, FAILED, RingBuffers, takeApart
from ._impl import createPoptorchError
from ._logging import logger
from .enums import SharingStrategy

_START_METHODS = {
    SharingStrategy.SharedMemory: "spawn",
    SharingStrategy.FileSystem: "spawn",
    SharingStrategy.Fork: "fork",
    SharingStrategy.ForkServer: "forkserver",
}
# how often a waiting side looks whether the other is still alive
ALIVE_CHECK_IN_S = 1.0
# how long a worker may take to finish what it is doing before it is killed
PATIENCE_IN_S = 1.0


class Signals(NamedTuple):
    """What the two processes tell each other, beside the buffers.

    Attributes:
        free: counts slots the worker may fill.
        filled: counts slots the consumer may read.
        epochs: counts epochs the worker may start.
        control: shared ``[generation, exit]``. A new generation makes everything of older ones void.
    """

    free: Any
    filled: Any
    epochs: Any
    control: torch.Tensor


class AsyncWorker:
    """Starts the worker process and talks to it; the consumer's side.

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
        task = _Task(
            dataset=dataset,
            buffer_size=buffer_size,
            load_indefinitely=load_indefinitely,
            early_preload=early_preload,
            file_system=sharing_strategy == SharingStrategy.FileSystem,
            rebatched_size=rebatched_size,
            drop_last=self.drop_last,
            random_state=_randomState(),
            parsers=dict(_args_parser._parsers),
            start_method=_defaultStartMethod(),
        )
        # Not a daemon: the data set may want processes of its own.
        self._process = context.Process(target=_run, args=(task, self._signals, child), daemon=False)
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
                answer = self._connection.recv()
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
        context.set_forkserver_preload(["__main__", "torch", __name__])


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


def _setRandomState(state: Dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    random.setstate(state["random"])
    if "numpy" in state:
        import numpy

        numpy.random.set_state(state["numpy"])


# ---- the worker process


class _Task(NamedTuple):
    dataset: Any
    buffer_size: int
    load_indefinitely: bool
    early_preload: bool
    file_system: bool
    rebatched_size: Optional[int]
    drop_last: bool
    random_state: Dict[str, Any]
    parsers: Dict[type, Any]
    start_method: str


def _items(dataset: Any) -> Iterator[Any]:
    """One epoch of a data set; a map data set ends at its length even if it has an item for every index."""
    if hasattr(dataset, "__iter__") or not hasattr(dataset, "__len__"):
        return iter(dataset)
    return (dataset[index] for index in range(len(dataset)))


class _Exit(Exception):
    """The consumer wants no more."""


def _run(task: _Task, signals: Signals, connection: Any) -> None:
    """What the worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the consumer deals with Ctrl-C and stops this process
    signal.signal(signal.SIGTERM, _exitHandler(os.getpid()))
    if task.file_system:
        torch.multiprocessing.set_sharing_strategy("file_system")
    # otherwise the data set's own workers would start the slow way this process was started
    multiprocessing.set_start_method(task.start_method, force=True)
    torch.set_num_threads(1)
    _args_parser._parsers.update(task.parsers)
    _setRandomState(task.random_state)
    with contextlib.suppress(_Exit, BrokenPipeError):
        _Producer(task, signals, connection).loop()
    connection.close()


def _exitHandler(worker: int) -> Any:
    """Leave through the finally clauses in the worker itself, at once in processes its data set started."""

    def handle(number: int, frame: Any) -> None:
        if os.getpid() == worker:
            sys.exit(0)
        os._exit(128 + number)

    return handle


class _Producer:
    """Iterates over the data set and fills the buffers; the worker's side."""

    def __init__(self, task: _Task, signals: Signals, connection: Any) -> None:
        self._task = task
        self._signals = signals
        self._connection = connection
        self._buffers: Optional[RingBuffers] = None
        self._generation = 0
        self._started = False  # the consumer began to iterate
        self._posted = False  # there was something to read already
        self._rows_filled = 0  # of the slot under construction, when re-batching

    # -- the loop over epochs

    def loop(self) -> None:
        """Load epochs until the consumer wants no more."""
        while True:
            try:
                self._epoch()
            except _Exit:
                raise
            except Exception:
                self._report(traceback.format_exc())
                return
            if self._buffers is None:
                self._report("The data set is empty, there is no first item to load\n")
                return
            if not self._task.load_indefinitely:
                self._waitForStart()
                self._wait(self._signals.epochs)

    def _epoch(self) -> None:
        self._generation = int(self._signals.control[0])
        self._rows_filled = 0
        for item in _items(self._task.dataset):
            template, tensors = takeApart(item)
            if self._buffers is None:
                self._handOverBuffers(template, tensors)
            if self._task.rebatched_size is None:
                self._put(tensors)
            else:
                self._putRows(tensors)
            if self._abandoned():
                return
        if self._buffers is None:
            return
        if self._rows_filled:
            if self._task.drop_last:
                self._signals.free.release()  # the slot under construction was not needed
            else:
                self._post(DATA, self._rows_filled)
            self._rows_filled = 0
        self._claimSlot()
        self._post(END)

    def _abandoned(self) -> bool:
        if int(self._signals.control[0]) == self._generation:
            return False
        if self._rows_filled:
            self._signals.free.release()
            self._rows_filled = 0
        return True

    def _report(self, text: str) -> None:
        """Tell the consumer what went wrong: by closing the connection before the first item, else in turn."""
        sys.stderr.write(text)
        sys.stderr.flush()
        if self._buffers is not None:
            self._connection.send(text)
            if not self._rows_filled:
                self._claimSlot()
            self._post(FAILED)
            self._waitForStart()  # the consumer must have received the buffers before this process ends

    # -- filling slots

    def _handOverBuffers(self, template: Any, tensors: List[torch.Tensor]) -> None:
        size = self._task.rebatched_size
        rows = 1
        like = tensors
        if size is not None:
            assert all(tensor.dim() > 0 for tensor in tensors), (
                "Items can be assembled into batches only along a first dimension: there is a 0-dim tensor"
            )
            rows = len(tensors[0])
            like = [tensor.new_empty((size, *tensor.shape[1:])) for tensor in tensors]
        self._buffers = RingBuffers(like, template, self._task.buffer_size)
        self._connection.send((self._buffers, rows))

    def _put(self, tensors: List[torch.Tensor]) -> None:
        """Copy one item into one slot."""
        self._claimSlot()
        for slot, tensor in zip(self._sameNumber(tensors), tensors):
            assert slot.shape == tensor.shape, (
                f"All items must have the same shapes: expected {tuple(slot.shape)}, got {tuple(tensor.shape)}"
            )
            slot.copy_(tensor)
        self._post(DATA)

    def _putRows(self, tensors: List[torch.Tensor]) -> None:
        """Copy the rows of one item into as many slots as they fill."""
        size = self._task.rebatched_size
        rows = len(tensors[0])
        taken = 0
        while taken < rows:
            if not self._rows_filled:
                self._claimSlot()
            count = min(rows - taken, size - self._rows_filled)
            for slot, tensor in zip(self._sameNumber(tensors), tensors):
                assert len(tensor) == rows, "All tensors of an item must have the same first dimension"
                slot[self._rows_filled : self._rows_filled + count].copy_(tensor[taken : taken + count])
            self._rows_filled += count
            taken += count
            if self._rows_filled == size:
                self._rows_filled = 0
                self._post(DATA)

    def _sameNumber(self, tensors: List[torch.Tensor]) -> List[torch.Tensor]:
        slot = self._buffers.tensors()
        assert len(slot) == len(tensors), (
            f"All items must have the same number of tensors: expected {len(slot)}, got {len(tensors)}"
        )
        return slot

    def _claimSlot(self) -> None:
        """Wait for a slot to fill; without preloading, the second one only when the consumer iterates."""
        if self._posted and not self._task.early_preload:
            self._waitForStart()
        self._wait(self._signals.free)

    def _waitForStart(self) -> None:
        if not self._started:
            self._started = True
            self._wait(self._signals.epochs)

    def _post(self, kind: int, rows: Optional[int] = None) -> None:
        self._buffers.post(self._generation, kind, rows)
        self._posted = True
        self._signals.filled.release()

    def _wait(self, semaphore: Any) -> None:
        while not semaphore.acquire(timeout=ALIVE_CHECK_IN_S):
            self._checkConsumer()
        self._checkConsumer(alive=True)

    def _checkConsumer(self, alive: bool = False) -> None:
        parent = multiprocessing.parent_process()
        if int(self._signals.control[1]) or not (alive or parent is None or parent.is_alive()):
            raise _Exit

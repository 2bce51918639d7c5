"""The process behind an ``AsynchronousDataAccessor``: iterates over a data set and fills the buffers."""

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import traceback
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import torch
import torch.multiprocessing

from .. import _args_parser
from .buffers import DATA, END, FAILED, RingBuffers, takeApart

# how often a waiting side looks whether the other is still alive
ALIVE_CHECK_IN_S = 1.0


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


class Task(NamedTuple):
    """What to load and how; arguments of the accessor, and what the new process shares with the old.

    Attributes:
        file_system: hand memory over by name rather than by file descriptor.
        random_state: of the consumer's random generators.
        parsers: registered for custom types.
        start_method: how the consumer starts processes by default.
    """

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


def _setRandomState(state: Dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    random.setstate(state["random"])
    if "numpy" in state:
        import numpy

        numpy.random.set_state(state["numpy"])


def run(task: Task, signals: Signals, connection: Any) -> None:
    """What the worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the consumer deals with Ctrl-C and stops this process
    signal.signal(signal.SIGTERM, _exitHandler(os.getpid()))
    if task.file_system:
        torch.multiprocessing.set_sharing_strategy("file_system")
    # otherwise the data set's own workers would start the slow way this process was started
    multiprocessing.set_start_method(task.start_method, force=True)
    torch.set_num_threads(1)
    for kind, parser in task.parsers.items():
        _args_parser.registerCustomArgParser(kind, parser)
    _setRandomState(task.random_state)
    with contextlib.suppress(_Exit, BrokenPipeError):
        Producer(task, signals, connection).loop()
    connection.close()


def _exitHandler(worker: int) -> Any:
    """Leave through the finally clauses in the worker itself, at once in processes its data set started."""

    def handle(number: int, frame: Any) -> None:
        if os.getpid() == worker:
            sys.exit(0)
        os._exit(128 + number)

    return handle


class Producer:
    """Iterates over the data set and fills the buffers; the worker's side."""

    def __init__(self, task: Task, signals: Signals, connection: Any) -> None:
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
                self._report(
                    "There is no first item to load: the data set is empty, or smaller than one item of the loader "
                    "(batch size x device iterations x replicas x gradient accumulation)\n"
                )
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
        assert size is not None
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
        slot = self._ring().tensors()
        assert len(slot) == len(tensors), (
            f"All items must have the same number of tensors: expected {len(slot)}, got {len(tensors)}"
        )
        return slot

    def _ring(self) -> RingBuffers:
        assert self._buffers is not None, "buffers are made with the first item"
        return self._buffers

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
        self._ring().post(self._generation, kind, rows)
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

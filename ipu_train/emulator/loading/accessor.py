"""``poptorch.AsynchronousDataAccessor``: iterates over a data set in another process, ahead of the model."""

import weakref
from typing import Any, Iterator, Optional

from .._impl import createPoptorchError
from ..enums import SharingStrategy
from .buffers import END, FAILED, rebuildItem
from .worker import AsyncWorker


class AsynchronousDataAccessor:
    """Loads items of a data set in another process and hands them over through shared memory.

    A ``for`` loop sees one epoch. The tensors it gets live in a ring of buffers that is overwritten later:
    keep a clone of what is needed longer than one step of the loop. Tuples come as lists; single tensors,
    dicts and registered custom types keep their form.

    Args:
        dataset: anything iterable that yields tensors, flat tuples, lists or dicts of tensors, or objects of
            registered custom types, always with the same shapes.
        buffer_size: items the worker may be ahead.
        miss_sleep_time_in_ms: PopTorch's polling interval. Here waiting is left to the operating system,
            which wakes either side as soon as there is something to do, so it has no effect.
        load_indefinitely: load the next epoch without being asked.
        early_preload: fill the buffers before the first iterator is made.
        sharing_strategy: how to start the worker and share memory with it.
        rebatched_size: assemble items into batches of this many rows.

    Raises:
        Error: the data set is empty, its first item cannot be loaded, or it is a ``DataLoader`` that is
            asynchronous itself.
    """

    def __init__(
        self,
        dataset: Any,
        buffer_size: int = 3,
        miss_sleep_time_in_ms: float = 0.1,
        load_indefinitely: bool = True,
        early_preload: bool = False,
        sharing_strategy: SharingStrategy = SharingStrategy.ForkServer,
        rebatched_size: Optional[int] = None,
    ) -> None:
        if getattr(dataset, "_accessor", None) is not None:
            raise createPoptorchError(
                "This DataLoader is asynchronous already: it has an AsynchronousDataAccessor of its own"
            )
        assert rebatched_size is None or rebatched_size > 1, (
            f"rebatched_size must be greater than 1, not {rebatched_size}"
        )
        combined = getattr(dataset, "combinedBatchSize", None)
        if rebatched_size is None and combined is not None and combined > 1:
            assert getattr(dataset, "drop_last", True) or getattr(dataset, "_micro_batch_sampler", None), (
                "A DataLoader with drop_last=False may yield a shorter last batch, for which there is no "
                "buffer: set drop_last=True or use rebatched_size"
            )
        self._dataset = dataset
        self._rebatched_size = rebatched_size
        self._load_indefinitely = load_indefinitely
        self._epoch_started = False  # an epoch was asked for
        self._within_epoch = False  # and its end was not seen yet
        self._untouched = False  # nor anything of it taken
        self._held = False  # the user works with the buffer under the read position
        self._worker = AsyncWorker(
            dataset, buffer_size, load_indefinitely, early_preload, sharing_strategy, rebatched_size
        )
        self._finalizer = weakref.finalize(self, self._worker.stop)

    def hold_weakly(self) -> None:
        """Leave it to others to keep the data set alive: for one that owns this accessor."""
        self._dataset = weakref.proxy(self._dataset)

    def terminate(self) -> None:
        """Stop the worker process; also happens when the accessor is deleted and when Python exits."""
        self._finalizer()

    def __len__(self) -> int:
        length = len(self._dataset)
        if self._rebatched_size is None or hasattr(self._dataset, "_rebatched_size"):
            return length  # a DataLoader knows its batches
        rows = length * self._worker.rows_per_item
        if self._worker.drop_last:
            return rows // self._rebatched_size
        return -(-rows // self._rebatched_size)

    def __iter__(self) -> Iterator[Any]:
        if not self._finalizer.alive:
            raise createPoptorchError("This AsynchronousDataAccessor was terminated and cannot load any more")
        self._release()
        if self._within_epoch:
            if not self._untouched:  # iter() of an iterator that was just made must not change anything
                self._worker.abandonEpoch()
        elif self._epoch_started and not self._load_indefinitely:
            self._worker.requestEpoch()
        elif not self._epoch_started:
            self._worker.start()
        self._epoch_started = True
        self._within_epoch = self._untouched = True
        return self

    def __next__(self) -> Any:
        if not self._within_epoch:
            raise StopIteration
        self._release()
        self._untouched = False
        kind, rows = self._worker.waitForItem()
        if kind == END:
            self._worker.freeItem()
            self._within_epoch = False
            raise StopIteration
        if kind == FAILED:
            self._worker.freeItem()
            self._within_epoch = False
            text = self._worker.failure()
            self.terminate()
            raise createPoptorchError(f"The data set raised an exception in the worker process:\n{text}")
        self._held = True
        tensors = self._worker.buffers.tensors(rows)
        return rebuildItem(self._worker.buffers.template, tensors)

    def _release(self) -> None:
        """Give the buffer the user was working with back to the worker."""
        if self._held:
            self._worker.freeItem()
            self._held = False

"""``poptorch.DataLoader``: torch's loader, with batches large enough for a whole call of a model."""

from typing import Any, Dict, Iterator, Optional

import torch

from ._impl import createPoptorchError
from ._logging import logger
from .enums import DataLoaderMode
from .loading.accessor import AsynchronousDataAccessor
from .loading.partition import GroupedBatchSampler, GroupedCollate, GroupedDataset, ProcessShare
from .options import Options


def microBatches(options: Options) -> int:
    """Micro-batches one call of a model takes from the host: device iterations, input groups, accumulation."""
    groups = options.replication_factor // options.input_group_size
    return options.device_iterations * groups * options.Training.gradient_accumulation


class DataLoader(torch.utils.data.DataLoader):
    """Loads combined batches: what one call of a model with these options takes.

    Args:
        options: of the model; they are frozen.
        dataset: as for ``torch.utils.data.DataLoader``.
        batch_size: of one micro-batch; None, with ``drop_last=False``, passes items on as they are.
        shuffle: shuffle map data sets each epoch.
        num_workers: processes that load.
        drop_last: leave out a last combined batch that is not full. On by default, unlike torch, because a
            compiled model takes full ones only.
        persistent_workers: keep workers between epochs; None: when there are any.
        auto_distributed_partitioning: give each process its share of a map data set; ``dataset`` of the loader is
            that share.
        mode: load in this process, in another one, or there with combined batches assembled from the pieces
            of several workers.
        async_options: arguments of the :class:`AsynchronousDataAccessor`.
        rebatched_worker_size: items a worker loads at once in mode ``AsyncRebatched``.
        batch_sampler: gives the indices of micro-batches; the length of the loader counts these, as in PopTorch.
        kwargs: passed on to ``torch.utils.data.DataLoader``.

    Raises:
        Error: ``batch_sampler`` together with what it excludes.
    """

    def __init__(
        self,
        options: Options,
        dataset: Any,
        batch_size: Optional[int] = 1,
        shuffle: Optional[bool] = None,
        num_workers: int = 0,
        drop_last: bool = True,
        persistent_workers: Optional[bool] = None,
        auto_distributed_partitioning: bool = True,
        mode: DataLoaderMode = DataLoaderMode.Sync,
        async_options: Optional[Dict[str, Any]] = None,
        rebatched_worker_size: Optional[int] = None,
        batch_sampler: Any = None,
        **kwargs: Any,
    ) -> None:
        assert isinstance(options, Options), f"Expected poptorch.Options, not {type(options).__name__}"
        options._freeze()
        self._accessor: Optional[AsynchronousDataAccessor] = None
        self._options = options
        self._combined_batch_size: Optional[int] = None
        self._rebatched_size: Optional[int] = None
        self._rebatched_drop_last = drop_last
        self._micro_batch_sampler = batch_sampler
        settings = dict(kwargs)
        settings["num_workers"] = num_workers
        settings["persistent_workers"] = num_workers > 0 if persistent_workers is None else persistent_workers
        iterable = isinstance(dataset, torch.utils.data.IterableDataset)
        partitioned = auto_distributed_partitioning and options.Distributed.numProcesses > 1

        if batch_sampler is not None:
            if batch_size != 1 or shuffle:
                raise createPoptorchError(
                    "batch_sampler is mutually exclusive with batch_size and shuffle: leave them out"
                )
            if partitioned:
                raise createPoptorchError(
                    "batch_sampler cannot be partitioned over processes: let the sampler give each process its "
                    "own indices and set auto_distributed_partitioning=False"
                )
            batch_size = getattr(batch_sampler, "batch_size", 1)
        if batch_size is not None:
            self._combined_batch_size = batch_size * microBatches(options)

        if iterable:
            self._checkIterable(partitioned, num_workers, settings)
        elif batch_size is not None or batch_sampler is not None:
            self._checkLeftOver(dataset, drop_last, batch_sampler)
        if partitioned:
            assert batch_size is not None, (
                "batch_size=None cannot be partitioned over processes: set auto_distributed_partitioning=False"
            )
            if settings.get("sampler") is not None:
                logger.warning(
                    "As in PopTorch the sampler's indices count from the first item of this process's share, and may "
                    "go past its end. Let the sampler give each process its own indices and set "
                    "auto_distributed_partitioning=False"
                )
            dataset = self._partition(dataset, bool(shuffle), drop_last)
            shuffle = None

        if mode == DataLoaderMode.Async and not drop_last and (self._combined_batch_size or 1) > 1:
            mode = DataLoaderMode.AsyncRebatched  # the buffers of the accessor have one size only
        worker_size = self._combined_batch_size
        if mode == DataLoaderMode.AsyncRebatched:
            worker_size = self._rebatch(rebatched_worker_size, batch_sampler)
            drop_last = False

        if batch_sampler is not None:
            if mode != DataLoaderMode.AsyncRebatched:
                own_collate = settings.get("collate_fn") is not None
                if own_collate:  # it sees one micro-batch at a time
                    settings["collate_fn"] = GroupedCollate(settings["collate_fn"])
                    dataset = GroupedDataset(dataset)
                batch_sampler = GroupedBatchSampler(
                    batch_sampler, microBatches(options), drop_last, keep_batches=own_collate
                )
            settings["batch_sampler"] = batch_sampler
        else:
            settings["batch_size"] = worker_size
            settings["drop_last"] = drop_last  # torch refuses it without a batch size
            if not iterable:
                settings["shuffle"] = bool(shuffle)  # torch refuses it beside a sampler
            elif shuffle:
                settings["shuffle"] = shuffle  # torch explains why that cannot be
        super().__init__(dataset, **settings)

        if mode != DataLoaderMode.Sync:
            self._accessor = self._startAccessor(dict(async_options or {}))

    # -- parts of the constructor

    def _checkIterable(self, partitioned: bool, num_workers: int, settings: Dict[str, Any]) -> None:
        assert not partitioned, (
            "An IterableDataset cannot be partitioned over processes automatically: let it yield each process's "
            "own items and set auto_distributed_partitioning=False"
        )
        if num_workers > 1 and settings.get("worker_init_fn") is None:
            logger.warning(
                "Every one of the %d workers iterates over the whole IterableDataset, so items are repeated. "
                "Give each worker its own part with worker_init_fn",
                num_workers,
            )

    def _checkLeftOver(self, dataset: Any, drop_last: bool, batch_sampler: Any) -> None:
        if drop_last or batch_sampler is not None or not hasattr(dataset, "__len__"):
            return
        assert self._combined_batch_size is not None
        divisor = self._combined_batch_size * self._options.Distributed.numProcesses
        if len(dataset) % divisor:
            logger.warning(
                "%d items are no multiple of the combined batch size (%d): the last batch is shorter and a model "
                "compiled for full ones will not accept it. Set drop_last=True or pad the data set",
                len(dataset),
                divisor,
            )

    def _partition(self, dataset: Any, shuffle: bool, drop_last: bool) -> ProcessShare:
        distributed = self._options.Distributed
        seed = None
        assert self._combined_batch_size is not None
        if shuffle:
            assert self._options.exists("random_seed"), (
                "Shuffling over several processes needs the same seed in all of them: call "
                "options.randomSeed() before creating the DataLoader"
            )
            seed = self._options.random_seed
        return ProcessShare(
            dataset,
            self._combined_batch_size,
            distributed.processId,
            distributed.numProcesses,
            drop_last,
            seed,
        )

    def _rebatch(self, worker_size: Optional[int], batch_sampler: Any) -> Optional[int]:
        """Items torch's loader batches for the accessor to assemble combined batches from."""
        if self._combined_batch_size is None:  # nothing to assemble: as DataLoaderMode.Async
            assert worker_size is None, "rebatched_worker_size needs a batch size to assemble batches of"
            return None
        self._rebatched_size = self._combined_batch_size
        if worker_size is None:
            return self._combined_batch_size
        assert batch_sampler is None, "rebatched_worker_size has no meaning beside a batch_sampler"
        assert worker_size <= self._combined_batch_size, (
            f"rebatched_worker_size ({worker_size}) must not be larger than the combined batch size "
            f"({self._combined_batch_size})"
        )
        return worker_size

    def _startAccessor(self, async_options: Dict[str, Any]) -> AsynchronousDataAccessor:
        assert "rebatched_size" not in async_options, (
            "rebatched_size is the combined batch size: set rebatched_worker_size of the DataLoader instead"
        )
        if self._rebatched_size is not None:
            async_options["rebatched_size"] = self._rebatched_size
        accessor = AsynchronousDataAccessor(self, **async_options)
        accessor.hold_weakly()  # no cycle, so that forgetting the loader ends its process
        return accessor

    # -- what the user sees

    @property
    def combinedBatchSize(self) -> Optional[int]:
        """Items in one batch of this loader: micro-batch size times what one call of a model takes."""
        return self._combined_batch_size

    @property
    def options(self) -> Options:
        """The options the loader was made with."""
        return self._options

    def __len__(self) -> int:
        size = self._rebatched_size
        if size is None:  # PopTorch leaves it to torch, which knows nothing of joined micro-batches
            batches = self._micro_batch_sampler
            return super().__len__() if batches is None else len(batches)
        length = len(self.dataset)
        return length // size if self._rebatched_drop_last else -(-length // size)

    def __iter__(self) -> Iterator[Any]:
        if self._accessor is not None:
            return self._loop(iter(self._accessor))
        if isinstance(self.dataset, ProcessShare):
            self.dataset.next_epoch()
        return super().__iter__()

    def _loop(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items; as long as somebody takes them the loader, and with it the worker, stays alive."""
        yield from items

    def terminate(self) -> None:
        """Stop the process of an asynchronous loader."""
        if self._accessor is not None:
            self._accessor.terminate()

    def __del__(self) -> None:
        if self.__dict__.get("_accessor") is not None:
            self.terminate()

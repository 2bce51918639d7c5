"""Samplers of the ``DataLoader``: a process's share of a data set, and groups of sampled batches."""

from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch

from .._args_parser import custom_parser


def _restoreGenerator(device: str, state: bytes) -> torch.Generator:
    generator = torch.Generator(device)
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return generator


def reduceGenerator(generator: torch.Generator) -> Tuple[Callable[..., torch.Generator], Tuple[str, bytes]]:
    """How to pickle a generator. torch 2.0 cannot; later versions pickle its state as a tensor, which another process
    would map from shared memory that is gone with this temporary tensor."""
    return _restoreGenerator, (str(generator.device), generator.get_state().numpy().tobytes())


def share(
    length: int, combined: int, process_id: int, num_processes: int, drop_last: bool
) -> Tuple[int, int]:
    """A process's contiguous range of a data set.

    Args:
        length: items in the data set.
        combined: items in one combined batch of one process.
        process_id: index of the process.
        num_processes: how many there are.
        drop_last: give every process the same number of combined batches, leaving items over; otherwise all
            items are shared out, the first ``length % num_processes`` processes getting one more.

    Returns:
        Offset of the first item, and number of items.
    """
    if drop_last:
        each = combined * (length // (combined * num_processes))
        return process_id * each, each
    each, more = divmod(length, num_processes)
    return process_id * each + min(process_id, more), each + (process_id < more)


class ProcessShareSampler(torch.utils.data.Sampler):
    """Indices of one process's share of a data set; all processes together see an item at most once an epoch.

    Shuffling draws one permutation of the whole data set per epoch from a generator that every process seeds
    alike. What ``drop_last`` leaves over in one epoch is not left over in the next.

    Args:
        length: items in the data set.
        combined: items in one combined batch of one process.
        process_id: index of the process.
        num_processes: how many there are.
        drop_last: see :func:`share`.
        seed: shuffle with this seed; None: keep the order.
    """

    def __init__(
        self,
        length: int,
        combined: int,
        process_id: int,
        num_processes: int,
        drop_last: bool,
        seed: Optional[int] = None,
    ) -> None:
        self._length = length
        self._offset, self._count = share(length, combined, process_id, num_processes, drop_last)
        self._used = num_processes * self._count if drop_last else length
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._left_over: Optional[torch.Tensor] = None

    def __getstate__(self) -> Dict[str, Any]:  # also for pickles that another process does not read
        state = dict(self.__dict__)
        if self._generator is not None:
            state["_generator"] = reduceGenerator(self._generator)[1]
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._generator is not None:
            self._generator = _restoreGenerator(*state["_generator"])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        if self._generator is None:
            yield from range(self._offset, self._offset + self._count)
        else:
            yield from self._permutation()[self._offset : self._offset + self._count].tolist()

    def _permutation(self) -> torch.Tensor:
        """This epoch's order of the items in use, all processes together; shape ``[used]``."""
        order = torch.randperm(self._length, generator=self._generator)
        unused = self._length - self._used
        if not unused:
            return order
        if self._left_over is None:  # take the window from the start, remember what is behind it
            self._left_over = order[self._used :]
            return order[: self._used]
        # shift the window: leave items out that the epoch before did use
        seen = torch.ones(self._length, dtype=torch.bool)
        seen[self._left_over] = False
        droppable = torch.nonzero(seen[order]).flatten()
        droppable = torch.cat([droppable, torch.nonzero(~seen[order]).flatten()])
        keep = torch.ones(self._length, dtype=torch.bool)
        keep[droppable[:unused]] = False
        self._left_over = None
        return order[keep]


class GroupedBatchSampler:
    """Joins consecutive batches of a batch sampler into one list of indices.

    Args:
        batch_sampler: gives lists of indices.
        group_size: how many batches make one.
        drop_last: leave out a last group that is not full.
        keep_batches: give a list of lists, one for each batch, rather than one flat list.
    """

    def __init__(
        self, batch_sampler: Any, group_size: int, drop_last: bool, keep_batches: bool = False
    ) -> None:
        self._batch_sampler = batch_sampler
        self._group_size = group_size
        self._drop_last = drop_last
        self._keep_batches = keep_batches

    def __len__(self) -> int:
        batches = len(self._batch_sampler)
        return batches // self._group_size if self._drop_last else -(-batches // self._group_size)

    def __iter__(self) -> Iterator[List[Any]]:
        group: List[Any] = []
        count = 0
        for batch in self._batch_sampler:
            if self._keep_batches:
                group.append(batch)
            else:
                group.extend(batch)
            count += 1
            if count == self._group_size:
                yield group
                group, count = [], 0
        if count and not self._drop_last:
            yield group


class GroupedDataset(torch.utils.data.Dataset):
    """A map data set that is indexed by batches: an item is the list of a batch's samples.

    Batches need not have the same size, so that only their lists of indices tell where one ends. Everything else is
    the data set's own.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, indices: List[Any]) -> List[Any]:
        get_many = getattr(self._dataset, "__getitems__", None)
        return get_many(indices) if get_many else [self._dataset[index] for index in indices]

    def __getitems__(self, batches: List[List[Any]]) -> List[List[Any]]:
        return [self[indices] for indices in batches]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self._dataset, name)


class GroupedCollate:
    """Collates each batch of a group with the user's function, then concatenates them along dimension 0.

    Args:
        collate_fn: makes a batch out of a list of samples.
    """

    def __init__(self, collate_fn: Any) -> None:
        self._collate_fn = collate_fn

    def __call__(self, batches: List[List[Any]]) -> Any:
        return concatenate([self._collate_fn(samples) for samples in batches])


def concatenate(batches: List[Any]) -> Any:
    """Concatenate equal structures of tensors along dimension 0; other values are those of the first."""
    first = batches[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(batches)
    parser = custom_parser(first)
    if parser is not None:
        parts = zip(*[list(parser.yieldTensors(batch)) for batch in batches])
        return parser.reconstruct(first, iter([torch.cat(tensors) for tensors in parts]))
    if isinstance(first, dict):
        return type(first)((key, concatenate([batch[key] for batch in batches])) for key in first)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*[concatenate(list(items)) for items in zip(*batches)])
    if isinstance(first, (tuple, list)):
        return type(first)(concatenate(list(items)) for items in zip(*batches))
    return first

"""What the ``DataLoader`` reads: a process's share of a data set, and groups of sampled batches."""

from typing import Any, Callable, Iterator, List, Optional, Tuple

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


class ProcessShare(torch.utils.data.Dataset):
    """One process's share of a map data set; all processes together see an item at most once an epoch.

    Indices count from the share's first item, also those of a sampler of the user's, and nothing stops them at its
    end. Shuffling draws one permutation of the whole data set per epoch from a generator that every process seeds
    alike; the shares are then ranges of it, every other epoch from where some of what ``drop_last`` leaves over ends.

    Source: ``_SubDataset`` in PopTorch 3.4's ``python/__init__.py``.

    Args:
        dataset: the whole of it.
        combined: items in one combined batch of one process.
        process_id: index of the process.
        num_processes: how many there are.
        drop_last: see :func:`share`.
        seed: shuffle with this seed; None: keep the order.

    Raises:
        ZeroDivisionError: with ``drop_last`` there is no combined batch for every process.
    """

    def __init__(
        self,
        dataset: Any,
        combined: int,
        process_id: int,
        num_processes: int,
        drop_last: bool,
        seed: Optional[int] = None,
    ) -> None:
        self._dataset = dataset
        self._offset, self._count = share(len(dataset), combined, process_id, num_processes, drop_last)
        if drop_last and not self._count:
            raise ZeroDivisionError(
                f"{len(dataset)} items give {num_processes} processes no combined batch of {combined} items each: "
                "take a larger data set, smaller batches or drop_last=False"
            )
        self._shift = len(dataset) % self._count if drop_last else 0
        self._shifted = False
        # the generator's state, as an array that any pickle takes
        self._random = None if seed is None else torch.Generator().manual_seed(seed).get_state().numpy()
        self._order: Optional[torch.Tensor] = None  # in shared memory: workers that stay see the next epoch's

    def next_epoch(self) -> None:
        """Shuffle anew, where there is a seed."""
        if self._random is None:
            return
        generator = torch.Generator()
        generator.set_state(torch.from_numpy(self._random))
        order = torch.randperm(len(self._dataset), generator=generator)
        self._random = generator.get_state().numpy()
        self._shifted = not self._shifted
        order = order[self._shift if self._shifted else 0 :][self._offset : self._offset + self._count]
        if self._order is None:
            self._order = order.clone().share_memory_()
        else:
            self._order.copy_(order)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index + self._offset if self._order is None else int(self._order[index])]


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

"""Batches that the workers of a loader write into the same shared memory again and again.

torch hands over each tensor of each batch as a file descriptor, which the receiving process fetches over a connection
of its own and maps anew: a millisecond or more a tensor, and later 0.1 ms a megabyte to give the memory back. Here a
worker has a few slots; the tensors of a slot cross once, and from then on its number does.
"""

import uuid
import weakref
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

AHEAD = 2  # batches that torch lets a worker prepare ahead, unless told otherwise (prefetch_factor)


class Slots:
    """The slots of a loader's workers: a worker fills its own in turn, the receiving process keeps what came once.

    torch deals batches out to its workers in turn and asks a worker for one more when it hands one of its batches to
    the user. So with one slot more than a worker prepares ahead, a batch stays as it is until the next one is taken.

    Args:
        ahead: batches that torch lets a worker prepare ahead.
    """

    def __init__(self, ahead: int = AHEAD) -> None:
        self.size = ahead + 1
        self._own: Dict[int, List[torch.Tensor]] = {}
        self._filled = 0
        self._begin(uuid.uuid4().hex)

    def _begin(self, name: str) -> None:
        self.name = name
        self._received: Dict[Tuple[int, int], Tuple[torch.Tensor, ...]] = {}
        _RECEIVING[name] = self

    def room(self) -> Optional[np.ndarray]:
        """In a worker: where the first tensor of the next batch goes; None before there is a slot."""
        slot = self._own.get(self._filled % self.size)
        return None if slot is None else slot[0].numpy()

    def fill(self, worker: int, item: Sequence[torch.Tensor]) -> "Filled":
        """In a worker: put a batch into the next slot; what is there already (:meth:`room`) is not copied."""
        number = self._filled % self.size
        self._filled += 1
        slot = self._own.get(number)
        if slot is not None and [_kind(tensor) for tensor in slot] == [_kind(tensor) for tensor in item]:
            for tensor, new in zip(slot, item):
                if new.data_ptr() != tensor.data_ptr():
                    tensor.copy_(new)
            return Filled(self.name, worker, number, None)
        slot = self._own[number] = [torch.empty_like(new).share_memory_().copy_(new) for new in item]
        return Filled(self.name, worker, number, tuple(slot))

    def receive(
        self, worker: int, number: int, new: Optional[Tuple[torch.Tensor, ...]]
    ) -> Tuple[torch.Tensor, ...]:
        """The batch in a slot, in the process that takes it."""
        if new is not None:
            self._received[worker, number] = new
        return self._received[worker, number]

    def __getstate__(self) -> Dict[str, Any]:
        return {"name": self.name, "ahead": self.size - 1}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.size, self._own, self._filled = state["ahead"] + 1, {}, 0
        self._begin(state["name"])


_RECEIVING: "weakref.WeakValueDictionary[str, Slots]" = weakref.WeakValueDictionary()


class Filled(NamedTuple):
    """What crosses from a worker in place of a batch, and arrives as the batch itself.

    Attributes:
        slots: name of the loader's.
        worker, number: which of them.
        new: its tensors, when they have not crossed yet.
    """

    slots: str
    worker: int
    number: int
    new: Optional[Tuple[torch.Tensor, ...]]

    def __reduce__(self) -> Any:
        return _receive, tuple(self)


def _receive(
    slots: str, worker: int, number: int, new: Optional[Tuple[torch.Tensor, ...]]
) -> Tuple[torch.Tensor, ...]:
    return _RECEIVING[slots].receive(worker, number, new)


def _kind(tensor: torch.Tensor) -> Tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype

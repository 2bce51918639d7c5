"""What autograd saves for the backward pass, and forward then changes in place.

PopTorch's graph has a new value for everything that is changed in place, and PopART writes a variable after all have
read it, the backward pass too. Autograd saves the tensor itself and refuses to go on once it has changed.
"""

import contextlib
import weakref
from typing import Any, ContextManager, Dict, Iterator, List, Tuple

import torch

Noted = List[Tuple[torch.Tensor, int]]


@contextlib.contextmanager
def noted() -> Iterator[Noted]:
    """Yields what autograd saves while it is on, and how often each tensor had been written to by then."""
    saved: Noted = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        alias = tensor.detach()  # the tensor itself would keep its own history alive
        saved.append((alias, tensor._version))
        return alias

    with torch.autograd.graph.saved_tensors_hooks(note, lambda alias: alias):
        yield saved


def have_changed(saved: Noted) -> bool:
    """Whether any of what has been saved is no longer what it was."""
    return any(tensor._version != version for tensor, version in saved)


class _Handle:
    """What autograd holds in the place of a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class SavedTensors:
    """Lets autograd save tensors that are changed afterwards: they are copied just before."""

    def __init__(self) -> None:
        self._handles: Dict[int, List[Any]] = {}  # weak, by memory

    def saving(self) -> ContextManager[Any]:
        """To be on for a forward; it forgets what was saved before."""
        self._handles = {}
        return torch.autograd.graph.saved_tensors_hooks(self._save, _tensor_of)

    def before_write(self, *tensors: torch.Tensor) -> None:
        """These tensors are about to be changed."""
        for tensor in tensors:
            for reference in self._handles.pop(_memory(tensor), []):
                handle = reference()
                if handle is not None:
                    handle.tensor = handle.tensor.clone()

    def _save(self, tensor: torch.Tensor) -> _Handle:
        handle = _Handle(tensor.detach())
        self._handles.setdefault(_memory(tensor), []).append(weakref.ref(handle))
        return handle


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensor_of(handle: _Handle) -> torch.Tensor:
    return handle.tensor

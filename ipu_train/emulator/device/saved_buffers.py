"""What autograd keeps of buffers that forward goes on to change.

PopART writes a variable after everything has read it, the backward pass too. Autograd keeps the buffer itself, and
would find it changed: it is given a copy.
"""

import contextlib
from typing import Any, ContextManager, Iterable, Iterator, Set

import torch


def copies_of(buffers: Iterable[torch.Tensor]) -> ContextManager[Any]:
    """While it is on, autograd keeps copies of these buffers and of views of them; with none it does nothing."""
    places = {_place(buffer) for buffer in buffers}
    if not places:
        return contextlib.nullcontext()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone() if _place(tensor) in places else tensor.detach()

    return torch.autograd.graph.saved_tensors_hooks(keep, _as_it_is)


@contextlib.contextmanager
def noted() -> Iterator[Set[int]]:
    """Yields the memory that autograd keeps something of while it is on, see :func:`is_among`."""
    places: Set[int] = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        places.add(_place(tensor))
        return tensor.detach()  # the tensor itself would keep its own history alive

    with torch.autograd.graph.saved_tensors_hooks(keep, _as_it_is):
        yield places


def is_among(tensor: torch.Tensor, places: Set[int]) -> bool:
    """Whether a tensor lies in one of these places."""
    return _place(tensor) in places


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor

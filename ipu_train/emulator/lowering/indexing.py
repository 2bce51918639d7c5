"""``tensor[index]`` and ``tensor[index] = value`` as the operators that torch makes of them.

torch takes an index apart in its Python binding, which asks for a device's C++ interface that shadows do not have.
"""

import operator
from typing import Any, List, Tuple

import torch

from .shadow import Shadow

_ALL = slice(None)
_MASKS = (torch.bool, torch.uint8)


def get_item(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    """``tensor[index]``."""
    view, indices = _view(tensor, index)
    if not indices:
        return torch.ops.aten.alias(view) if view is tensor else view
    return torch.ops.aten.index.Tensor(view, indices)


def set_item(tensor: torch.Tensor, index: Any, value: Any) -> None:
    """``tensor[index] = value``."""
    view, indices = _view(tensor, index)
    if not isinstance(value, torch.Tensor):
        if not indices:
            torch.ops.aten.fill_.Scalar(view, value)
            return
        value = _constant(torch.as_tensor(value, dtype=tensor.dtype))
    if indices:
        torch.ops.aten.index_put_(view, indices, _unpadded(value, 0 if indices else view.dim()))
        return
    value = _unpadded(value, view.dim())
    torch.ops.aten.copy_(view, value.expand(view.shape) if value.dim() < view.dim() else value)


def _unpadded(value: torch.Tensor, dims: int) -> torch.Tensor:
    """Without leading dimensions of length 1, which assignment ignores."""
    while dims and value.dim() > dims and value.shape[0] == 1:
        value = value.reshape(value.shape[1:])
    return value


def _constant(tensor: torch.Tensor) -> Shadow:
    return Shadow(tensor.shape, tensor.dtype, constant=True)


def _parts(index: Any) -> List[Any]:
    if isinstance(index, tuple):
        return list(index)
    if isinstance(index, list) and any(
        isinstance(i, (slice, torch.Tensor, list, tuple, type(None))) or i is ... for i in index
    ):
        return list(index)  # torch reads such a list like a tuple
    return [index]


def _consumed(part: Any) -> int:
    """How many dimensions a part of an index stands for."""
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    if isinstance(part, torch.Tensor) and part.dtype in _MASKS:
        return part.dim()
    return 1


def _view(tensor: torch.Tensor, index: Any) -> Tuple[torch.Tensor, List[Any]]:
    """An index's slices and selections, applied; and what is left to gather, a tensor or None for each dimension."""
    parts = _parts(index)
    left_over = tensor.dim() - sum(map(_consumed, parts))  # dimensions that an Ellipsis stands for
    dim = 0
    indices: List[Any] = []
    for part in parts:
        if part is Ellipsis:
            dim += left_over
        elif part is None:
            tensor = tensor.unsqueeze(dim)
            dim += 1
        elif isinstance(part, slice):
            if part != _ALL:
                tensor = torch.ops.aten.slice.Tensor(tensor, dim, part.start, part.stop, part.step or 1)
            dim += 1
        elif _is_number(part):
            tensor = torch.ops.aten.select.int(tensor, dim, operator.index(part))
        else:
            if isinstance(part, bool):
                tensor = tensor.unsqueeze(dim)
                part = torch.as_tensor([part])
            part = part if isinstance(part, torch.Tensor) else torch.as_tensor(part)
            part = part if isinstance(part, Shadow) else _constant(part)
            if part.dim() == 0 and part.dtype not in _MASKS:
                torch.ops.aten.item(part)  # torch selects by its value
            covers = max(1, part.dim()) if part.dtype in _MASKS else 1
            indices.extend([None] * (dim - len(indices)))
            indices.extend([part] + [None] * (covers - 1))
            dim += covers
    while indices and indices[-1] is None:
        indices.pop()
    return tensor, indices


def _is_number(part: Any) -> bool:
    return hasattr(part, "__index__") and not isinstance(part, (bool, torch.Tensor))


# the functions of torch.nn.functional index what they are given
Shadow.__getitem__ = get_item  # type: ignore[method-assign,assignment]
Shadow.__setitem__ = set_item  # type: ignore[method-assign,assignment]

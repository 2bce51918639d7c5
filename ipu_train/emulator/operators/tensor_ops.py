"""Slices at positions known only at run time, serialised matrix products and overlapped host I/O.

Source: PopTorch 3.4 API reference, "Custom functions"; user guide, "Overlapping compute and I/O".
"""

from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from .. import _state
from .._impl import createPoptorchError
from ..enums import MatMulSerializationMode, OverlapMode

__all__ = [
    "dynamic_slice",
    "dynamic_update",
    "serializedMatMul",
    "set_overlap_for_input",
    "set_overlap_for_output",
]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise createPoptorchError(message)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def dynamic_slice(tensor: torch.Tensor, dim: int, start: torch.Tensor, size: int, step: int) -> torch.Tensor:
    """``tensor.narrow(dim, start, size)`` with a step, at a start that may change with every execution.

    Args:
        tensor: any shape.
        dim: the dimension that is sliced.
        start: first index, a tensor of one integer. A slice that runs over the end wraps round.
        size: length of the slice before stepping; on the device a divisor of the dimension's length.
        step: distance of the elements that are kept.

    Returns:
        ``tensor`` with ``ceil(size / step)`` elements along ``dim``.

    Raises:
        poptorch.Error: arguments of other types; in a model also a size that is not positive or no divisor.
    """
    _check(isinstance(tensor, torch.Tensor), "dynamic_slice: tensor must be a torch.Tensor")
    _check(_is_int(dim), "dynamic_slice: dim must be an int")
    _check(isinstance(start, torch.Tensor), "dynamic_slice: start must be a torch.Tensor")
    _check(_is_int(size), "dynamic_slice: size must be an int")
    _check(_is_int(step), "dynamic_slice: step must be an int")
    if has_torch_function((tensor, start)):
        return handle_torch_function(dynamic_slice, (tensor, start), tensor, dim, start, size, step)
    _check(not start.is_floating_point(), "dynamic_slice: start must be a tensor of integers")
    _check(start.numel() == 1, "dynamic_slice: start must have one element")
    _check(size <= tensor.shape[dim], f"dynamic_slice: size {size} exceeds dimension {dim} of the tensor")
    if _state.annotations is not None:
        _check_device_slice(size)
        _check(
            tensor.shape[dim] % size == 0,
            f"The size of the slice ({size}) must be a factor of the slicing dimension ({tensor.shape[dim]}).",
        )
    return tensor.index_select(dim, _indices(tensor, dim, start, size, step))


def _check_device_slice(size: int) -> None:
    """What the IPU cannot slice; on the CPU such a slice is just empty."""
    _check(size != 0, "The start and end of a slice must be different.")
    _check(size > 0, "Taking a slice of a tensor with the end less than the start is not supported.")


def _indices(tensor: torch.Tensor, dim: int, start: torch.Tensor, size: int, step: int) -> torch.Tensor:
    offsets = torch.arange(0, max(size, 0), step, device=tensor.device)
    return (start.reshape(()).long() + offsets) % tensor.shape[dim]


def dynamic_update(
    input: torch.Tensor, src: torch.Tensor, dim: int, start: torch.Tensor, size: int
) -> torch.Tensor:
    """A copy of ``input`` with ``src`` written at ``start`` along ``dim``.

    Args:
        input: any shape.
        src: the same rank and dtype; ``size`` elements along ``dim``.
        dim: the dimension that is sliced.
        start: first index, a tensor of one integer.
        size: length of the slice.

    Raises:
        poptorch.Error: arguments of other types, ranks or dtypes.
    """
    _check(isinstance(input, torch.Tensor), "dynamic_update: input must be a torch.Tensor")
    _check(isinstance(src, torch.Tensor), "dynamic_update: src must be a torch.Tensor")
    _check(_is_int(dim), "dynamic_update: dim must be an int")
    _check(isinstance(start, torch.Tensor), "dynamic_update: start must be a torch.Tensor")
    _check(_is_int(size), "dynamic_update: size must be an int")
    _check(
        input.dim() == src.dim(),
        f"dynamic_update: input and src tensors must have same dimensionality. ({input.dim()}) vs ({src.dim()})",
    )
    _check(
        input.dtype == src.dtype,
        f"dynamic_update: input and src tensor must have same dtype. ({input.dtype} vs {src.dtype})",
    )
    if has_torch_function((input, src, start)):
        return handle_torch_function(dynamic_update, (input, src, start), input, src, dim, start, size)
    if _state.annotations is not None:
        _check_device_slice(size)
    _check(
        src.shape[dim] == size, f"dynamic_update: src has {src.shape[dim]} elements along {dim}, not {size}"
    )
    return input.index_copy(dim, _indices(input, dim, start, size, 1), src)


def serializedMatMul(
    lhs: torch.Tensor,
    rhs: torch.Tensor,
    mode: MatMulSerializationMode,
    factor: int = 0,
    keep_precision: bool = False,
) -> torch.Tensor:
    """``torch.matmul(lhs, rhs)``, computed on the IPU in ``factor`` pieces to save memory.

    Args:
        lhs, rhs: as for ``torch.matmul``.
        mode: the dimension that is cut into pieces.
        factor: number of pieces, which must divide that dimension.
        keep_precision: accumulate float16 pieces in float32.
    """
    assert isinstance(lhs, torch.Tensor), "serializedMatMul: lhs must be a torch.Tensor"
    assert isinstance(rhs, torch.Tensor), "serializedMatMul: rhs must be a torch.Tensor"
    assert isinstance(mode, MatMulSerializationMode), (
        f"serializedMatMul: mode must be a poptorch.MatMulSerializationMode, not {mode!r}"
    )
    assert isinstance(factor, int), "serializedMatMul: factor must be an int"
    assert isinstance(keep_precision, bool), "serializedMatMul: keep_precision must be a bool"
    if has_torch_function((lhs, rhs)):
        return handle_torch_function(serializedMatMul, (lhs, rhs), lhs, rhs, mode, factor, keep_precision)
    return torch.matmul(lhs, rhs)


def _over_structure(function: Any, tensors: Any, mode: OverlapMode) -> Any:
    if isinstance(tensors, torch.Tensor):
        return function(tensors, mode)
    if isinstance(tensors, dict):
        return {key: _over_structure(function, value, mode) for key, value in tensors.items()}
    if isinstance(tensors, tuple) and hasattr(tensors, "_fields"):
        return type(tensors)(*[_over_structure(function, value, mode) for value in tensors])
    if isinstance(tensors, (tuple, list)):
        return type(tensors)(_over_structure(function, value, mode) for value in tensors)
    return tensors


def set_overlap_for_input(input_tensors: Any, mode: OverlapMode) -> Any:
    """Overlap the transfer of graph inputs with compute; a performance setting with rules checked at compilation.

    Args:
        input_tensors: a tensor or a nested structure of them; must be inputs of the model, used by nothing else.
        mode: which loop the transfer overlaps with.

    Returns:
        The same structure.
    """
    assert isinstance(mode, OverlapMode), f"Expected a poptorch.OverlapMode, not {mode!r}"
    return _over_structure(overlap_input, input_tensors, mode)


def set_overlap_for_output(output_tensors: Any, mode: OverlapMode) -> Any:
    """As :func:`set_overlap_for_input`, for tensors that the model returns, each of them once."""
    assert isinstance(mode, OverlapMode), f"Expected a poptorch.OverlapMode, not {mode!r}"
    return _over_structure(overlap_output, output_tensors, mode)


def overlap_input(tensor: torch.Tensor, mode: OverlapMode) -> torch.Tensor:
    if has_torch_function_unary(tensor):
        return handle_torch_function(overlap_input, (tensor,), tensor, mode)
    return tensor.view_as(tensor)


def overlap_output(tensor: torch.Tensor, mode: OverlapMode) -> torch.Tensor:
    if has_torch_function_unary(tensor):
        return handle_torch_function(overlap_output, (tensor,), tensor, mode)
    return tensor.view_as(tensor)


overlap_input.__name__ = "set_overlap_for_input"  # the names under which they are recorded
overlap_output.__name__ = "set_overlap_for_output"

"""Functions that PopTorch adds to torch (PopTorch 3.4 user guide, "IPU supported operations": custom operations).

Each works on CPU tensors as well. While a forward is captured, the torch-function mode records them like any torch
function, which is why they announce themselves through ``handle_torch_function``.
"""

from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from ._impl import createPoptorchError
from .capture.control_flow import cond, for_loop
from .capture.multi_conv import MultiConv
from .operators.blocks import Attribute, BeginBlock, Block, BlockFunction, NameScope, removeBlocks
from .operators.ctc_decoder import ctc_beam_search_decoder
from .operators.custom_ops import CPU, custom_op
from .operators.point_ops import fps, nearest
from .operators.printing import ipu_print_tensor
from .operators.tensor_ops import (
    dynamic_slice,
    dynamic_update,
    serializedMatMul,
    set_overlap_for_input,
    set_overlap_for_output,
)

__all__ = [
    "CPU",
    "Attribute",
    "BeginBlock",
    "Block",
    "BlockFunction",
    "MultiConv",
    "NameScope",
    "cond",
    "ctc_beam_search_decoder",
    "custom_op",
    "dynamic_slice",
    "dynamic_update",
    "for_loop",
    "fps",
    "identity_loss",
    "ipu_print_tensor",
    "nearest",
    "nop",
    "recomputationCheckpoint",
    "removeBlocks",
    "serializedMatMul",
    "set_available_memory",
    "set_overlap_for_input",
    "set_overlap_for_output",
]

_REDUCTIONS = ("sum", "mean", "none")


def _check_tensor(value: Any, function: str) -> None:
    if not isinstance(value, torch.Tensor):
        raise createPoptorchError(f"{function}: expected a torch.Tensor but got {type(value).__name__}")


def identity_loss(x: torch.Tensor, reduction: str) -> torch.Tensor:
    """Mark ``x`` as the loss of the model.

    Args:
        x: the loss, any shape.
        reduction: ``"sum"`` or ``"mean"`` over all elements, or ``"none"``, with which backward starts from ones.

    Returns:
        The reduced tensor: 0-dim for sum and mean, ``x`` itself for none.
    """
    assert reduction in _REDUCTIONS, f"Unsupported reduction type: {reduction!r}, use one of {_REDUCTIONS}"
    if has_torch_function_unary(x):
        return handle_torch_function(identity_loss, (x,), x, reduction)
    if reduction == "sum":
        return x.sum()
    return x.mean() if reduction == "mean" else x.clone()


def nop(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, through an operation of its own on the device."""
    _check_tensor(tensor, "nop")
    if has_torch_function_unary(tensor):
        return handle_torch_function(nop, (tensor,), tensor)
    return tensor.clone()


def recomputationCheckpoint(*tensors: Any) -> Any:
    """Mark tensors to be kept for backward, so that recomputation starts from them; no numerical effect.

    Returns:
        The tensor for one argument, a tuple for several, the same kind of container for one list or tuple.
    """
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        return type(tensors[0])(_checkpoint(tensor) for tensor in tensors[0])
    marked = tuple(_checkpoint(tensor) for tensor in tensors)
    return marked[0] if len(marked) == 1 else marked


def _checkpoint(tensor: Any) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"poptorch.recomputationCheckpoint: expected a tensor, got {type(tensor).__name__}")
    return recomputation_checkpoint(tensor)


def recomputation_checkpoint(tensor: torch.Tensor) -> torch.Tensor:
    """One marked tensor; a name of its own, so that reports on a captured graph find it."""
    if has_torch_function_unary(tensor):
        return handle_torch_function(recomputation_checkpoint, (tensor,), tensor)
    return tensor.view_as(tensor)


def set_available_memory(tensor: torch.Tensor, available_memory_proportion: float) -> torch.Tensor:
    """Let the operation that made ``tensor`` use this share (0..1) of a tile's memory for temporaries; a hint."""
    _check_tensor(tensor, "set_available_memory")
    assert 0 <= available_memory_proportion <= 1, "available_memory_proportion must be between 0 and 1"
    if has_torch_function_unary(tensor):
        return handle_torch_function(set_available_memory, (tensor,), tensor, available_memory_proportion)
    return tensor.view_as(tensor)

"""Results of operations on the meta device, without torch's own rules in Python, which import its compiler.

Only the plain cases that convolutional networks are made of; everything else is torch's. A rule gives tensors of the
same shape, type and strides as torch would.
"""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch

Args = Tuple[Any, ...]
Kwargs = Dict[str, Any]

# elementwise, of one floating type in and out
_ELEMENTWISE = frozenset(
    f"aten::{name}"
    for name in (
        *("abs", "add", "addcmul", "clamp", "clamp_max", "clamp_min", "div", "erf", "erfc", "exp", "gelu"),
        *("hardswish", "hardtanh", "leaky_relu", "log", "maximum", "minimum", "mish", "mul", "neg", "pow"),
        *(
            "reciprocal",
            "relu",
            "rsqrt",
            "rsub",
            "sigmoid",
            "silu",
            "softplus",
            "sqrt",
            "square",
            "sub",
            "tanh",
        ),
    )
)


def result(func: Any, name: str, args: Args, kwargs: Kwargs) -> Any:
    """What ``func(*args, **kwargs)`` gives."""
    if name in _ELEMENTWISE:
        found = _elementwise(args, kwargs)
    elif name[-1] == "_" and name[:-1] in _ELEMENTWISE:
        found = _elementwise(args, kwargs)
        found = args[0] if found is not None and found.shape == args[0].shape else None
    else:
        found = _OTHERS[name](args, kwargs) if name in _OTHERS else None
    return func(*args, **kwargs) if found is None else found


def _elementwise(args: Args, kwargs: Kwargs) -> Any:
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    if not tensors or "out" in kwargs or any(isinstance(value, torch.Tensor) for value in kwargs.values()):
        return None
    if not all(_is_plain(tensor) for tensor in tensors) or len({tensor.dtype for tensor in tensors}) > 1:
        return None
    return tensors[0].new_empty(np.broadcast_shapes(*(tuple(tensor.shape) for tensor in tensors)))


def _reduced(x: torch.Tensor, args: Args, kwargs: Kwargs, keep_at: int) -> Optional[List[int]]:
    """Shape of ``x`` without the dimensions that ``args[1]`` or ``dim`` names (none: without all); None: unknown."""
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    if not _is_plain(x) or isinstance(dims, bool) or "dtype" in kwargs:
        return None
    dims = [dims] if isinstance(dims, int) else dims
    reduced = {dim % x.dim() for dim in dims} if dims else set(range(x.dim()))
    keep = args[keep_at] if len(args) > keep_at else kwargs.get("keepdim", False)
    return [1 if i in reduced else n for i, n in enumerate(x.shape) if keep or i not in reduced]


def _mean(args: Args, kwargs: Kwargs) -> Any:
    """``mean(x, dim, keepdim)``, and ``sum`` alike."""
    shape = _reduced(args[0], args, kwargs, 2)
    return None if shape is None else args[0].new_empty(shape)


def _var_mean(args: Args, kwargs: Kwargs) -> Any:
    """``var_mean(x, dim, unbiased, keepdim)``, or ``correction`` and ``keepdim`` by name."""
    shape = _reduced(args[0], args, kwargs, 3)
    return None if shape is None else (args[0].new_empty(shape), args[0].new_empty(shape))


def _group_norm(args: Args, kwargs: Kwargs) -> Any:
    """``native_group_norm(input, weight, bias, N, C, HxW, group, eps)``."""
    if len(args) < 7 or not _is_plain(args[0]):
        return None
    statistics = (args[3], args[6])
    return args[0].new_empty(args[0].shape), args[0].new_empty(statistics), args[0].new_empty(statistics)


def _batch_norm(args: Args, kwargs: Kwargs) -> Any:
    """``native_batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)`` in training."""
    if len(args) < 6 or args[5] is not True or not _is_plain(args[0]):
        return None
    channels = args[0].shape[1]
    return args[0].new_empty(args[0].shape), args[0].new_empty(channels), args[0].new_empty(channels)


def _convolution(args: Args, kwargs: Kwargs) -> Any:
    """``convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)``."""
    if len(args) != 9 or args[6] or not _is_plain(args[0]) or not _is_plain(args[1]):
        return None
    x, weight, _, strides, paddings, dilations = args[:6]
    dims = x.dim() - 2
    if not dims == len(strides) == len(paddings) == len(dilations) or x.shape[1] != weight.shape[1] * args[8]:
        return None
    field = [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(
            x.shape[2:], weight.shape[2:], strides, paddings, dilations
        )
    ]
    return x.new_empty([x.shape[0], weight.shape[0], *field]) if min(field) > 0 else None


def _max_pool(args: Args, kwargs: Kwargs) -> Any:
    """``max_pool2d_with_indices(input, kernel_size, stride, padding, dilation)``, rounded down."""
    x, *sizes = args
    if not 2 <= len(args) <= 5 or kwargs or not _is_plain(x) or x.dim() != 4:
        return None
    kernels, strides, paddings, dilations = (_pair(size) for size in (*sizes, *([], 0, 1)[len(args) - 2 :]))
    field = [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(
            x.shape[2:], kernels, strides or kernels, paddings, dilations
        )
    ]
    if min(field) <= 0 or any(2 * padding > kernel for padding, kernel in zip(paddings, kernels)):
        return None
    shape = [*x.shape[:2], *field]
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


def _filled_like(args: Args, kwargs: Kwargs) -> Any:
    """``zeros_like(x)``, and ``empty_like`` and ``ones_like`` alike, of the type and place of ``x``."""
    given = {value for name, value in kwargs.items() if name != "pin_memory"} - {None, *_SAME_FORMAT}
    return None if len(args) != 1 or given or not _is_plain(args[0]) else args[0].new_empty(args[0].shape)


_SAME_FORMAT = (torch.preserve_format, torch.contiguous_format)  # of tensors that are contiguous


def _bernoulli_in_place(args: Args, kwargs: Kwargs) -> Any:
    """``bernoulli_(x, p)``."""
    return args[0] if len(args) == 2 and isinstance(args[1], float) and _is_plain(args[0]) else None


def _pair(size: Any) -> List[int]:
    return [size] * 2 if isinstance(size, int) else list(size) * (2 if len(size) == 1 else 1)


def _addmm(args: Args, kwargs: Kwargs) -> Any:
    """``addmm(bias, a, b)``."""
    if len(args) != 3 or not all(map(_is_floating, args)):
        return None
    return args[1].new_empty(args[1].shape[0], args[2].shape[1])


def _mm(args: Args, kwargs: Kwargs) -> Any:
    return args[0].new_empty(args[0].shape[0], args[1].shape[1]) if all(map(_is_floating, args)) else None


def _log_softmax(args: Args, kwargs: Kwargs) -> Any:
    """``_log_softmax(x, dim, half_to_float)``."""
    return args[0].new_empty(args[0].shape) if _is_plain(args[0]) and args[2] is False else None


def _nll_loss(args: Args, kwargs: Kwargs) -> Any:
    """``nll_loss_forward(log_probabilities, target, weight, reduction, ignore_index)``: mean or sum, total weight."""
    return (
        (args[0].new_empty(()), args[0].new_empty(())) if _is_plain(args[0]) and args[3] in (1, 2) else None
    )


_OTHERS = {
    "aten::convolution": _convolution,
    "aten::addmm": _addmm,
    "aten::mm": _mm,
    "aten::max_pool2d_with_indices": _max_pool,
    "aten::_log_softmax": _log_softmax,
    "aten::nll_loss_forward": _nll_loss,
    "aten::mean": _mean,
    "aten::sum": _mean,
    "aten::zeros_like": _filled_like,
    "aten::ones_like": _filled_like,
    "aten::empty_like": _filled_like,
    "aten::bernoulli_": _bernoulli_in_place,
    "aten::var_mean": _var_mean,
    "aten::native_group_norm": _group_norm,
    "aten::native_batch_norm": _batch_norm,
}


def _is_floating(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "meta" and tensor.is_floating_point()


def _is_plain(tensor: torch.Tensor) -> bool:
    return _is_floating(tensor) and tensor.is_contiguous()

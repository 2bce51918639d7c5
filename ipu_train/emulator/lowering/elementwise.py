"""Inference of the operators that a network is mostly made of, without asking torch.

torch infers these in Python, in functions that import its whole compiler when the first of them is called. Only cases
without a question are decided here: floating operands, and shapes that broadcast.
"""

from typing import Any, Dict, Optional, Tuple

import torch

from .shadow import Shadow

_ONE = frozenset(
    [
        "relu", "relu_", "sigmoid", "sigmoid_", "silu", "silu_", "tanh", "tanh_", "gelu", "exp", "neg", "abs", "sqrt",
        "rsqrt", "square", "log", "erf", "elu", "elu_", "hardtanh", "hardtanh_", "hardswish", "hardsigmoid",
        "leaky_relu", "leaky_relu_", "softplus", "reciprocal", "clone", "clamp", "clamp_min", "clamp_max",
    ]
)  # fmt: skip
_TWO = frozenset(["add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor"])
_IN_PLACE = frozenset(["add_.Tensor", "sub_.Tensor", "mul_.Tensor", "div_.Tensor"])
_REDUCTIONS = frozenset(["mean.dim", "sum.dim_IntList", "amax", "amin"])


def infer(key: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[Shadow]:
    """What operator ``key`` gives; None where torch has to say."""
    x = args[0] if args else None
    if not isinstance(x, Shadow) or not x.dtype.is_floating_point:
        return None
    if key in _ONE:
        plain = not any(isinstance(value, torch.Tensor) for value in args[1:]) and "dtype" not in kwargs
        return (x if key.endswith("_") else Shadow(x.shape, x.dtype)) if plain else None
    if key in _TWO or key in _IN_PLACE:
        return _two(key, x, args[1])
    if key in _REDUCTIONS:
        return _reduced(x, *args[1:3], **kwargs)
    return None


def _two(key: str, x: Shadow, y: Any) -> Optional[Shadow]:
    if isinstance(y, (int, float)):
        return x if key in _IN_PLACE else Shadow(x.shape, x.dtype)
    if not isinstance(y, Shadow) or not y.dtype.is_floating_point:
        return None
    try:
        shape = torch.broadcast_shapes(x.shape, y.shape)
    except RuntimeError:
        return None  # torch says it better
    if key in _IN_PLACE:
        return x if shape == x.shape else None
    if bool(x.dim()) == bool(y.dim()):
        return Shadow(shape, torch.promote_types(x.dtype, y.dtype))
    return Shadow(shape, x.dtype if x.dim() else y.dtype)  # one without dimensions yields


def _reduced(x: Shadow, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Optional[Shadow]:
    if kwargs or not x.dim() or not isinstance(dim, (list, tuple)) or not dim:
        return None
    gone = {d % x.dim() for d in dim if -x.dim() <= d < x.dim()}
    if len(gone) != len(dim):
        return None
    shape = [1 if i in gone else n for i, n in enumerate(x.shape) if keepdim or i not in gone]
    return Shadow(shape, x.dtype)

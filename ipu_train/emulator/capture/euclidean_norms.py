"""Euclidean norms with PopART's gradient, x / |x|, which is not a number where |x| is 0 and torch's is 0.

PopART: willow/src/popx/op/reducel2x.cpp. PopTorch: poptorch/source/popart_canonicalization/ReduceOps.cpp.
"""

from typing import Any, Optional

import torch
import torch.nn.functional as F


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dim: Any) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.dim = dim
        return torch.linalg.vector_norm(x, 2, dim, keepdim=True)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return gradient * x / torch.linalg.vector_norm(x, 2, ctx.dim, keepdim=True), None


def _norm(x: torch.Tensor, dim: Any, keepdim: bool) -> torch.Tensor:
    given = [dim] if isinstance(dim, int) else list(dim or range(x.dim()))
    dims = [d % max(1, x.dim()) for d in given]
    if keepdim and all(x.shape[d] == 1 for d in dims):
        return x.abs()
    result = _Norm.apply(x, dims)
    return result if keepdim else result.reshape([n for d, n in enumerate(x.shape) if d not in dims])


def norm(
    input: torch.Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: Any = None,
    dtype: Any = None,
) -> torch.Tensor:
    """``torch.norm``."""
    if not (p in (2, None, "fro") and out is None and dtype is None and input.is_floating_point()):
        return torch.norm(input, p, dim, keepdim, out, dtype)
    return _norm(input, dim, keepdim)


def vector_norm(
    x: torch.Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, **others: Any
) -> torch.Tensor:
    """``torch.linalg.vector_norm``."""
    if ord != 2 or others or not x.is_floating_point():
        return torch.linalg.vector_norm(x, ord, dim, keepdim, **others)
    return _norm(x, dim, keepdim)


def normalize(
    input: torch.Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Optional[torch.Tensor] = None
) -> torch.Tensor:
    """``torch.nn.functional.normalize``."""
    if p != 2 or out is not None:
        return F.normalize(input, p, dim, eps, out)
    return input / _norm(input, dim, True).clamp_min(eps).expand_as(input)

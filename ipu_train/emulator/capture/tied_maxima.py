"""Maxima and minima with PopART's gradients, which go whole to every element that is one; torch's are shared or picked.

PopART: willow/src/popx/op/maxx.cpp, minx.cpp, reducemaxx.cpp, reduceminx.cpp and poolx.cpp, which asks for gradients
that are not scaled (PopLibs, include/popnn/Pooling.hpp and lib/popnn/codelets/MaxPoolingGrad.cpp).
"""

import itertools
import math
from typing import Any, List, Sequence, Tuple, Union

import torch
import torch.nn.functional as F

_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class _Pairwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, largest: bool) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        ctx.largest = largest
        return torch.maximum(x, y) if largest else torch.minimum(x, y)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, y = ctx.saved_tensors
        of_x, of_y = (x >= y, y >= x) if ctx.largest else (x <= y, y <= x)
        return (gradient * of_x).sum_to_size(x.shape), (gradient * of_y).sum_to_size(y.shape), None


class _Reduced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, largest: bool, dim: Any, keepdim: bool) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.arguments = (largest, dim)
        return (torch.amax if largest else torch.amin)(x, dim, keepdim)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (x,), (largest, dim) = ctx.saved_tensors, ctx.arguments
        result = (torch.amax if largest else torch.amin)(x, dim, True)
        return gradient.reshape(result.shape) * (x == result), None, None, None


class _Pool(torch.autograd.Function):
    """Pools again on the way back rather than keep its result, which may have been changed in place by then."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, sizes: Sequence[List[int]], ceil_mode: bool) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.arguments = (sizes, ceil_mode)
        return _POOLS[len(sizes[0])](x, *sizes, ceil_mode)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (x,), (sizes, ceil_mode) = ctx.saved_tensors, ctx.arguments
        count = len(sizes[0])
        result = _POOLS[count](x, *sizes, ceil_mode)
        of_each_dim = list(zip(*sizes, x.shape[-count:], result.shape[-count:]))
        pads: List[int] = []
        for kernel, stride, pad, dilation, old, new in reversed(of_each_dim):
            pads += [pad, max(0, (new - 1) * stride + dilation * (kernel - 1) + 1 - old - pad)]
        padded = F.pad(x, pads, value=-math.inf)
        collected = torch.zeros_like(padded)
        for offsets in itertools.product(*(range(kernel) for kernel in sizes[0])):
            window: Tuple[Any, ...] = (...,)
            for offset, (_, stride, _, dilation, _, new) in zip(offsets, of_each_dim):
                first = offset * dilation
                window += (slice(first, first + (new - 1) * stride + 1, stride),)
            collected[window] += gradient * (padded[window] == result)
        inside: Tuple[Any, ...] = (...,)
        for _, _, pad, _, old, _ in of_each_dim:
            inside += (slice(pad, pad + old),)
        return collected[inside].contiguous(), None, None


def pairwise_extreme(x: torch.Tensor, y: torch.Tensor, largest: bool) -> torch.Tensor:
    """The larger or smaller of two elements each; both have the gradient where they are equal."""
    return _Pairwise.apply(x, y, largest)


def reduced_extreme(x: torch.Tensor, largest: bool, dim: Any, keepdim: bool) -> torch.Tensor:
    """The largest or smallest of some dimensions (none: of all), with the gradient of each that is it."""
    return _Reduced.apply(x, largest, dim, keepdim)


def max_pool(
    dimensions: int,
    input: torch.Tensor,
    kernel_size: Union[int, Sequence[int]],
    stride: Union[int, Sequence[int], None] = None,
    padding: Union[int, Sequence[int]] = 0,
    dilation: Union[int, Sequence[int]] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> torch.Tensor:
    """``torch.nn.functional.max_pool1d``, ``2d`` or ``3d``, of which each maximum in a window has its gradient."""
    given = (kernel_size, kernel_size if stride is None or stride in ([], ()) else stride, padding, dilation)
    sizes = [list(v) if isinstance(v, (list, tuple)) else [v] for v in given]
    return _Pool.apply(input, [v * dimensions if len(v) == 1 else v for v in sizes], ceil_mode)

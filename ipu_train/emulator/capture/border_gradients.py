"""Functions whose gradient torch's versions and PopART have differently exactly where two pieces of them meet.

PopTorch: poptorch/source/popart_canonicalization/ArithmeticOps.cpp, clampHandler, varHandler and stdHandler. PopART:
willow/src/popx/op/maxx.cpp, minx.cpp and leakyrelux.cpp.
"""

from typing import Any, Callable, Optional, Tuple, Union

import torch
import torch.nn.functional as F

from .tied_maxima import pairwise_extreme

Bound = Union[int, float, torch.Tensor, None]


class _Masked(torch.autograd.Function):
    """What ``compute`` makes of ``x``, with a gradient of ``factor``."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor], factor: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(factor)
        return compute(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return gradient * ctx.saved_tensors[0], None, None


def clamp(input: torch.Tensor, min: Bound = None, max: Bound = None) -> torch.Tensor:
    """``torch.clamp``: values at a bound have a gradient, as in torch 2.0.1 and not in its newest versions."""
    bounds = [bound for bound in (min, max) if isinstance(bound, torch.Tensor)]
    if not input.is_floating_point() or any(bound.dtype != input.dtype for bound in bounds):
        return torch.clamp(input, min, max)
    if bounds:
        low, high = (
            b if b is None or isinstance(b, torch.Tensor) else input.new_full((), b) for b in (min, max)
        )
        above = input if low is None else pairwise_extreme(input, low, True)
        return above if high is None else pairwise_extreme(above, high, False)
    inside = torch.ones_like(input, dtype=torch.bool)
    if min is not None:
        inside &= input >= min
    if max is not None:
        inside &= input <= max
    return _Masked.apply(input, lambda x: torch.clamp(x, min, max), inside)


def clamp_min(input: torch.Tensor, min: Bound) -> torch.Tensor:
    """``torch.clamp_min``."""
    return clamp(input, min)


def clamp_max(input: torch.Tensor, max: Bound) -> torch.Tensor:
    """``torch.clamp_max``."""
    return clamp(input, None, max)


def leaky_relu(input: torch.Tensor, negative_slope: float = 0.01, inplace: bool = False) -> torch.Tensor:
    """``torch.nn.functional.leaky_relu``, whose slope is 1 at 0."""
    if inplace:
        return F.leaky_relu(input, negative_slope, True)
    slope = torch.where(input.detach() < 0, negative_slope, 1.0)
    return _Masked.apply(input, lambda x: x * slope, slope)


def std(*args: Any, **kwargs: Any) -> torch.Tensor:
    """``torch.std``: the root of a variance, whose gradient where that is 0 is no number."""
    return torch.var(*args, **kwargs).sqrt()


def std_mean(*args: Any, **kwargs: Any) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
    """``torch.std_mean``."""
    variance, mean = torch.var_mean(*args, **kwargs)
    return variance.sqrt(), mean

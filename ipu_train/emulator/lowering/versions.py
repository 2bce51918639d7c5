"""Where newer versions of torch compose functions differently than torch 2.0.1, which PopTorch 3.4 is built on."""

from typing import Any, Callable, Dict, Optional

import torch
import torch.nn.functional as F

from .shadow import Shadow, Unsupported

# What torch.nn.functional and torch have since torch 2.0.1: no program for PopTorch 3.4 can call it.
_NEWER = frozenset(
    ["rms_norm", "grouped_mm", "scaled_mm", "scaled_grouped_mm", "hash_tensor", "unravel_index"]
)


def since_torch_2_0(name: str) -> Optional[str]:
    """Why torch 2.0.1 does not have a function, to follow its name in a sentence; None when it does."""
    return "does not exist in torch 2.0.1, which PopTorch 3.4 works with" if name in _NEWER else None


def _convolution(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A convolution as torch 2.0.1 has it in one and three dimensions: it leaves the dtype of the bias to PopTorch."""

    def convolution(
        x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor] = None, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if bias is not None and bias.dtype != x.dtype:
            bias = Shadow(bias.shape, x.dtype)
        return function(x, weight, bias, *args, **kwargs)

    return convolution


def linear(x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor] = None) -> torch.Tensor:
    """As torch 2.0.1, which adds a bias in place except where it has a fused operator for two or three dimensions."""
    if bias is None or x.dim() in (2, 3):
        return F.linear(x, weight, bias)
    product = F.linear(x, weight)
    plain = Shadow(product.shape, product.dtype)  # of a vector, too: torch squeezes it in place
    return torch.ops.aten.add_.Tensor(plain, bias)


def cross_entropy(
    x: torch.Tensor,
    target: torch.Tensor,
    weight: Optional[torch.Tensor] = None,
    size_average: Optional[bool] = None,
    ignore_index: int = -100,
    reduce: Optional[bool] = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """As torch 2.0.1, which averages smoothed losses over those that a mask selects.

    Raises:
        Unsupported: the mean of smoothed losses of class indices.
    """
    if label_smoothing and reduction == "mean" and weight is None and not target.is_floating_point():
        raise Unsupported(
            "averages smoothed labels over a mask (label_smoothing), a result whose shape depends on values: use "
            'reduction="none" and average it'
        )
    if label_smoothing and not target.is_floating_point() and reduction in ("none", "sum"):
        logs = F.log_softmax(x, 1)
        loss = F.nll_loss(logs, target, weight, None, ignore_index, None, reduction)
        smooth = (-logs.sum(1)).masked_fill(target == ignore_index, 0.0)
        smooth = smooth.sum() if reduction == "sum" else smooth
        return loss * (1.0 - label_smoothing) + smooth * (label_smoothing / x.shape[1])
    return F.cross_entropy(x, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing)


def number_to_the_power(x: torch.Tensor, base: float) -> torch.Tensor:
    """``base ** x``, for which torch 2.0.1 makes a tensor of the number first."""
    return torch.pow(base, x)


def _first_operand_decides(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A product as torch 2.0.1 has it: of mixed operands, with the dtype of the first."""

    def product(x: torch.Tensor, y: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if x.dtype != y.dtype and x.dim() and y.dim():
            y = Shadow(y.shape, x.dtype)
        return function(x, y, *args, **kwargs)

    return product


# Operators of newer versions, and what torch 2.0.1 calls in their place for weights that are trained
RENAMED = {"_embedding_bag_forward_only": "_embedding_bag"}
AS_IN_TORCH_2_0: Dict[str, Callable[..., Any]] = {
    "conv1d": _convolution(torch.conv1d),
    "conv3d": _convolution(torch.conv3d),
    "__rpow__": number_to_the_power,
    "cross_entropy": cross_entropy,
    "linear": linear,
    "inner": _first_operand_decides(torch.inner),
    "tensordot": _first_operand_decides(torch.tensordot),
}

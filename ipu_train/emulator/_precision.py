"""float16 as an IPU would store it, on float32 arithmetic.

The IPU computes most float16 operations with wider accumulation and rounds when it stores the result, so the emulator
does each operation in float32 and rounds its output to float16; the gradient of a float16 tensor is stored as float16
too and is rounded on its way back. With stochastic rounding the direction of each rounding is drawn at random with
the probability that makes it unbiased (Graphcore, "AI float: mixed precision arithmetic", stochastic rounding).
"""

from typing import Any, Callable, Optional, Sequence

import torch

HALF_MAX = 65504.0  # largest finite float16
_MANTISSA_DROPPED = 13  # float32 has 23 mantissa bits, float16 has 10
_DROPPED_MASK = (1 << _MANTISSA_DROPPED) - 1
_SMALLEST_NORMAL = 2.0**-14  # below it float16 has a fixed spacing of 2**-24


def round_nearest(x: torch.Tensor) -> torch.Tensor:
    """``x`` (float32, any shape) rounded to the nearest float16 value, ties to even; beyond 65504 it is inf."""
    return x.to(torch.float16).to(torch.float32)


def round_in_place(x: torch.Tensor) -> None:
    """Round a parameter, buffer or optimizer state that the device stores as float16, where it lies."""
    with torch.no_grad():
        x.copy_(round_nearest(x))


def round_stochastic(x: torch.Tensor, generator: Optional[torch.Generator] = None) -> torch.Tensor:
    """``x`` (float32, any shape) rounded up or down to float16 at random, unbiased; saturates at +-65504.

    Adding uniform bits below the float16 mantissa and truncating rounds up with probability equal to the distance
    to the lower neighbour. Subnormal results have a fixed spacing, so they are rounded by adding uniform noise.
    """
    # one call fills 8 bytes at a time: several times faster than drawing 13-bit integers one by one
    words = (x.numel() + 3) // 4
    noise = torch.empty(words, dtype=torch.int64, device=x.device).random_(generator=generator)
    noise = noise.view(torch.int16)[: x.numel()].view(x.shape).to(torch.int32).bitwise_and_(_DROPPED_MASK)
    bits = x.contiguous().view(torch.int32)
    rounded = (bits + noise).bitwise_and_(~_DROPPED_MASK).view(torch.float32)
    small = x.abs() < _SMALLEST_NORMAL
    if bool(small.any()):
        steps = x * 2.0**24 + (noise.to(torch.float32) / (_DROPPED_MASK + 1))
        rounded = torch.where(small, steps.floor() * 2.0**-24, rounded)
    rounded = torch.where(torch.isfinite(x), rounded.clamp_(-HALF_MAX, HALF_MAX), x)
    return rounded


def make_rounding(
    stochastic: bool, generator: Optional[torch.Generator]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A differentiable function that rounds its input to float16, and the gradient of its output likewise."""
    if stochastic:

        def rounding(x: torch.Tensor) -> torch.Tensor:
            return round_stochastic(x, generator)
    else:
        rounding = round_nearest

    class RoundToHalf(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return rounding(x)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return rounding(gradient)

    def round_to_half(x: torch.Tensor) -> torch.Tensor:
        return RoundToHalf.apply(x)

    return round_to_half


# Operations whose weight-like operands are cast to the dtype of the activation (their first argument).
ACTIVATION_DECIDES = frozenset(
    [
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "linear", "matmul", "__matmul__", "bmm", "mm", "addmm", "baddbmm", "mv", "dot", "bilinear",
        "batch_norm", "group_norm", "layer_norm", "instance_norm", "prelu", "serializedMatMul",
        "norm_proxy_norm_act",
    ]
)  # fmt: skip

# Operations that only move, select or drop values: a float16 input gives an exact float16 output.
EXACT = frozenset(
    [
        "view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "squeeze", "unsqueeze", "ravel",
        "transpose", "permute", "t", "movedim", "swapaxes", "swapdims", "moveaxis", "mT", "T", "contiguous",
        "expand", "expand_as", "broadcast_to", "repeat", "tile", "narrow", "select", "chunk", "split", "unbind",
        "tensor_split", "__getitem__", "index_select", "gather", "take_along_dim", "take", "cat", "concat", "stack",
        "hstack", "vstack", "dstack", "pad", "constant_pad_nd", "roll", "flip", "clone", "detach", "detach_", "alias",
        "relu", "relu_", "threshold", "relu6", "hardtanh", "max_pool1d", "max_pool2d", "max_pool3d",
        "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "neg", "negative", "abs", "sign",
        "max", "min", "amax", "amin", "maximum", "minimum", "sort", "topk", "where", "masked_fill", "masked_fill_",
        "zeros_like", "ones_like", "new_zeros", "new_ones", "zero_", "tril", "triu", "diagonal", "unfold", "as_strided",
        "requires_grad_", "nop", "recomputationCheckpoint", "set_available_memory", "set_overlap_for_input",
        "set_overlap_for_output", "ipu_print_tensor", "floor", "ceil", "round", "trunc", "identity", "embedding",
        "dynamic_slice", "dynamic_update", "masked_select", "scatter", "index_copy",
    ]
)  # fmt: skip


def result_is_half(name: str, half: Sequence[bool], dims: Sequence[int]) -> bool:
    """Whether an operation on floating tensors gives float16.

    ``half`` and ``dims`` hold, for every floating tensor operand in order, whether the device has it as float16 and
    its number of dimensions. Where weights follow the activation, the first operand decides; otherwise torch's
    promotion holds, by which a 0-dim operand yields to one with dimensions (PopTorch 3.4 user guide, "Half / float16
    support": mixed element-wise operands give float32).
    """
    if not half:
        return False
    if name in ACTIVATION_DECIDES:
        return half[0]
    with_dims = [h for h, d in zip(half, dims) if d > 0]
    return all(with_dims) if with_dims else all(half)

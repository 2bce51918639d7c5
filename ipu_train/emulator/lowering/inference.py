"""Results of operators that torch cannot infer, or infers otherwise in its newer versions than in torch 2.0.1.

Those that PopTorch infers itself are in its dispatch_tracer/RegisterMetaOps.cpp.inc.
"""

import functools
import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch

from .shadow import Shadow


def _without(shape: Sequence[int], dims: Sequence[int], keepdim: bool = False) -> List[int]:
    gone = {dim % max(1, len(shape)) for dim in dims}
    return [1 if i in gone else n for i, n in enumerate(shape) if keepdim or i not in gone]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)


def nll_loss2d(
    x: Shadow, target: Shadow, weight: Any, reduction: int, ignore_index: int
) -> Tuple[Shadow, Shadow]:
    shape = [] if reduction else [n for i, n in enumerate(x.shape) if i != 1]
    return Shadow(shape, x.dtype), Shadow((), x.dtype)


def ctc_loss(
    log_probs: Shadow, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: int = 1,
    zero_infinity: bool = False,
) -> Shadow:  # fmt: skip
    return Shadow(log_probs.shape[1:2] if reduction == 0 and log_probs.dim() == 3 else (), log_probs.dtype)


def bincount(x: Shadow, weights: Optional[Shadow] = None, minlength: int = 0) -> Shadow:
    _check(minlength > 0, "Bincount `minlength` must be specified and must be a constant.")
    return Shadow([minlength], torch.int32 if weights is None else weights.dtype)


def bucketize(x: Shadow, boundaries: Shadow, out_int32: bool = False, right: bool = False) -> Shadow:
    return Shadow(x.shape, torch.int32)


def median(x: Shadow) -> Shadow:
    return Shadow((), x.dtype)


def median_dim(x: Shadow, dim: int, keepdim: bool = False) -> Tuple[Shadow, Shadow]:
    shape = _without(x.shape, [dim], keepdim)
    return Shadow(shape, x.dtype), Shadow(shape, torch.int32)


def count_nonzero(x: Shadow, dim: Sequence[int]) -> Shadow:
    dims = [d % max(1, x.dim()) for d in dim]
    _check(len(set(dims)) == len(dims), "The dimensions to count must be unique")
    # the lowering sums integers over all of them, whatever type inference says
    return Shadow(_without(x.shape, dims) if dims else (), torch.int32)


def count_nonzero_in(x: Shadow, dim: Optional[int] = None) -> Shadow:
    return count_nonzero(x, () if dim is None else (dim,))


def one_hot(x: Shadow, num_classes: int = -1) -> Shadow:
    _check(num_classes != -1, "OneHot num classes must be specified and must be constant.")
    return Shadow([*x.shape, num_classes], x.dtype)


def max_pool3d(
    x: Shadow, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,), ceil_mode: bool = False,
) -> Shadow:  # fmt: skip
    size = [
        list(v) * (3 if len(v) == 1 else 1) for v in (kernel_size, stride or kernel_size, padding, dilation)
    ]
    _check(x.dim() in (4, 5), f"The kernel size (3) must be 1 or 2 less than the input rank ({x.dim()})")
    shape = list(x.shape)
    for i in range(3):
        kernel, step, pad, spread = (values[i] for values in size)
        length = (shape[x.dim() - 3 + i] + 2 * pad - spread * (kernel - 1) - 1) / step + 1
        shape[x.dim() - 3 + i] = math.ceil(length) if ceil_mode else math.floor(length)
    return Shadow(shape, x.dtype)


def first(x: Shadow, *args: Any, **kwargs: Any) -> Shadow:
    return Shadow(x.shape, x.dtype)


def nonzero(x: Shadow) -> Shadow:
    raise RuntimeError(
        "Operations using aten::nonzero are unsupported because the output shape is determined by the tensor values. "
        "The IPU cannot support dynamic output shapes."
    )


def _promoted(*tensors: Optional[Shadow]) -> torch.dtype:
    return functools.reduce(torch.promote_types, [tensor.dtype for tensor in tensors if tensor is not None])


def _on_meta(*tensors: Shadow) -> List[torch.Tensor]:
    """Tensors of these shapes in one dtype, to let torch check that shapes go together."""
    return [torch.empty(tensor.shape, device="meta") for tensor in tensors]


# Matrix products of mixed operands: newer versions of torch refuse them, torch 2.0.1 infers one operand's dtype.


def mm(a: Shadow, b: Shadow) -> Shadow:
    return Shadow(torch.mm(*_on_meta(a, b)).shape, a.dtype)


def bmm(a: Shadow, b: Shadow) -> Shadow:
    return Shadow(torch.bmm(*_on_meta(a, b)).shape, b.dtype)


def mv(matrix: Shadow, vector: Shadow) -> Shadow:
    return Shadow(torch.mv(*_on_meta(matrix, vector)).shape, _promoted(matrix, vector))


def dot(a: Shadow, b: Shadow) -> Shadow:
    return Shadow(torch.dot(*_on_meta(a, b)).shape, a.dtype)


def addmv(x: Shadow, matrix: Shadow, vector: Shadow, **factors: Any) -> Shadow:
    return Shadow(torch.addmv(*_on_meta(x, matrix, vector)).shape, vector.dtype)


def addmm(x: Shadow, a: Shadow, b: Shadow, **factors: Any) -> Shadow:
    _check(x.dtype == b.dtype, "self and mat2 must have the same dtype")
    _check(a.dtype == b.dtype, "mat1 and mat2 must have the same dtype")
    return Shadow(torch.addmm(*_on_meta(x, a, b)).shape, b.dtype)


def baddbmm(x: Shadow, a: Shadow, b: Shadow, **factors: Any) -> Shadow:
    return Shadow(torch.baddbmm(*_on_meta(x, a, b)).shape, b.dtype)


def bilinear(a: Shadow, b: Shadow, weight: Shadow, bias: Optional[Shadow] = None) -> Shadow:
    return Shadow(torch.bilinear(*_on_meta(a, b, weight)).shape, _promoted(a, bias))


def bce_with_logits(
    x: Shadow, target: Shadow, weight: Optional[Shadow] = None, pos_weight: Optional[Shadow] = None, reduction: int = 1
) -> Shadow:  # fmt: skip
    shape = torch.broadcast_shapes(*[t.shape for t in (x, target, weight, pos_weight) if t is not None])
    return Shadow(() if reduction else shape, _promoted(x, target, weight, pos_weight))


def normal(mean: Shadow, std: Shadow, generator: Any = None) -> Shadow:
    return Shadow(torch.broadcast_shapes(mean.shape, std.shape), mean.dtype)


def weight_norm(v: Shadow, g: Shadow, dim: int = 0) -> Tuple[Shadow, Shadow]:
    """``v * (g / |v|)``; only that is used of the two results."""
    shape = torch.broadcast_shapes(v.shape, g.shape)
    return Shadow(shape, _promoted(v, g)), Shadow(g.shape, g.dtype)


def index_reduce(
    x: Shadow, dim: int, index: Shadow, source: Shadow, reduce: str, include_self: bool = True
) -> Shadow:
    _check(x.dtype == source.dtype, "index_reduce_(): self and source must have the same scalar type")
    return x


INFERENCE: Dict[str, Callable[..., Any]] = {
    "mm": mm,
    "bmm": bmm,
    "mv": mv,
    "dot": dot,
    "addmv": addmv,
    "addmm": addmm,
    "baddbmm": baddbmm,
    "bilinear": bilinear,
    "binary_cross_entropy_with_logits": bce_with_logits,
    "normal.Tensor_Tensor": normal,
    "_weight_norm_interface": weight_norm,
    "index_reduce": index_reduce,
    "index_reduce_": index_reduce,
    "nll_loss2d_forward": nll_loss2d,
    "ctc_loss.IntList": ctc_loss,
    "ctc_loss.Tensor": ctc_loss,
    "bincount": bincount,
    "bucketize.Tensor": bucketize,
    "median": median,
    "median.dim": median_dim,
    "count_nonzero": count_nonzero_in,
    "count_nonzero.dim_IntList": count_nonzero,
    "one_hot": one_hot,
    "max_pool3d": max_pool3d,
    "rrelu_with_noise": first,
    "nonzero": nonzero,
}

"""Arguments that PopTorch's lowerings refuse, operator by operator.

Each rule names the file of ``poptorch/source/popart_canonicalization`` that it is read off.
"""

from typing import Any, Callable, Dict, Optional, Tuple

import torch

from .otherwise import Otherwise
from .pooling import adaptive_pooling, average_pooling, max_pooling
from .resizing import bicubic, bilinear, nearest

Arguments = Tuple[Any, ...]


def _argument(args: Arguments, kwargs: Dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _class_weights(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # LossOps.cpp
    if _argument(args, kwargs, 2, "weight") is not None:
        return (
            'is given weight: parameter "weight" is unsupported. Compute the loss with reduction="none" and multiply '
            "it by the weight of each class instead"
        )
    return None


def _ctc(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # LossOps.cpp
    if _argument(args, kwargs, 5, "reduction", 1) == 0:
        return 'has reduction="none", which is currently not supported'
    return None


def _bitwise(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # BitwiseOps.cpp
    dtypes = [value.dtype for value in args if isinstance(value, torch.Tensor)]
    if any(dtype.is_floating_point for dtype in dtypes):
        return "supports only bool and integer types"
    if dtypes and all(dtype in (torch.int8, torch.uint8) for dtype in dtypes):
        return "has operands of 8 bits, which Poplar does not support"
    return None


def _add(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # ArithmeticOps.cpp
    operands = [value for value in args[:2] if isinstance(value, torch.Tensor)]
    booleans = len(operands) == 2 and all(value.dtype == torch.bool for value in operands)
    if booleans and _argument(args, kwargs, 2, "alpha", 1) != 1:
        return "adds booleans with an alpha that is not 1"
    return None


def _embedding(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # EmbeddingOps.cpp
    if _argument(args, kwargs, 3, "scale_grad_by_freq", False) or _argument(args, kwargs, 4, "sparse", False):
        return "has scale_grad_by_freq or sparse gradients, which are unsupported"
    return None


def _embedding_bag(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # EmbeddingOps.cpp
    if _argument(args, kwargs, 3, "scale_grad_by_freq", False) or _argument(args, kwargs, 5, "sparse", False):
        return "has scale_grad_by_freq or sparse gradients, which are unsupported"
    padding = _argument(args, kwargs, 8, "padding_idx", -1)
    if padding is not None and padding >= 0:
        return "has padding_idx, which is unsupported"
    if not getattr(args[2], "constant", True):
        return "has offsets that are no constant"
    return None


def _triu(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # TensorOps.cpp
    return "is only supported within constant expressions, for example torch.ones(3, 3).triu_()"


def _as_strided(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # ReshapeOps.cpp
    return "is not supported: take the view with slices, reshapes and transpositions"


def _only_nearest(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # ReshapeOps.cpp
    return "is an unsupported upsample mode: for sequences and volumes currently only 'nearest' is supported"


def _im2col(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # ReshapeOps.cpp
    return "needs an input of four dimensions" if args[0].dim() != 4 else None


def _norm_parameters(weight: int, bias: int) -> Callable[..., Optional[str]]:  # NormalizationOps.cpp
    def rule(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:
        given = [
            _argument(args, kwargs, position, name) is not None
            for position, name in ((weight, "weight"), (bias, "bias"))
        ]
        return "needs both weight and bias, or neither" if given[0] != given[1] else None

    return rule


def _batch_norm(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # NormalizationOps.cpp
    if (_argument(args, kwargs, 3, "running_mean") is None) != (
        _argument(args, kwargs, 4, "running_var") is None
    ):
        return "needs both running statistics, or neither"
    return _norm_parameters(1, 2)(key, args, kwargs)


def _dropout(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # DropoutOps.cpp
    if _argument(args, kwargs, 2, "train", False) and _argument(args, kwargs, 1, "p", 0.5) >= 1:
        return "drops all: PopART's ratio is in the interval [0, 1). Use torch.zeros_like"
    return None


def _feature_dropout(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # DropoutOps.cpp
    if _argument(args, kwargs, 2, "train", False) and args[0].dim() < 2:
        return "requires at least 2 dimensions in the input"
    return _dropout(key, args, kwargs)


def _div(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # AtenHandlers.gen.cpp
    rounding = _argument(args, kwargs, 2, "rounding_mode")
    if any(isinstance(x, float) or _is_floating(x) for x in args[:2]):
        if rounding is None:
            return None
        return Otherwise(
            f"has rounding_mode={rounding!r}, which PopTorch ignores: use torch.{rounding} of the quotient"
        )
    if rounding == "trunc" and all(x.dtype == torch.int32 for x in args[:2] if isinstance(x, torch.Tensor)):
        return None
    return Otherwise(
        "divides integers, which PopART does as integers, towards zero, whatever is asked for: divide x.float(), or "
        'say rounding_mode="trunc" for a quotient of int32'
    )


def _variance(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # ArithmeticOps.cpp
    correction = kwargs.get("correction")
    if correction in (None, 0, 1):
        return None
    return Otherwise(f"has correction={correction}, which PopTorch takes for 1")


def _floor_divide(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # ArithmeticOps.cpp
    if any(isinstance(x, float) or _is_floating(x) for x in args[:2]):
        return None
    # poplibs, lib/popops/codelets/elemwiseUnaryCodelets.cpp
    return Otherwise(
        'takes the floor of integers, which Poplar does not have: say torch.div(..., rounding_mode="trunc"), which '
        "rounds towards zero"
    )


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _index_put(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # IndexOps.cpp
    if _argument(args, kwargs, 3, "accumulate", False):
        return Otherwise("has accumulate=True, which PopTorch ignores: use scatter_add")
    return None


def _topk(
    key: str, args: Arguments, kwargs: Dict[str, Any]
) -> Optional[str]:  # user guide, supported operations
    return (
        "has sorted=False, which is not supported" if not _argument(args, kwargs, 4, "sorted", True) else None
    )


def _convolution(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # user guide
    if args[6] and any(dilation != 1 for dilation in args[5]):
        return "is a transposed convolution with dilation, which the IPU does not support"
    return None


def _recurrent(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:  # RNNOps.cpp
    has_biases, layers, dropout, _, bidirectional = args[3:8]
    if layers > 1 or dropout or bidirectional:
        return "has several layers, dropout or two directions: the IPU supports one layer in one direction"
    return None if has_biases else "has no biases, which is not supported"


RULES: Dict[str, Callable[..., Optional[str]]] = {
    "nll_loss_forward": _class_weights,
    "nll_loss2d_forward": _class_weights,
    "nll_loss_nd": _class_weights,
    "cross_entropy_loss": _class_weights,
    "ctc_loss": _ctc,
    "bitwise_and": _bitwise,
    "bitwise_or": _bitwise,
    "bitwise_xor": _bitwise,
    "bitwise_not": _bitwise,
    "__and__": _bitwise,
    "__or__": _bitwise,
    "__xor__": _bitwise,
    "add": _add,
    "embedding": _embedding,
    "embedding_bag": _embedding_bag,
    "_embedding_bag": _embedding_bag,
    "adaptive_avg_pool1d": adaptive_pooling,
    "adaptive_avg_pool2d": adaptive_pooling,
    "adaptive_avg_pool3d": adaptive_pooling,
    "avg_pool2d": average_pooling,
    "avg_pool3d": average_pooling,
    "max_pool1d": max_pooling,
    "max_pool2d": max_pooling,
    "max_pool3d": max_pooling,
    "max_pool2d_with_indices": max_pooling,
    "triu": _triu,
    "as_strided": _as_strided,
    "upsample_linear1d": _only_nearest,
    "upsample_trilinear3d": _only_nearest,
    "upsample_nearest1d": nearest,
    "upsample_nearest2d": nearest,
    "upsample_nearest3d": nearest,
    "upsample_bilinear2d": bilinear,
    "upsample_bicubic2d": bicubic,
    "im2col": _im2col,
    "native_batch_norm": _batch_norm,
    "native_layer_norm": _norm_parameters(2, 3),
    "native_group_norm": _norm_parameters(1, 2),
    "dropout": _dropout,
    "feature_dropout": _feature_dropout,
    "div": _div,
    "floor_divide": _floor_divide,
    "var": _variance,
    "var_mean": _variance,
    "std": _variance,
    "std_mean": _variance,
    "index_put": _index_put,
    "topk": _topk,
    "convolution": _convolution,
    "lstm": _recurrent,
}


def why_arguments(name: str, key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:
    """Why the lowering of ``name`` refuses these arguments, to follow its name in a sentence; None when it does not."""
    rule = RULES.get(name)
    return rule(key, args, kwargs) if rule is not None else None

"""Operators that PopTorch and PopART compute otherwise than torch, as they compute them.

Each names the sources of PopTorch (``poptorch/source/popart_canonicalization``), PopART (``willow/src``) or PopLibs
that it is read off.
"""

import functools
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F

from .._logging import logger
from .euclidean_norms import norm, normalize, vector_norm
from .refusals import caller_location
from .tied_maxima import max_pool, pairwise_extreme, reduced_extreme

Call = Tuple[Callable[..., Any], Tuple[Any, ...], Dict[str, Any]]


def gelu(input: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """By tanh, whatever is asked for (ActivationOps.cpp; PopLibs, lib/popnn/codelets/NonLinearity.hpp)."""
    return F.gelu(input, approximate="tanh")


def log_sigmoid(input: torch.Tensor) -> torch.Tensor:
    """The logarithm of a sigmoid that may be zero by then (AtenHandlers.gen.cpp)."""
    return torch.sigmoid(input).log()


def binary_cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: Optional[torch.Tensor] = None,
    size_average: Optional[bool] = None,
    reduce: Optional[bool] = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """Without torch's bound of -100 for logarithms (LossOps.cpp): not finite where a probability is 0 or 1.

    Raises:
        ValueError: as torch's, of targets with another shape.
    """
    if size_average is not None or reduce is not None:
        reduction = F._Reduction.legacy_get_string(size_average, reduce)
    if target.shape != input.shape:
        return F.binary_cross_entropy(input, target, weight, reduction=reduction)
    loss = -(target * input.log() + (1 - target) * (1 - input).log())
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


class MeanOfLabels:
    """A mean over the images whose label is not ignored: 0 where there are none (popx/op/nllx.cpp), not NaN."""

    def __init__(self, function: Callable[..., torch.Tensor], ignore_index: int) -> None:
        self.function = function
        self.ignore_index = ignore_index
        self.__name__ = getattr(function, "__name__", "nll_loss")

    def __call__(self, input: torch.Tensor, target: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = self.function(input, target, *args, **kwargs)
        if target.is_floating_point():
            return loss
        return torch.where((target != self.ignore_index).any(), loss, torch.zeros_like(loss))


def _mean_of_labels(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Call:
    """``nll_loss`` and ``cross_entropy(input, target, weight, size_average, ignore_index, reduce, reduction)``."""
    given = {
        **dict(zip(("weight", "size_average", "ignore_index", "reduce", "reduction"), args[2:])),
        **kwargs,
    }
    if given.get("reduction", "mean") != "mean" or len(args) < 2:
        return func, args, kwargs
    return MeanOfLabels(func, given.get("ignore_index", -100)), args, kwargs


def _without_dropout(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Call:
    """Dropout in an inference model, which is an identity in any mode (PopART, popx/op/dropoutx.cpp)."""
    names = [name for name in ("training", "train") if name in kwargs]
    if kwargs[names[0]] if names else args[2] if len(args) > 2 else True:
        logger.warning(
            "dropout at %s keeps everything: it does nothing in inference models", caller_location()
        )
    if names:
        return func, args, {**kwargs, names[0]: False}
    if len(args) > 2:
        return func, (*args[:2], False, *args[3:]), kwargs
    return func, args, {**kwargs, "training": False}


_TRAINING: Dict[str, Callable[..., torch.Tensor]] = {
    "max_pool1d": functools.partial(max_pool, 1),
    "max_pool2d": functools.partial(max_pool, 2),
    "max_pool3d": functools.partial(max_pool, 3),
    "norm": norm,
    "vector_norm": vector_norm,
    "linalg_vector_norm": vector_norm,
    "normalize": normalize,
}
_DROPOUTS = frozenset(
    [
        "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "dropout_", "feature_dropout_",
    ]
)  # fmt: skip
_ANYWHERE: Dict[str, Callable[..., torch.Tensor]] = {
    "gelu": gelu,
    "logsigmoid": log_sigmoid,
    "log_sigmoid": log_sigmoid,
    "binary_cross_entropy": binary_cross_entropy,
}


def as_on_popart(func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any], training: bool) -> Call:
    """The call of a function of torch's by which the emulator computes what PopART does."""
    if name in _ANYWHERE:
        return _ANYWHERE[name], args, kwargs
    if name in ("nll_loss", "cross_entropy"):
        return _mean_of_labels(func, args, kwargs)
    if not training:
        return _without_dropout(func, args, kwargs) if name in _DROPOUTS else (func, args, kwargs)
    if name in _TRAINING:
        return _TRAINING[name], args, kwargs
    return _extreme(func, name, args, kwargs)


def _extreme(func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Call:
    """Maxima and minima of two tensors, or of all that is in one or in some of its dimensions."""
    largest = name in ("max", "amax", "maximum")
    if not (largest or name in ("min", "amin", "minimum")) or not _floating(args[:1]):
        return func, args, kwargs
    given = {**kwargs}
    others = args[1:] + tuple(given.pop(key) for key in ("other",) if key in given)
    if others and isinstance(others[0], torch.Tensor):
        same = len(others) == 1 and not given and _floating(others) and others[0].dtype == args[0].dtype
        return (pairwise_extreme, (args[0], others[0], largest), {}) if same else (func, args, kwargs)
    if name in ("max", "min"):
        return (
            (func, args, kwargs) if others or given else (reduced_extreme, (args[0], largest, (), False), {})
        )
    dim, keepdim = _amax_arguments(others, given)
    if given:
        return func, args, kwargs
    return reduced_extreme, (args[0], largest, dim, keepdim), {}


def _amax_arguments(
    positional: Sequence[Any], given: Dict[str, Any]
) -> Tuple[Union[int, Tuple[int, ...], List[int]], bool]:
    dim = positional[0] if positional else given.pop("dim", ())
    keepdim = positional[1] if len(positional) > 1 else given.pop("keepdim", False)
    return dim, keepdim


def _floating(values: Sequence[Any]) -> bool:
    return bool(values) and isinstance(values[0], torch.Tensor) and values[0].is_floating_point()

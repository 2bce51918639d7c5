"""What PopTorch's lowerings return where that differs from what torch infers."""

from typing import Any, Dict, Sequence, Tuple

from .shadow import Shadow

_INDICES = "max pooling on the IPU does not return the indices of the maxima"
_STATISTICS = "batch norm on the IPU returns its result only"
_KEEP_SLICE_STEPS = frozenset(
    ["view", "_unsafe_view", "_reshape_alias", "reshape", "unsqueeze", "squeeze", "select", "detach"]
)


def results_of_lowering(
    name: str, key: str, args: Tuple[Any, ...], kwargs: Dict[str, Any], result: Any
) -> Any:
    """The inferred ``result`` of ATen's operator ``name`` with the shapes that its lowering gives."""
    if name in ("var_mean", "std_mean") and key.endswith("correction"):
        return _squeezed_mean(args, kwargs, result)
    if name.startswith("max_pool") and name.endswith("_with_indices"):
        result[1].absent = _INDICES
    elif name == "native_batch_norm":
        for statistic in result[1:]:
            if not args[5]:
                statistic.absent = _STATISTICS
    elif name == "slice" and isinstance(result, Shadow):
        step = args[4] if len(args) > 4 else kwargs.get("step", 1)
        result.subsampled = step != 1 or args[0].subsampled
    elif name in _KEEP_SLICE_STEPS and isinstance(result, Shadow) and args[0].subsampled:
        result.subsampled = True
    return result


def _squeezed_mean(args: Tuple[Any, ...], kwargs: Dict[str, Any], result: Any) -> Any:
    """``ArithmeticOps.cpp`` squeezes the reduced dimensions out of the mean, whatever keepdim says."""
    deviation, mean = result
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    rank = args[0].dim()
    reduced: Sequence[int] = range(rank) if dim is None else [d % rank for d in dim] if rank else []
    shape = [n for i, n in enumerate(args[0].shape) if i not in reduced]
    return deviation, Shadow(shape, mean.dtype)

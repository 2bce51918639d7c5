"""Arguments of pooling that PopTorch and PopART do not read, or read otherwise than torch.

PopTorch: poptorch/source/popart_canonicalization/PoolingOps.cpp. PopART: willow/src/op/receptive.cpp, maxpool.cpp,
averagepool.cpp and willow/src/popx/op/poolx.cpp.
"""

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .otherwise import Otherwise

Arguments = Tuple[Any, ...]
_SIZES = ("kernel_size", "stride", "padding")


def max_pooling(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:
    """``max_pool(x, kernel_size, stride, padding, dilation, ceil_mode)``."""
    names = (*_SIZES, "dilation", "ceil_mode")
    given = {**dict(zip(names, args[1:])), **kwargs}
    dilation = given.get("dilation", 1)
    if any(d != 1 for d in _list(dilation)):
        return "has dilation, which PopART's pooling does not compute with"
    return _rounded_up(args[0].shape, given) or _no_stride(given)


def average_pooling(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:
    """``avg_pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)``."""
    names = (*_SIZES, "ceil_mode", "count_include_pad", "divisor_override")
    given = {**dict(zip(names, args[1:])), **kwargs}
    if given.get("divisor_override") is not None:
        return Otherwise("has divisor_override, which PopTorch ignores: pool without it and multiply")
    rounded_up = _rounded_up(args[0].shape, given)
    padding = _list(given.get("padding", 0))
    if rounded_up is None and given.get("count_include_pad", True) and len(set(padding)) > 1:
        return Otherwise(
            f"counts padded zeros, and pads dimensions differently ({padding}), which PopTorch mixes up: pad with "
            "torch.nn.functional.pad before, or set count_include_pad=False"
        )
    return rounded_up or _no_stride(given)


def adaptive_pooling(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:
    """``adaptive_avg_pool(x, output_size)``."""
    sizes = _list(args[1] if len(args) > 1 else kwargs["output_size"])
    for index, (length, out) in enumerate(zip(args[0].shape[-len(sizes) :], sizes)):
        if out and length % out:
            return (
                f"cannot pool {length} to {out}: input dim {index} ({length}) is not divisible by the corresponding "
                f"output dim ({out})"
            )
    if len(args[0].shape) != len(sizes) + 2:
        return "has an input without a batch, of which PopART says: invalid kernel_shape"
    return None


def _no_stride(given: Dict[str, Any]) -> Optional[str]:
    """PopTorch counts the strides to see whether the input has a batch; torch hands it none where none is given."""
    if given.get("stride"):
        return None
    kernel = _list(given["kernel_size"])
    stride = str(kernel[0]) if len(set(kernel)) == 1 else str(tuple(kernel))
    return Otherwise(
        "is given no stride, which PopTorch takes for an input without a batch (PopART: invalid kernel_shape): say "
        f"stride={stride}, or use torch.nn's module, which does"
    )


def _rounded_up(shape: Sequence[int], given: Dict[str, Any]) -> Optional[str]:
    """With ceil_mode torch leaves out a last window that would begin beyond the input; PopART does not."""
    if not given.get("ceil_mode", False):
        return None
    kernels, strides, paddings = (_list(given.get(name, 0)) for name in _SIZES)
    strides, count = strides if given.get("stride") else kernels, len(kernels)
    paddings = paddings * count if len(paddings) == 1 else paddings
    for length, kernel, stride, padding in zip(shape[-count:], kernels, strides, paddings):
        last = math.ceil((length + 2 * padding - kernel) / stride)
        if last * stride >= length + padding:
            return (
                f"has ceil_mode=True and pools {length} to {last + 1} in PopART, where torch has {last}: leave "
                "ceil_mode out, or pad otherwise"
            )
    return None


def _list(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]

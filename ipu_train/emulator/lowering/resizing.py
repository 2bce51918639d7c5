"""Sizes that images cannot be scaled to, as PopTorch hands on a factor and PopART computes the size from it.

PopTorch: poptorch/source/popart_canonicalization/ReshapeOps.cpp, upsampleHandler and upsampleBilinear2dHandler;
popart_compiler/source/custom_operations/UpsampleBilinear2d.cpp. PopART: willow/src/op/resize.cpp.
"""

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

Arguments = Tuple[Any, ...]


def nearest(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:
    """``upsample_nearest(x, output_size, *scales)``."""
    return _resized(args[0], args[1], args[2:])


def bicubic(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:
    """``upsample_bicubic2d(x, output_size, align_corners, *scales)``."""
    if args[2] if len(args) > 2 else kwargs["align_corners"]:
        return "supports align_corners=False only"
    return _resized(args[0], args[1], args[3:])


def bilinear(key: str, args: Arguments, kwargs: Dict[str, Any]) -> Optional[str]:
    """``upsample_bilinear2d(x, output_size, align_corners, *scales)``: one factor, the height's, for both."""
    (height, width), (new_height, new_width) = args[0].shape[-2:], args[1]
    sizes = f"from {height} x {width} to {new_height} x {new_width}"
    if new_height * width != new_width * height:
        return (
            f"scales {sizes}: PopTorch scales both sides by the factor of the height, {new_height / height:g}"
        )
    for size, new, scale in zip((height, width), args[1], args[3:]):
        if not args[2] and scale is not None and size * scale != new:
            return (
                f"scales {sizes}, which is not {scale:g} times the size: PopTorch computes the factor from the sizes. "
                "Say recompute_scale_factor=True to do the same"
            )
    factor = bilinear_factor(height, new_height)
    made = [_times(size, factor) for size in (height, width)]
    if made != [new_height, new_width]:
        return f"scales {sizes} by {factor:.6f}, rounded, of which PopTorch makes {made[0]} x {made[1]}"
    return None


def bilinear_factor(size: int, new: int) -> np.float32:
    """The factor that PopTorch's own operator gets: as text with six digits behind the point."""
    return np.float32(f"{new / size:.6f}")


def why_no_bilinear_gradient(size: Sequence[int], new: Sequence[int], align_corners: bool) -> Optional[str]:
    """Why the gradient of scaling images of ``size`` to ``new`` cannot be had, or None."""
    factor = bilinear_factor(size[0], new[0])
    back = [int(np.floor(np.float32(n) / factor)) for n in new]
    if back != list(size):
        return f"its gradient would be {back[0]} x {back[1]}, not {size[0]} x {size[1]}"
    for old, made in zip(size, new):
        if len(_with_weight(old, made, align_corners)) != old:
            return f"pixels that nothing is taken from, as from {old} to {made}, have no gradient there"
    return None


def _with_weight(size: int, new: int, align_corners: bool) -> List[int]:
    """Which pixels of a row have part in the scaled row."""
    found = set()
    for index in range(new):
        if align_corners:
            at = index * (size - 1) / (new - 1) if new > 1 else 0.0
        else:
            at = max(0.0, (index + 0.5) * size / new - 0.5)
        found.add(min(size - 1, math.floor(at)))
        if at % 1 > 1e-6:
            found.add(min(size - 1, math.floor(at) + 1))
    return sorted(found)


def _resized(x: Any, output_size: Sequence[int], scales: Sequence[Any]) -> Optional[str]:
    for index, (size, new) in enumerate(zip(x.shape[2:], output_size)):
        scale = scales[index] if index < len(scales) else None
        factor = np.float32(new) / np.float32(size) if scale is None else np.float32(scale)
        if x.dtype == torch.float16:
            factor = np.float32(np.float16(factor))
        if _times(size, factor) != new:
            return f"scales {size} to {new} by {factor:.8g}, rounded, of which PopART makes {_times(size, factor)}"
    return None


def _times(size: int, factor: np.float32) -> int:
    return int(np.floor(np.float32(size) * factor))

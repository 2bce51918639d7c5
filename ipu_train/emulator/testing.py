"""``poptorch.testing``: compare what a device returned with what was expected."""

from typing import Any

import torch


def allclose(ref: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether two tensors, or two structures of them, agree within tolerance.

    Args:
        ref: tensor, or (nested) tuple or list of them.
        other: the same kind of thing; types and lengths must agree.
        rtol: relative tolerance.
        atol: absolute tolerance.
        equal_nan: NaN equals NaN.
    """
    if isinstance(ref, torch.Tensor):
        return (
            isinstance(other, torch.Tensor)
            and ref.shape == other.shape
            and torch.allclose(ref, other.to(ref.dtype), rtol=rtol, atol=atol, equal_nan=equal_nan)
        )
    if isinstance(ref, (tuple, list)):
        return (
            type(ref) is type(other)
            and len(ref) == len(other)
            and all(allclose(a, b, rtol, atol, equal_nan) for a, b in zip(ref, other))
        )
    return type(ref) is type(other) and ref == other

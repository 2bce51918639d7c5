"""Float16 beside float32 in one call, where that ends the compilation.

PopTorch's handlers cast the operands of most calls. Some calls never get that far: torch's own checks of shapes and
dtypes run first. ``linear`` with a bias arrives as ``addmm``, whose shape function wants one dtype, and ``conv1d`` to
``conv3d`` compare the bias with the input themselves. Source: PopTorch 3.4's dispatcher
(``RegisterOptionalAtenOps.cpp.inc``: ``addmm`` is not among what it takes whole) and torch 2.0.1
(``LinearAlgebra.cpp``, ``Convolution.cpp``).
"""

from typing import Any, Callable, Dict, Optional, Tuple

import torch

_PARAMETERS = {
    "linear": ("input", "weight", "bias"),
    "addmm": ("input", "mat1", "mat2"),
    "conv1d": ("input", "weight", "bias"),
    "conv2d": ("input", "weight", "bias"),
    "conv3d": ("input", "weight", "bias"),
}


def why_types_refused(
    name: str,
    args: Tuple[Any, ...],
    kwargs: Dict[str, Any],
    dtype_of: Callable[[torch.Tensor], torch.dtype],
) -> Optional[str]:
    """Why a call's mixture of dtypes cannot be compiled, to follow its name in a sentence; None when it can."""
    names = _PARAMETERS.get(name)
    if names is None:
        return None
    operands = dict(zip(names, args), **{key: kwargs[key] for key in names if key in kwargs})
    if not isinstance(operands.get(names[2]), torch.Tensor):
        return None  # without a bias, the weight is cast
    compared = names if name in ("linear", "addmm") else ("input", "bias")
    dtypes = {key: dtype_of(operands[key]) for key in compared}
    if len(set(dtypes.values())) == 1:
        return None
    listed = ", ".join(f"{key} {str(dtype).split('.')[-1]}" for key, dtype in dtypes.items())
    return f"has operands of several dtypes ({listed}), and torch refuses that: cast them to one"

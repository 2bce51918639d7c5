"""Floating-point exceptions (PopTorch 3.4, ``Options.Precision.enableFloatingPointExceptions``).

As IEEE 754 has it, an exception is raised where a NaN or an infinity comes into being (0/0, 0*inf, sqrt(-1): invalid;
x/0: division by zero; a result too large for its format: overflow), not where one is merely passed on; and where a NaN
is compared, since such a comparison has no answer.
"""

from typing import Dict, Sequence

import torch

from ..capture.graph import Node
from ..capture.precision import EXACT, ROUND_IN_PLACE
from ..poptorch_core import createError

_COMPARISONS = frozenset(
    ["eq", "ne", "lt", "le", "gt", "ge", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "greater", "less"]
)  # fmt: skip
# infinities that the program writes down are no result of arithmetic
_CONSTANTS = frozenset(["new_full", "new_tensor", "full_like", "fill_", "index_fill", "masked_fill"])


def _has_nan(tensors: Sequence[torch.Tensor]) -> bool:
    return any(bool(torch.isnan(t).any()) for t in tensors if t.is_floating_point())


def _has_inf(tensors: Sequence[torch.Tensor]) -> bool:
    return any(bool(torch.isinf(t).any()) for t in tensors if t.is_floating_point())


def _raise(what: str, name: str, location: str) -> None:
    raise createError(
        f"Floating point exception: {what} in {name} at {location}. "
        "Options.Precision.enableFloatingPointExceptions(False) lets the value through.",
        "poplar_application_runtime_error",
    )


def check_node(node: Node, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
    """Raise for what one operation has just done.

    Raises:
        poptorch.Error: an invalid operation, a division by zero or an overflow.
    """
    if not inputs:  # a constant
        return
    inputs = [
        tensor for tensor in inputs if all(tensor is not other for other in outputs)
    ]  # before in-place calls
    if node.name in _COMPARISONS:
        if _has_nan(inputs):
            _raise("a NaN is compared", node.name, node.location)
        return
    if node.name in EXACT or node.name in _CONSTANTS:
        return
    if all(bool(torch.isfinite(t).all()) for t in outputs if t.is_floating_point()):
        return
    if _has_nan(outputs) and not _has_nan(inputs):
        _raise("invalid operation", node.name, node.location)
    if _has_inf(outputs) and not _has_inf(inputs) and not _has_nan(inputs):
        rounds = node.name in ("round_to_half", ROUND_IN_PLACE)
        what = "overflow" if rounds else "division by zero or overflow"
        _raise(what, node.name, node.location)


def check_gradients(gradients: Dict[str, torch.Tensor]) -> None:
    """Raise when the backward pass of a finite forward gave something that is not finite.

    Raises:
        poptorch.Error: naming the first weight concerned.
    """
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            _raise("invalid operation or overflow", f"the gradient of {name}", "the backward pass")

"""What PopTorch would not compile: collected over a whole forward, so that one message names every offender.

What is refused by name here needs values or has no fixed shape. Everything else is judged by the operators that torch
makes of it (:mod:`..lowering`): one that PopTorch 3.4 has no lowering for is refused.
"""

import sys
import warnings
from types import FrameType
from typing import Any, Dict, List, Optional, Tuple

import torch

from .._impl import createPoptorchError

VALUE_NEEDED = frozenset(
    [
        "item",
        "tolist",
        "numpy",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "__complex__",
        "__array__",
        "allclose",
        "is_nonzero",
    ]
)
_DATA_DEPENDENT = frozenset(
    ["nonzero", "masked_select", "unique", "unique_consecutive", "argwhere", "unique_dim", "_unique2"]
)
_EMULATOR = __package__.rpartition(".")[0]  # of whose rooms this is one


class Refusals:
    """The offenders of one forward.

    Args:
        permissive: give a Python warning for each offender and go on, instead of refusing the forward in the end.
    """

    def __init__(self, permissive: bool) -> None:
        self.permissive = permissive
        self.found: List[str] = []

    def add(self, what: str, why: str) -> None:
        """Note that ``what``, called by the user's code that is running now, cannot be compiled."""
        self.add_text(f"{what} at {refused_location()} {why}")

    def add_text(self, text: str) -> None:
        """Note a refusal that has its place in it."""
        if text in self.found:
            return
        if self.permissive:
            warnings.warn(f"PopTorch would refuse this model: {text}", stacklevel=2)
        else:
            self.found.append(text)

    def check(self, cause: Optional[BaseException] = None) -> None:
        """Raise one error that names everything found so far.

        Raises:
            poptorch.Error: something was refused.
        """
        if not self.found:
            return
        listed = "".join(f"\n  - {text}" for text in self.found)
        raise createPoptorchError(
            f"Unsupported operations found in the model, it cannot be compiled for the IPU:{listed}\n"
            "Use operations with fixed shapes that PopTorch supports, and return tensors from forward to read their "
            "values on the host. To run the model here all the same, set POPTORCH_EMULATOR_PERMISSIVE=1."
        ) from cause


def why_refused(name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[str]:
    """Why a call cannot be compiled, to follow its name in a sentence; None when it can."""
    if name in VALUE_NEEDED:
        return "needs the value of a tensor, which exists only when the compiled graph runs"
    if name in _DATA_DEPENDENT or (name == "where" and len(args) + len(kwargs) == 1):
        return "has a result whose shape depends on the values of its input"
    if name == "__getitem__" and _selects_by_mask(args[1]):
        return "(indexing with a boolean tensor) has a result whose shape depends on the values of its input"
    if name == "bincount" and not kwargs.get("minlength", args[2] if len(args) > 2 else 0):
        return "has a result whose shape depends on the values of its input: give it minlength"
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        return "has a result whose shape torch 2.0.1 cannot infer: use unsqueeze, expand and flatten, or index_select"
    if name == "register_hook":
        return "is not supported: the backward pass on the IPU calls no Python"
    if name == "one_hot" and kwargs.get("num_classes", args[1] if len(args) > 1 else -1) == -1:
        return (
            "has a result whose shape depends on the values of its input: OneHot num classes must be specified and "
            "must be constant."
        )
    return None


def _selects_by_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    with torch._C.DisableTorchFunction():
        return any(
            isinstance(part, torch.Tensor) and part.dtype == torch.bool and part.dim() for part in parts
        )


def caller_location() -> str:
    """``file:line`` of the innermost frame outside torch and the emulator: where user code made the call."""
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not (module == "torch" or module.startswith(("torch.", _EMULATOR + "."))):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"


def refused_location() -> str:
    """:func:`caller_location`, and the innermost module of torch's own that the code there has called, if any."""
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        caller = frame.f_locals.get("self") if module.startswith("torch.nn.") else None
        if isinstance(caller, torch.nn.Module) and type(caller).__module__ == module:
            return f"{caller_location()} (in torch's {type(caller).__name__})"
        if module != "torch" and not module.startswith(("torch.", _EMULATOR + ".")):
            break
        frame = frame.f_back
    return caller_location()

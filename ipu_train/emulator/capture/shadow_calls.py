"""The part of a recorder that makes every call a second time, on shadows."""

from typing import Any, Dict, List, Optional, Tuple

import torch

from ..lowering.dispatcher import Dispatcher
from ..lowering.indexing import get_item, set_item
from ..lowering.moving import move
from ..lowering.shadow import IPU, Shadow, Shadows, Unsupported
from ..lowering.versions import AS_IN_TORCH_2_0, since_torch_2_0
from .device_calls import MADE_ON_THE_IPU
from .graph import Graph, map_structure, tensor_paths
from .refusals import Refusals

# say something about a tensor, or are PopTorch's business and not an operator's
_NO_OPERATORS = frozenset(["requires_grad_", "retain_grad", "data", "grad", "dtype", "detach_"])
# whose Python binding asks for a device's C++ interface, which shadows do not have
_OTHERWISE = {
    "__getitem__": get_item,
    "__setitem__": set_item,
    "__invert__": torch.bitwise_not,
    "to": move,
    "copy_": torch.ops.aten.copy_.default,
    **AS_IN_TORCH_2_0,
}


class ShadowCalls:
    """Keeps a shadow for each slot of the graph, and finds out what PopTorch would refuse.

    Attributes:
        graph: the recorder's.
        refusals: where offenders are noted.
    """

    graph: Graph
    refusals: Refusals
    _values: Dict[int, torch.Tensor]
    _slot_of: Dict[int, int]  # by id of a tensor

    def __init__(self) -> None:
        self._shadow_of: Dict[int, Shadow] = {}  # by slot
        self._reported: Dict[str, List[str]] = {}  # operators that are refused in the call at hand, by reason
        self._shadows = Shadows(Dispatcher(self._report))
        self.operators: List[str] = []  # that the last call arrived as

    def _slot(self, tensor: torch.Tensor) -> int:
        raise NotImplementedError  # the recorder's

    def _report(self, operator: str, why: str) -> None:
        self._reported.setdefault(why, []).append(operator)

    def _refuse_reported(self, name: str) -> None:
        """One refusal for each reason that operators of the call ``name`` are refused for."""
        for why, operators in self._reported.items():
            others = [o for o in dict.fromkeys(operators) if o != f"aten::{name}"]
            self.refusals.add(name, f"({', '.join(others)}) {why}" if others else why)
        self._reported = {}

    def shadow(self, slot: int) -> Shadow:
        """The shadow of what ``slot`` holds."""
        shadow = self._shadow_of.get(slot)
        if shadow is None:
            value = self._values[slot]
            dtype = torch.float16 if slot in self.graph.half else value.dtype
            constant = slot in self.graph.constants or self._is_integer_state(slot, value)
            shadow = self._shadow_of[slot] = Shadow(value.shape, dtype, constant)
        return shadow

    def _is_integer_state(self, slot: int, value: torch.Tensor) -> bool:
        """PopART has no variables of integers: such buffers are constants of the graph."""
        return not value.is_floating_point() and slot in self.graph.state.values()

    def call_shadows(
        self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]
    ) -> Optional[Any]:
        """What a call returns on shadows; None where that says nothing about PopTorch, or where it refuses the call."""
        self.operators = self._shadows.dispatcher.seen = []
        if name in _NO_OPERATORS or not is_torchs(func):
            return None
        since = since_torch_2_0(name)
        if since is not None:
            self.refusals.add(name, since)
            return None
        if name == "tensor":
            made = func(*args, **dict(kwargs, device="meta"))
            return Shadow(made.shape, made.dtype, constant=True)
        has_tensors = bool(tensor_paths((args, kwargs)))
        if (
            name in MADE_ON_THE_IPU
            and kwargs.get("device") is None
            and not (name == "normal" and has_tensors)
        ):
            kwargs = dict(kwargs, device=IPU)
        args, kwargs = map_structure((args, kwargs), lambda t: self.shadow(self._slot(t)), (torch.Tensor,))
        try:
            with self._shadows:
                return _OTHERWISE.get(name, func)(*args, **kwargs)
        except Unsupported as error:
            self.refusals.add(name, str(error))
        except Exception as error:
            self.refusals.add(name, f"is refused: {_first_line(error)}")
        finally:
            self._refuse_reported(name)
        return None

    def shadows_of(self, result: Any, shadows: Any) -> List[Optional[Shadow]]:
        """For each tensor in what a call returned, in order, the shadow that the call on shadows returned."""
        found = tensor_paths(result)
        same = [shadow for _, shadow in tensor_paths(shadows)] if shadows is not None else []
        if len(same) != len(found):
            return [None] * len(found)
        # what torch squeezes in place inside a function keeps its old shape as a shadow
        return [
            Shadow(tensor.shape, shadow.dtype, shadow.constant)
            if shadow.dim() == tensor.dim() + 1 and shadow.numel() == tensor.numel()
            else shadow
            for (_, tensor), shadow in zip(found, same)
        ]

    def check_returned(self, result: Any) -> None:
        """Refuse what forward returns though the device does not have it."""
        for _, tensor in tensor_paths(result):
            shadow = self._shadow_of.get(self._slot_of.get(id(tensor), -1))
            if shadow is not None and shadow.absent:
                self.refusals.add("forward", f"returns what the device does not have: {shadow.absent}")


def is_torchs(func: Any) -> bool:
    """Whether a function is torch's own, which PopTorch meets as operators, rather than one that is recorded whole."""
    module = getattr(func, "__module__", None)
    return not isinstance(module, str) or module.split(".")[0] in ("torch", "builtins", "_operator")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

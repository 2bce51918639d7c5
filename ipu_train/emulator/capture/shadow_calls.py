"""Makes every call of a forward a second time, on shadows."""

from typing import Any, Dict, List, Optional, Tuple

import torch

from .._logging import logger
from ..lowering.dispatcher import Dispatcher
from ..lowering.indexing import get_item, set_item
from ..lowering.moving import AS_TENSOR, data_of, move, new, new_tensor
from ..lowering.otherwise import Otherwise
from ..lowering.shadow import IPU, Shadow, Shadows, Unsupported
from ..lowering.versions import AS_IN_TORCH_2_0, since_torch_2_0
from ..lowering.views import RESHAPES_IN_PLACE
from .device_calls import MADE_ON_THE_IPU
from .graph import map_structure, tensor_paths
from .refusals import Refusals, refused_location
from .slots import Slots

# say something about a tensor, or are PopTorch's business and not an operator's
_NO_OPERATORS = frozenset(["requires_grad_", "retain_grad", "data", "grad", "dtype", "detach_"])
# whose Python binding asks for a device's C++ interface, which shadows do not have
_OTHERWISE = {
    "__getitem__": get_item,
    "__setitem__": set_item,
    "__invert__": torch.bitwise_not,
    "to": move,
    "new": new,
    "new_tensor": new_tensor,
    "copy_": torch.ops.aten.copy_.default,
    **AS_IN_TORCH_2_0,
}


class _Reported:
    """Operators that are refused in the call at hand, by reason."""

    def __init__(self) -> None:
        self._operators: Dict[str, List[str]] = {}

    def add(self, operator: str, why: str) -> None:
        self._operators.setdefault(why, []).append(operator)

    def take(self, name: str) -> List[str]:
        """One text for each reason that operators of the call ``name`` are refused for; what is not is warned of."""
        texts = []
        for why, operators in self._operators.items():
            others = [o for o in dict.fromkeys(operators) if o != f"aten::{name}"]
            said = f"({', '.join(others)}) {why}" if others else why
            text = f"{name} at {refused_location()} {said}"
            if isinstance(why, Otherwise):
                logger.warning("%s", text)
            else:
                texts.append(text)
        self._operators = {}
        return texts


class ShadowCalls:
    """Keeps a shadow for each slot of the graph, and finds out what PopTorch would refuse.

    Args:
        slots: the recorder's.
        refusals: where offenders are noted.
    """

    def __init__(self, slots: Slots, refusals: Refusals) -> None:
        self._slots = slots
        self._refusals = refusals
        self._shadow_of: Dict[int, Shadow] = {}  # by slot
        self._reported = _Reported()
        self._shadows = Shadows(Dispatcher(self._reported.add))
        self.operators: List[str] = []  # that the last call arrived as
        self.refused_if_used: List[str] = []  # what is refused of it, unless nothing uses its results

    def of(self, slot: int) -> Shadow:
        """The shadow of what ``slot`` holds."""
        shadow = self._shadow_of.get(slot)
        if shadow is None:
            value = self._slots.values[slot]
            dtype = torch.float16 if self._slots.is_half(slot) else value.dtype
            constant = slot in self._slots.graph.constants or self._is_integer_state(slot, value)
            shadow = self._shadow_of[slot] = Shadow(value.shape, dtype, constant)
            shadow.is_state = slot in self._slots.graph.state.values()
        return shadow

    def written(self) -> List[Shadow]:
        """What the last call has changed in place."""
        return self._shadows.dispatcher.written

    def keep(self, slot: int, shadow: Optional[Shadow]) -> None:
        """What a call on shadows returned belongs to ``slot``."""
        if shadow is not None:
            self._shadow_of[slot] = shadow

    def keep_same(self, slot: int, of: int) -> None:
        """``slot`` holds what ``of`` holds, but for its rounding."""
        self.keep(slot, self._shadow_of.get(of))

    def _is_integer_state(self, slot: int, value: torch.Tensor) -> bool:
        """PopART has no variables of integers: such buffers are constants of the graph."""
        return not value.is_floating_point() and slot in self._slots.graph.state.values()

    def call(self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[Any]:
        """What a call returns on shadows; None where that says nothing about PopTorch, or where it refuses the call."""
        self.operators = self._shadows.dispatcher.seen = []
        self._shadows.dispatcher.written = []
        if name == "data" and isinstance(args[0], torch.Tensor):
            return self.of(self._slots.of(args[0]))  # the same tensor for the dispatcher
        if name in _NO_OPERATORS or not is_torchs(func):
            return None
        since = since_torch_2_0(name)
        if since is not None:
            self._refusals.add(name, since)
            return None
        data = data_of(name, args, kwargs)
        if data is not None:
            dtype = kwargs.get("dtype")
            if name not in ("tensor", *AS_TENSOR) and dtype is None:
                dtype = self.of(self._slots.of(args[0])).dtype
            made = torch.tensor(data, dtype=dtype, device="meta")
            return Shadow(made.shape, made.dtype, constant=True)
        has_tensors = bool(tensor_paths((args, kwargs)))
        if (
            name in MADE_ON_THE_IPU
            and kwargs.get("device") is None
            and not (name == "normal" and has_tensors)
        ):
            kwargs = dict(kwargs, device=IPU)
        args, kwargs = map_structure((args, kwargs), lambda t: self.of(self._slots.of(t)), (torch.Tensor,))
        for _, shadow in tensor_paths((args, kwargs)):
            if shadow.stale:
                self.refused_if_used.append(f"{name} at {refused_location()} {shadow.stale}")
        try:
            with self._shadows:
                return _OTHERWISE.get(name, func)(*args, **kwargs)
        except Unsupported as error:
            self._refusals.add(name, str(error))
        except Exception as error:
            self._refusals.add(name, f"is refused: {_first_line(error)}")
        finally:
            self.refused_if_used += self._reported.take(name)
        return None

    def of_results(self, name: str, result: Any, shadows: Any) -> List[Optional[Shadow]]:
        """For each tensor in what the call ``name`` returned, in order, the shadow that it returned on shadows."""
        found = tensor_paths(result)
        same = [shadow for _, shadow in tensor_paths(shadows)] if shadows is not None else []
        if len(same) != len(found):
            return [None] * len(found)
        # what torch reshapes in place, itself or inside a function, keeps its old shape as a shadow
        return [
            Shadow(tensor.shape, shadow.dtype, shadow.constant)
            if name in RESHAPES_IN_PLACE
            or (shadow.dim() == tensor.dim() + 1 and shadow.numel() == tensor.numel())
            else shadow
            for (_, tensor), shadow in zip(found, same)
        ]

    def check_returned(self, result: Any) -> None:
        """Refuse what forward returns though the device does not have it."""
        for _, tensor in tensor_paths(result):
            slot = self._slots.find(tensor)
            shadow = None if slot is None else self._shadow_of.get(slot)
            if shadow is not None and shadow.absent:
                self._refusals.add("forward", f"returns what the device does not have: {shadow.absent}")
            if shadow is not None and shadow.stale:
                self._refusals.add("forward", f"returns what it {shadow.stale}")


def is_torchs(func: Any) -> bool:
    """Whether a function is torch's own, which PopTorch meets as operators, rather than one that is recorded whole."""
    module = getattr(func, "__module__", None)
    return not isinstance(module, str) or module.split(".")[0] in ("torch", "builtins", "_operator")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

"""The part of a recorder that stores what a call returns as the device has it: its dtype, rounding and shape."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from .graph import Graph, Node, Ref, map_structure, references
from .precision import ACTIVATION_DECIDES, RESULT_NOT_SAVED, result_is_half, running_statistics
from .refusals import caller_location
from .rounding import Rounding


class StoredResults:
    """Rounds and reshapes results by nodes of their own. It relies on the recorder's slots.

    Attributes:
        mixes_types: whether an operation has float16 and float32 operands.
    """

    graph: Graph
    round_to_half: Rounding
    mixes_types: bool
    _values: Dict[int, torch.Tensor]
    _shadow_of: Dict[int, Any]
    _rounded_weights: Dict[int, int]

    def _new_slot(self, visible: torch.Tensor, value: torch.Tensor, half: bool) -> int:
        raise NotImplementedError  # the recorder's

    def _append(
        self,
        function: Any,
        name: str,
        args: Tuple[Any, ...],
        kwargs: Dict[str, Any],
        grad_enabled: bool,
        location: str,
        results: Sequence[Tuple[Tuple[Any, ...], int]] = (),
    ) -> Node:
        raise NotImplementedError  # the recorder's

    def _append_rounding(self, node: Node, slot: int, updated: Optional[torch.Tensor]) -> torch.Tensor:
        """Round the result in ``slot`` to float16 as a node of its own; the rounded tensor replaces it.

        ``updated`` is the tensor that an in-place call changed: user code goes on holding it, and what it reads from
        now on is the rounded value. A parameter or buffer keeps its storage, so it is rounded where it lies.
        """
        if updated is not None and updated is not self._values[slot]:
            self._append_in_place_rounding(node, slot)
            return updated
        function = self.round_to_half
        if node.name in RESULT_NOT_SAVED and not self._values[slot]._is_view():
            function = self.round_to_half.in_place
        rounded = function(self._values[slot])
        target = self._new_slot(rounded if updated is None else updated, rounded, half=True)
        if slot in self._shadow_of:
            self._shadow_of[target] = self._shadow_of[slot]
        self._append(
            function, "round_to_half", (Ref(slot),), {}, node.grad_enabled, node.location,
            [((), target)],
        )  # fmt: skip
        if self.graph.losses and self.graph.losses[-1][1] == slot:
            self.graph.losses[-1] = (len(self.graph.nodes) - 1, target)
            if slot in self.graph.fused_losses:
                self.graph.fused_losses.add(target)
        return rounded if updated is None else updated

    def _changes_dtype_in_name_only(self, result: torch.Tensor, refs: Any, half: bool) -> bool:
        """Whether a cast gave its own argument back because float16 and float32 have the same storage."""
        return any(
            self._values[ref.slot] is result and (ref.slot in self.graph.half) != half
            for ref in references(refs)
        )

    def _append_copy(
        self, node: Node, path: Tuple[Any, ...], tensor: torch.Tensor, half: bool
    ) -> torch.Tensor:
        """The result of such a cast as a tensor of its own; to float16 it is rounded."""
        slot = len(self._values)
        self._values[slot] = (
            tensor  # a name for the replay only; user code knows this tensor under another slot
        )
        node.results.append((path, slot))
        function = self.round_to_half if half else torch.clone
        result = function(tensor)
        target = self._new_slot(result, result, half)
        self._append(
            function, function.__name__, (Ref(slot),), {}, node.grad_enabled, node.location, [((), target)]
        )
        return result

    def _append_reshape(
        self, node: Node, path: Tuple[Any, ...], tensor: torch.Tensor, shadow: Any, half: bool
    ) -> torch.Tensor:
        """A result in the shape that PopTorch's lowering gives it, where torch's is another."""
        slot = self._new_slot(tensor, tensor, half)
        node.results.append((path, slot))
        shape = tuple(shadow.shape)
        result = tensor.reshape(shape)
        target = self._new_slot(result, result, half)
        self._shadow_of[target] = shadow
        self._append(
            torch.reshape, "reshape", (Ref(slot), shape), {}, node.grad_enabled, node.location, [((), target)]
        )
        return result

    def _append_in_place_rounding(self, node: Node, slot: int) -> None:
        function = self.round_to_half.values_
        with torch.no_grad():
            function(self._values[slot])
        self._append(function, "round_in_place", (Ref(slot),), {}, False, node.location)

    def _half_rules(self, func: Any, name: str, refs: Any, cast_half: Optional[bool]) -> Tuple[bool, Any]:
        """Whether the result is float16, and the arguments with weights cast to a float16 activation's dtype."""
        if cast_half is not None:
            return cast_half, refs
        if not self.graph.half:
            return False, refs
        floating: List[Ref] = []
        map_structure(refs, lambda ref: floating.append(ref) or ref, (Ref,))
        floating = [ref for ref in floating if self._values[ref.slot].dtype == torch.float32]
        half = [ref.slot in self.graph.half for ref in floating]
        if any(half) and not all(half) and name not in ACTIVATION_DECIDES:
            self.mixes_types = True
        result = result_is_half(name, half, [self._values[ref.slot].dim() for ref in floating])
        if result and name in ACTIVATION_DECIDES and not all(half):
            kept = running_statistics(func, name, *refs)
            refs = map_structure(
                refs, lambda r: r if any(r is s for s in kept) else self._weight_as_half(r), (Ref,)
            )
        return result, refs

    def _weight_as_half(self, ref: Ref) -> Ref:
        value = self._values[ref.slot]
        if ref.slot in self.graph.half or value.dtype != torch.float32:
            return ref
        if ref.slot not in self._rounded_weights:
            rounded = self.round_to_half(value)
            target = self._new_slot(rounded, rounded, half=True)
            self._append(
                self.round_to_half, "round_to_half", (ref,), {}, torch.is_grad_enabled(), caller_location(),
                [((), target)],
            )  # fmt: skip
            self._rounded_weights[ref.slot] = target
        return Ref(self._rounded_weights[ref.slot])

"""Stores what a call returns as the device has it: its dtype, rounding and shape."""

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch

from .graph import Node, Ref, map_structure, references
from .precision import (
    ACTIVATION_DECIDES,
    EXACT,
    RESULT_NOT_SAVED,
    ROUND_IN_PLACE,
    TAKES_VALUES,
    OnACopy,
    half_value,
    result_is_half,
    running_statistics,
    updated_statistics,
    writes_where_it_lies,
)
from .refusals import caller_location
from .rounding import Rounding
from .shadow_calls import ShadowCalls
from .slots import Slots
from .writer import Writer


class StoredResults:
    """Rounds, copies and reshapes results by nodes of their own.

    Args:
        slots, writer, shadows: the recorder's.
        rounding: differentiable rounding that is inserted wherever a float16 result is stored.

    Attributes:
        mixes_types: whether an operation has float16 and float32 operands.
    """

    def __init__(self, slots: Slots, writer: Writer, shadows: ShadowCalls, rounding: Rounding) -> None:
        self._slots = slots
        self._writer = writer
        self._shadows = shadows
        self._rounding = rounding
        self._rounded_weights: Dict[int, int] = {}  # by slot of a weight, the slot of its float16 cast
        self.mixes_types = False

    @contextlib.contextmanager
    def own_casts(self) -> Iterator[None]:
        """Weights that are cast meanwhile are cast for what is recorded meanwhile alone."""
        before = dict(self._rounded_weights)
        try:
            yield
        finally:
            self._rounded_weights = before

    def rounded(self, node: Node, slot: int, updated: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Round the result in ``slot`` to float16 as a node of its own; the rounded tensor replaces it.

        ``updated`` is the tensor that an in-place call changed: user code goes on holding it, and what it reads from
        now on is the rounded value. A parameter or buffer keeps its storage, so it is rounded where it lies; and so is
        a view, for what it is a view of to have the rounded values, too, and those of later writes through it.
        """
        value, graph = self._slots.values[slot], self._slots.graph
        if updated is not None and updated is not value:
            self._round_in_place(node, slot)
            return updated
        function: Any = self._rounding
        name = "round_to_half"
        if updated is not None and value._is_view():
            function, name = self._rounding.in_place, ROUND_IN_PLACE
        elif node.name in RESULT_NOT_SAVED and not value._is_view():
            function = self._rounding.in_place
        rounded = function(value)
        held = rounded if updated is None else updated
        target = self._slots.new(held, rounded, half=True)
        self._shadows.keep_same(target, of=slot)
        self._writer.append_after(node, function, name, (Ref(slot),), target)
        if graph.losses and graph.losses[-1][1] == slot:
            graph.losses[-1] = (len(graph.nodes) - 1, target)
            if slot in graph.fused_losses:
                graph.fused_losses.add(target)
            if slot in graph.partial_losses:
                graph.partial_losses[target] = graph.partial_losses[slot]
        return held

    def _round_in_place(self, node: Node, slot: int) -> None:
        function = self._rounding.values_
        with torch.no_grad():
            function(self._slots.values[slot])
        self._writer.append(function, ROUND_IN_PLACE, (Ref(slot),), {}, False, node.location)

    def round_statistics(self, node: Node) -> None:
        """Running statistics that a norm has updated keep their own dtype (PopART, batchnormx.cpp): float16 here.

        torch does not declare the update, so the backward pass must not notice that of the rounding either.
        """
        for ref in updated_statistics(node.function, node.name, node.args, node.kwargs):
            if self._slots.is_half(ref.slot):
                function = self._rounding.unnoticed_
                with torch.no_grad():
                    function(self._slots.values[ref.slot])
                self._writer.append(function, ROUND_IN_PLACE, (ref,), {}, False, node.location)

    def changes_dtype_in_name_only(self, result: torch.Tensor, refs: Any, half: bool) -> bool:
        """Whether a cast gave its own argument back because float16 and float32 have the same storage."""
        return any(
            self._slots.values[ref.slot] is result and self._slots.is_half(ref.slot) != half
            for ref in references(refs)
        )

    def copied(self, node: Node, path: Tuple[Any, ...], tensor: torch.Tensor, half: bool) -> torch.Tensor:
        """The result of such a cast as a tensor of its own; to float16 it is rounded."""
        slot = self._slots.nameless(tensor)  # user code knows this tensor under another one
        node.results.append((path, slot))
        function = self._rounding if half else torch.clone
        result = function(tensor)
        target = self._slots.new(result, result, half)
        self._writer.append_after(node, function, function.__name__, (Ref(slot),), target)
        return result

    def reshaped(
        self, node: Node, path: Tuple[Any, ...], tensor: torch.Tensor, shadow: Any, half: bool
    ) -> torch.Tensor:
        """A result in the shape that PopTorch's lowering gives it, where torch's is another."""
        slot = self._slots.new(tensor, tensor, half)
        node.results.append((path, slot))
        shape = tuple(shadow.shape)
        result = tensor.reshape(shape)
        target = self._slots.new(result, result, half)
        self._shadows.keep(target, shadow)
        self._writer.append_after(node, torch.reshape, "reshape", (Ref(slot), shape), target)
        return result

    def half_rules(self, func: Any, name: str, refs: Any, cast_half: Optional[bool]) -> Tuple[bool, Any]:
        """Whether the result is float16, and the arguments with weights cast to a float16 activation's dtype."""
        if cast_half is not None:
            return cast_half, refs
        if not self._slots.graph.half:
            return False, refs
        if name == "__setitem__" and self._slots.is_half(refs[0][0].slot):
            return False, self._written_as_half(refs)
        values = self._slots.values
        floating = [ref for ref in references(refs) if values[ref.slot].dtype == torch.float32]
        half: List[bool] = [self._slots.is_half(ref.slot) for ref in floating]
        if any(half) and not all(half) and name not in ACTIVATION_DECIDES:
            self.mixes_types = True
        result = result_is_half(name, half, [values[ref.slot].dim() for ref in floating])
        if result and name in ACTIVATION_DECIDES and not all(half):
            kept = running_statistics(func, name, *refs)
            refs = map_structure(
                refs, lambda r: r if any(r is s for s in kept) else self._weight_as_half(r), (Ref,)
            )
        if result and name in TAKES_VALUES:
            refs = self._written_as_half(refs)
        return result, refs

    def computed_apart(self, func: Any, name: str, refs: Any, half: bool) -> Any:
        """``func`` in a form that leaves nothing to autograd which rounding its result in place would change."""
        args, kwargs = refs
        if not half or name in EXACT or name in RESULT_NOT_SAVED or not writes_where_it_lies(name, kwargs):
            return func
        is_view = args and isinstance(args[0], Ref) and self._slots.values[args[0].slot]._is_view()
        return OnACopy(func) if is_view else func

    def _written_as_half(self, refs: Any) -> Any:
        """Arguments with what is written into a float16 tensor cast to its dtype (JitDispatch.cpp, ``fallback``)."""
        return map_structure(
            refs,
            lambda value: self._as_half(value) if isinstance(value, Ref) else half_value(value),
            (Ref, float),
        )

    def _weight_as_half(self, ref: Ref) -> Ref:
        if ref.slot not in self._rounded_weights:
            self._rounded_weights[ref.slot] = self._as_half(ref).slot
        return Ref(self._rounded_weights[ref.slot])

    def _as_half(self, ref: Ref) -> Ref:
        value = self._slots.values[ref.slot]
        if self._slots.is_half(ref.slot) or value.dtype != torch.float32:
            return ref
        rounded = self._rounding(value)
        target = self._slots.new(rounded, rounded, half=True)
        self._writer.append(
            self._rounding,
            "round_to_half",
            (ref,),
            {},
            torch.is_grad_enabled(),
            caller_location(),
            [((), target)],
        )
        return Ref(target)

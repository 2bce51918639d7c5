"""``poptorch.for_loop`` and ``poptorch.cond``: bodies are captured once and run as often as the device decides.

Source: PopTorch 3.4 user guide, "Looping and conditional execution". Tensors are handed over by value, so what a body
does to its arguments in place stays inside it.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch.overrides import handle_torch_function, has_torch_function

from .._impl import createPoptorchError
from .graph import Node, Ref
from .precision import ROUND_IN_PLACE, updated_statistics
from .program import make_function
from .slots import Slots

__all__ = ["cond", "for_loop"]

Tensors = List[torch.Tensor]


def _check_list(value: Any, function: str, what: str) -> None:
    if not isinstance(value, list):
        raise ValueError(
            f"poptorch.{function} expects {what} to be a list of tensors, got {type(value).__name__} "
            "(Object is not list)"
        )
    for index, item in enumerate(value):
        if not isinstance(item, torch.Tensor):
            raise ValueError(
                f"poptorch.{function}: every element of {what} must be a tensor, got {type(item).__name__} "
                f"(Object contained in list at index {index} is not torch.tensor)"
            )


def _as_list(result: Any, function: str) -> Tensors:
    tensors = list(result) if isinstance(result, (list, tuple)) else [result]
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            raise createPoptorchError(
                f"The body of poptorch.{function} must return tensors, it returned a {type(tensor).__name__}"
            )
    return tensors


def _check_outputs(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
    if len(inputs) != len(outputs):
        raise createPoptorchError(
            f"The body of poptorch.for_loop has {len(inputs)} inputs but {len(outputs)} outputs: it must return as "
            "many tensors as it takes."
        )
    for index, (before, after) in enumerate(zip(inputs, outputs)):
        if before.shape != after.shape or before.dtype != after.dtype:
            raise createPoptorchError(
                f"Output {index} of the body of poptorch.for_loop is {tuple(after.shape)} {after.dtype}, its input "
                f"is {tuple(before.shape)} {before.dtype}: they must be alike, because outputs are fed back."
            )


def for_loop(count: int, body: Callable[..., Any], inputs: Tensors) -> Tensors:
    """Run ``body(*tensors)`` ``count`` times, feeding its outputs back as its next inputs. Inference only.

    Args:
        count: number of iterations, fixed at compilation.
        body: takes and returns as many tensors as there are inputs, of the same shapes.
        inputs: a list of tensors, passed by value.

    Raises:
        ValueError: ``inputs`` is no list of tensors.
        poptorch.Error: in a training model; or outputs that do not match the inputs.
    """
    _check_list(inputs, "for_loop", "inputs")
    if has_torch_function(inputs):
        return handle_torch_function(for_loop, inputs, count, body, inputs)
    tensors = [tensor.clone() for tensor in inputs]
    for _ in range(count):
        outputs = _as_list(body(*tensors), "for_loop")
        _check_outputs(tensors, outputs)
        tensors = [tensor.clone() for tensor in outputs]
    return tensors


def cond(
    condition: torch.Tensor,
    then_body: Callable[..., Any],
    then_inps: Tensors,
    else_body: Callable[..., Any],
    else_inps: Tensors,
) -> Tensors:
    """``then_body(*then_inps)`` or ``else_body(*else_inps)``, decided when the model runs. Inference only.

    Args:
        condition: a tensor of one element.
        then_body, else_body: return equally many tensors.
        then_inps, else_inps: lists of tensors, passed by value.

    Raises:
        ValueError: inputs that are no list of tensors.
        poptorch.Error: in a training model; or branches whose outputs differ in number, elements or dtype, or have no
            dimension. Those of ``then_body`` take the shapes of those of ``else_body``.
    """
    _check_list(then_inps, "cond", "then_inps")
    _check_list(else_inps, "cond", "else_inps")
    relevant = [condition, *then_inps, *else_inps]
    if has_torch_function(relevant):
        return handle_torch_function(cond, relevant, condition, then_body, then_inps, else_body, else_inps)
    body, tensors = (then_body, then_inps) if bool(condition) else (else_body, else_inps)
    return _as_list(body(*[tensor.clone() for tensor in tensors]), "cond")


class Body:
    """A captured body as a function of its arguments and of the outer tensors that it reads.

    Attributes:
        outer: slots of those outer tensors.
        outputs: slots of what it returns.
    """

    def __init__(self, nodes: List[Node], inputs: List[int], outputs: List[int]) -> None:
        self.nodes = nodes
        self.outputs = outputs
        own = set(inputs) | {slot for node in nodes for slot in node.outputs()}
        read = [slot for node in nodes for slot in node.inputs()] + outputs
        self.outer = [slot for slot in dict.fromkeys(read) if slot not in own]
        groups = [("inputs", inputs), ("outer", self.outer)]
        self.source, self._run = make_function(groups, nodes, outputs)

    def __call__(self, inputs: Tensors, outer: Tensors) -> Tensors:
        return [tensor.clone() for tensor in self._run([tensor.clone() for tensor in inputs], outer)]


class Loop:
    """The recorded form of :func:`for_loop`."""

    def __init__(self, count: int, body: Body) -> None:
        self.count = count
        self.body = body

    def __call__(self, inputs: Tensors, outer: Tensors) -> Tensors:
        tensors = [tensor.clone() for tensor in inputs]
        for _ in range(self.count):
            tensors = self.body(tensors, outer)
        return tensors


class Choice:
    """The recorded form of :func:`cond`; ``shapes`` are those of the outputs of ``else_body``."""

    def __init__(self, then_body: Body, else_body: Body, shapes: List[torch.Size]) -> None:
        self.then_body = then_body
        self.else_body = else_body
        self.shapes = shapes

    def __call__(
        self,
        condition: torch.Tensor,
        then_inputs: Tensors,
        then_outer: Tensors,
        else_inputs: Tensors,
        else_outer: Tensors,
    ) -> Tensors:
        if bool(condition):
            results = self.then_body(then_inputs, then_outer)
            return [result.reshape(shape) for result, shape in zip(results, self.shapes)]
        return self.else_body(else_inputs, else_outer)


def _capture_for_loop(recorder: Any, count: int, body: Callable[..., Any], inputs: Tensors) -> Tensors:
    _inference_only(recorder, "for_loop")
    captured, results = _capture_body(recorder, body, inputs, "for_loop")
    slots: Slots = recorder.slots
    _check_outputs([slots.value_of(tensor) for tensor in inputs], results)
    args = (_refs(slots, inputs), [Ref(slot) for slot in captured.outer])
    halves = [slots.is_half(slot) for slot in captured.outputs]
    return recorder.record_list(Loop(count, captured), "for_loop", args, halves)


def _capture_cond(
    recorder: Any,
    condition: torch.Tensor,
    then_body: Callable[..., Any],
    then_inps: Tensors,
    else_body: Callable[..., Any],
    else_inps: Tensors,
) -> Tensors:
    _inference_only(recorder, "cond")
    chosen, chosen_results = _capture_body(recorder, then_body, then_inps, "cond")
    other, other_results = _capture_body(recorder, else_body, else_inps, "cond")
    if len(chosen_results) != len(other_results):
        raise createPoptorchError(
            f"poptorch.cond: then_body returns {len(chosen_results)} tensors, else_body {len(other_results)}. "
            "Both branches must have the same number of outputs."
        )
    slots: Slots = recorder.slots
    for index, pair in enumerate(zip(chosen.outputs, other.outputs)):
        _check_alike(slots, index, *pair)
    args = (
        Ref(slots.of(condition)),
        _refs(slots, then_inps), [Ref(slot) for slot in chosen.outer],
        _refs(slots, else_inps), [Ref(slot) for slot in other.outer],
    )  # fmt: skip
    halves = [slots.is_half(slot) for slot in chosen.outputs]
    choice = Choice(chosen, other, [result.shape for result in other_results])
    return recorder.record_list(choice, "cond", args, halves)


def _check_alike(slots: Slots, index: int, then_slot: int, else_slot: int) -> None:
    """Refuse outputs that the two branches of :func:`cond` cannot write to one tensor.

    Sources: PopTorch 3.4, AddSubgraphConnectionNodes.cpp (``markCondOutputs``), which reshapes the outputs of
    ``then_body`` and takes no output without dimensions; PopART, ifx.cpp, which copies those of both to one tensor.
    """
    here, there = slots.values[then_slot], slots.values[else_slot]
    if there.dim() == 0:
        raise createPoptorchError(
            f"poptorch.cond: output {index} of else_body has an empty shape (no dimension), which PopTorch cannot "
            "make an output of both branches: give it a dimension with reshape(1)."
        )
    kinds = [str(slots.dtype_of(slot))[6:] for slot in (then_slot, else_slot)]
    if here.numel() != there.numel() or kinds[0] != kinds[1]:
        raise createPoptorchError(
            f"poptorch.cond: output {index} of then_body is {tuple(here.shape)} {kinds[0]}, that of else_body "
            f"{tuple(there.shape)} {kinds[1]}. Both branches write the same tensor: return as many elements of the "
            "same dtype."
        )


def _inference_only(recorder: Any, function: str) -> None:
    if recorder.training:
        raise createPoptorchError(f"poptorch.{function}() is only supported in inference models")


def _capture_body(
    recorder: Any, body: Callable[..., Any], inputs: Tensors, function: str
) -> Tuple[Body, Tensors]:
    """Run ``body`` once under the recorder, and what it records and returns."""
    slots: Slots = recorder.slots
    arguments, of_arguments = [], []
    for tensor in inputs:
        slot = slots.of(tensor)
        value = slots.values[slot].clone()
        of_arguments.append(slots.add_copy(value, slot))
        arguments.append(value)
    results, nodes = recorder.record_body(lambda: _as_list(body(*arguments), function))
    _refuse_outer_writes(slots.values, nodes, of_arguments, function)
    outputs = [slots.of(result) for result in results]
    return Body(nodes, of_arguments, outputs), [slots.values[slot] for slot in outputs]


def _refuse_outer_writes(
    values: Dict[int, torch.Tensor], nodes: List[Node], inputs: List[int], function: str
) -> None:
    """A body becomes a graph of its own, into which tensors go by value: it cannot change one outside of it.

    Raises:
        poptorch.Error: a node writes a tensor that neither is an argument of the body nor was made inside it, or
            a view of one; the message names the line.
    """
    own = {_memory(values[slot]) for slot in inputs}
    for node in nodes:
        target = _written(node)
        hidden = updated_statistics(node.function, node.name, node.args, node.kwargs)
        targets = [ref.slot for ref in hidden] if target is None else [target]
        if any(_memory(values[slot]) not in own for slot in targets):
            raise createPoptorchError(
                f"The body of poptorch.{function} changes a tensor from outside of it in place: {node.name} at "
                f"{node.location}. Tensors go into a body by value: pass it in and return what it becomes."
            )
        outside = {_memory(values[slot]) for slot in node.inputs()} - own
        own.update({_memory(values[slot]) for slot in node.outputs()} - outside)


def _memory(tensor: torch.Tensor) -> int:
    """Where a tensor's values lie; views share it."""
    with torch._C.DisableTorchFunction():
        return tensor.untyped_storage().data_ptr()


def _written(node: Node) -> Optional[int]:
    """The slot that a node writes in place; None for one that makes something new."""
    name, out = node.name, node.kwargs.get("out")
    if isinstance(out, Ref):
        return out.slot
    in_place = name.endswith("__set__") or name in ("__setitem__", ROUND_IN_PLACE)
    in_place = in_place or node.kwargs.get("inplace") is True
    if name.startswith("__"):
        in_place = in_place or (name.startswith("__i") and name != "__invert__")
    else:
        in_place = in_place or name.endswith("_")
    first = node.args[0] if node.args else None
    return first.slot if in_place and isinstance(first, Ref) else None


def has_effects(node: Node) -> bool:
    """Whether a node does what no tensor shows, so that it is no dead code where nothing uses its results."""
    return not (node.results or written_slots(node)) or node.name in ("for_loop", "cond")


def written_slots(node: Node) -> List[int]:
    """Slots whose tensors a node changes in place."""
    named = _written(node)
    return node.written if named is None else [named, *node.written]


def _refs(slots: Slots, tensors: Tensors) -> List[Ref]:
    return [Ref(slots.of(tensor)) for tensor in tensors]


for_loop.captured_by = _capture_for_loop  # type: ignore[attr-defined]
cond.captured_by = _capture_cond  # type: ignore[attr-defined]

"""Gradients that forward itself asks for: ``torch.autograd.grad`` and ``backward`` inside a model.

PopTorch traces a forward with torch's autograd on, so that the operators of a backward pass become part of the graph
like any others: forces from energies, gradient penalties, saliency. Operators that PopTorch 3.4 has no lowering for are
refused (its ErrorOnUnsupportedAten.cpp), and what it catches whole at the IPU key has no derivative there: such a
result is detached from its inputs (dispatch_tracer/RegisterAtenOverloads.cpp registers no autograd for it).
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .._impl import createPoptorchError
from ..lowering.handlers import COMPOSED, has_lowering
from .graph import Node, Ref, map_structure
from .refusals import Refusals, caller_location
from .shadow_calls import ShadowCalls, is_torchs
from .slots import Slots
from .stored_results import StoredResults
from .writer import Writer

GRAD_OF = torch.Tensor.grad.__get__  # type: ignore[attr-defined]
# Composed by torch 2.0.1 for every device, of operators with a lowering
_COMPOSED_BACKWARD = frozenset(["slice_backward", "select_backward", "value_selecting_reduction_backward"])
_MOVES = frozenset(
    ["_to_copy", "detach", "alias", "lift_fresh", "is_same_size", "empty", "new_empty", "new_empty_strided"]
)
# Composite functions that PopTorch catches whole: torch 2.0.1 knows no derivative of what it does not take apart
CUT = frozenset(
    [
        "dropout", "feature_dropout", "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d",
        "adaptive_avg_pool2d", "adaptive_avg_pool3d", "argsort", "bilinear", "cosine_embedding_loss", "ctc_loss",
        "frobenius_norm", "hinge_embedding_loss", "kl_div", "l1_loss", "lstm", "margin_ranking_loss", "one_hot",
        "poisson_nll_loss", "take_along_dim", "triplet_margin_loss",
    ]
)  # fmt: skip


_CALLS = {
    torch.Tensor.requires_grad_: "requires_grad",
    torch.autograd.grad: "grad",
    torch.Tensor.backward: "backward",
}


class NeedsWeightGradients(Exception):
    """Forward differentiates by weights, or by what depends on them alone: they must be tracked from the start."""


class Gradients:
    """The recorded form of :func:`torch.autograd.grad`: results in the order of its inputs, None for unused ones."""

    __name__ = "grad"

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph

    def __call__(
        self, outputs: List[torch.Tensor], inputs: List[torch.Tensor], grad_outputs: Optional[List[Any]]
    ) -> Tuple[Optional[torch.Tensor], ...]:
        with torch.enable_grad():
            return torch.autograd.grad(
                outputs,
                inputs,
                grad_outputs,
                retain_graph=True,
                create_graph=self.create_graph,
                allow_unused=True,
            )


class Detached:
    """A call whose results have no history."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return map_structure(self.function(*args, **kwargs), lambda t: t.detach(), (torch.Tensor,))


class _Backward(TorchDispatchMode):
    """Notes which operators a backward pass consists of."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # newer versions of torch import their whole compiler otherwise, which takes seconds

    def __init__(self) -> None:
        super().__init__()
        self.operators: Dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, _, name = func._schema.name.partition("::")
        if space == "aten":
            self.operators[name] = None
        return func(*args, **(kwargs or {}))


class GradientCalls:
    """Answers calls that differentiate.

    Args:
        slots, writer, results, shadows, refusals: the recorder's.
        training: whether the forward is captured for training.
        tracks_weights: whether gradients flow to weights; in inference only where forward asks for theirs.
    """

    def __init__(
        self,
        slots: Slots,
        writer: Writer,
        results: StoredResults,
        shadows: ShadowCalls,
        refusals: Refusals,
        training: bool,
        tracks_weights: bool,
    ) -> None:
        self._slots, self._writer, self._results, self._shadows = slots, writer, results, shadows
        self._refusals = refusals
        self._training, self._tracks_weights = training, tracks_weights
        self._leaves: Dict[int, torch.Tensor] = {}  # by slot, what requires_grad_() was called on
        self._grads: Dict[int, torch.Tensor] = {}  # by slot of a leaf, what backward() left in its grad
        self._without_derivative: Dict[int, str] = {}  # by slot, the call whose result it is

    def answer_to(self, func: Any, args: Tuple[Any, ...]) -> Optional[Callable[..., Any]]:
        """What answers a call that has to do with differentiating; None for any other call."""
        if func in _CALLS:
            return getattr(self, _CALLS[func])
        slot = self._slots.find(args[0]) if func == GRAD_OF else None
        if slot not in self._grads:
            return None
        return lambda tensor: self._grads[slot]

    def stop_at(self, slot: int, name: str) -> None:
        """What is in ``slot`` has no derivative: it is the result of ``name``."""
        self._without_derivative[slot] = name

    def requires_grad(self, tensor: torch.Tensor, requires_grad: bool = True) -> torch.Tensor:
        """``tensor.requires_grad_()``: from now on calls on it are differentiable."""
        slot = self._slots.of(tensor)
        value = self._slots.values[slot]
        if slot not in self._slots.graph.state.values():
            value.requires_grad_(requires_grad)
            self._writer.append(
                torch.Tensor.requires_grad_,
                "requires_grad_",
                (Ref(slot), requires_grad),
                {},
                True,
                caller_location(),
            )
            self._leaves[slot] = tensor
            self._slots.graph.differentiates = True
        return tensor

    def grad(
        self,
        outputs: Any,
        inputs: Any,
        grad_outputs: Any = None,
        retain_graph: Optional[bool] = None,
        create_graph: bool = False,
        only_inputs: bool = True,
        allow_unused: Optional[bool] = None,
        is_grads_batched: bool = False,
        materialize_grads: bool = False,
    ) -> Tuple[Optional[torch.Tensor], ...]:
        """``torch.autograd.grad``: its backward pass becomes a part of the graph.

        Raises:
            RuntimeError: as torch's: an output or an input has no gradient, or the graph has been freed.
            NeedsWeightGradients: in inference, where weights are not tracked yet.
        """
        if is_grads_batched:
            self._refusals.add("grad", "with is_grads_batched=True is not supported on the IPU")
        slots = [self._slots_of(outputs), self._slots_of(inputs)]
        given = None if grad_outputs is None else _as_list(grad_outputs)
        refs = [None if g is None else Ref(self._slots.of(g)) for g in given] if given is not None else None
        values = [[self._slots.values[slot] for slot in part] for part in slots]
        if not self._tracks_weights and not all(v.requires_grad for v in values[0] + values[1]):
            raise NeedsWeightGradients
        self._check_path(slots[0])
        watch = _Backward()
        with watch, torch.enable_grad():
            found = torch.autograd.grad(
                *values,
                map_structure(refs, lambda ref: self._slots.values[ref.slot], (Ref,)),
                retain_graph=retain_graph, create_graph=create_graph or self._training,
                allow_unused=bool(allow_unused or materialize_grads),
            )  # fmt: skip
        args = ([Ref(slot) for slot in slots[0]], [Ref(slot) for slot in slots[1]], refs)
        node = self._writer.append(
            Gradients(create_graph or self._training),
            "grad",
            args,
            {},
            torch.is_grad_enabled(),
            caller_location(),
        )
        node.refused = _refused(watch.operators)
        self._slots.graph.differentiates = True
        results = [
            self._result(node, index, gradient, self._slots.is_half(slot))
            for index, (gradient, slot) in enumerate(zip(found, slots[1]))
        ]
        if materialize_grads:
            results = [torch.zeros_like(x) if r is None else r for r, x in zip(results, _as_list(inputs))]
        return tuple(results)

    def backward(
        self,
        tensor: torch.Tensor,
        gradient: Any = None,
        retain_graph: Optional[bool] = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """``tensor.backward()``: gradients of what ``requires_grad_()`` was called on are in its ``grad`` afterwards.

        Raises:
            poptorch.Error: there is nothing to be differentiated by.
        """
        leaves = [leaf for slot, leaf in self._leaves.items() if self._slots.values[slot].is_leaf]
        leaves = leaves if inputs is None else _as_list(inputs)
        if not leaves:
            raise createPoptorchError("backward() cannot be called explicitly inside forward.")
        found = self.grad(tensor, leaves, gradient, retain_graph, create_graph, allow_unused=True)
        for leaf, new in zip(leaves, found):
            slot = self._slots.of(leaf)
            if new is not None:
                self._grads[slot] = new if slot not in self._grads else self._grads[slot] + new

    def has_no_derivative(self, func: Any) -> bool:
        """Whether torch knows no derivative of the call at hand on the IPU: PopTorch's own ones and what it catches."""
        if not self._slots.graph.differentiates and not self._tracks_weights:
            return False
        return not is_torchs(func) or not CUT.isdisjoint(self._shadows.operators)

    def _check_path(self, outputs: List[int]) -> None:
        if not self._without_derivative:
            return
        on_path = {slot for output in outputs for index in self._slots.graph.ancestors(output)
                   for slot in self._slots.graph.nodes[index].outputs()}  # fmt: skip
        for slot in sorted(on_path.intersection(self._without_derivative)):
            if self._slots.values[slot].requires_grad:
                self._refusals.add(
                    "grad",
                    f"needs the derivative of {self._without_derivative[slot]}, which is not implemented there",
                )

    def _result(
        self, node: Node, index: int, gradient: Optional[torch.Tensor], half: bool
    ) -> Optional[torch.Tensor]:
        if gradient is None:
            return None
        slot = self._slots.new(gradient, gradient, half)
        node.results.append(((index,), slot))
        return self._results.rounded(node, slot) if half else gradient

    def _slots_of(self, tensors: Any) -> List[int]:
        return [self._slots.of(tensor) for tensor in _as_list(tensors)]


def _refused(operators: Dict[str, None]) -> List[str]:
    known = COMPOSED | _COMPOSED_BACKWARD | _MOVES
    missing = [f"aten::{o}" for o in operators if not has_lowering(o) and o not in known]
    why = f"({', '.join(missing)}) has no counterpart on the IPU"
    return [f"grad at {caller_location()} {why}"] if missing else []


def _as_list(tensors: Any) -> List[Any]:
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)

"""What a compiled model consists of."""

import contextlib
from typing import Any, Callable, ContextManager, Dict, Iterable, List, Optional, Sequence, Tuple

import torch

from .._args_parser import Arguments
from .._impl import createPoptorchError
from ..capture.graph import Graph
from ..capture.program import Program
from ..capture.rounding import Rounding
from .batching import Batching
from .replica_groups import ReplicaGroups
from .saved_tensors import SavedTensors


class Executable:
    """What a compiled model consists of.

    Args:
        keep: slots whose values a run keeps beside the outputs and the loss.
        check: called with each node and its result while it runs; None for nothing.
        generated: whether the program runs as code that torch.compile generates.

    Attributes:
        graph, program: the captured forward and its runnable form.
        batching: how calls are cut into micro-batches; it has the number of replicas.
        signature: the arguments it was compiled for, shapes and dtypes only.
        loss_slot: of the loss in the graph; None in inference.
        fused: micro-batches that run as one batch (1: one by one).
        rounding: how results are rounded to float16.
        groups: of replicas, for the parameters that differ between them.
        state: storage of every parameter and buffer by name, as replica 0 holds it.
        weights: the parameters among them.
        half_weights: names of parameters that the device stores as float16.
        updated_buffers: names of what forward changes; each replica has its own copy.
        updated_inputs: indices of inputs that forward changes in place.
        saved: what gradients need, where forward changes some of it in place; None where it does not.
        replica_state: storage of each replica, in the order of the graph.
    """

    def __init__(
        self,
        graph: Graph,
        batching: Batching,
        signature: Arguments,
        loss_slot: Optional[int],
        keep: Sequence[int],
        check: Optional[Callable[..., None]],
        generated: bool,
        fused: int,
        rounding: Rounding,
        groups: Dict[str, ReplicaGroups],
        state: Dict[str, torch.Tensor],
        weights: Dict[str, torch.Tensor],
        half_weights: List[str],
        updated_buffers: List[str],
        updated_inputs: List[int],
        changes_saved: bool,
    ) -> None:
        self.graph = graph
        self.batching = batching
        self.signature = signature
        self.training = loss_slot is not None
        self.loss_slot = loss_slot
        self.saved = SavedTensors() if changes_saved else None
        kept = list(keep) + ([] if loss_slot is None else [loss_slot])
        self.program = Program(graph, kept, check, self.saved.before_write if self.saved else None)
        if generated:
            self.program.generate_code()
        self.fused = fused
        self.rounding = rounding
        self.groups = groups
        self.state = state
        self.weights = weights
        self.half_weights = half_weights
        self.updated_buffers = updated_buffers
        self.updated_inputs = updated_inputs
        self.replica_state = [
            [
                value.detach().clone() if replica and name in updated_buffers else value
                for name, value in state.items()
            ]
            for replica in range(batching.replicas)
        ]

    def state_of(self, replica: int) -> List[torch.Tensor]:
        """Parameters and buffers as one replica sees them, in the order of the graph."""
        values = self.replica_state[replica]
        if not self.groups:
            return values
        return [
            value[self.groups[name].group_of(replica)] if name in self.groups else value
            for name, value in zip(self.state, values)
        ]

    def saving(self) -> ContextManager[Any]:
        """Has to be on while a forward is run for its gradients."""
        return contextlib.nullcontext() if self.saved is None else self.saved.saving()

    def upload_state(self, model: torch.nn.Module, only: Optional[Iterable[str]] = None) -> None:
        """Copy the host's parameters and buffers to every replica."""
        wanted = None if only is None else set(only)
        with torch.no_grad():
            for index, (name, host) in enumerate(named_state(model)):
                if wanted is None or name in wanted:
                    if name in self.groups:
                        self.state[name].copy_(self.groups[name].to_device(plain(host)))
                        continue
                    for replica in self.replica_state:
                        replica[index].copy_(plain(host))

    def download_state(self, model: torch.nn.Module) -> None:
        """Write the parameters and buffers of replica 0 into the module's own tensors."""
        with torch.no_grad():
            for name, host in named_state(model):
                if name in self.groups:
                    value = self.groups[name].to_host(self.state[name].detach())
                    if value.shape != plain(host).shape:  # AllReplicas: the first time there are more slices
                        torch.Tensor.data.__set__(host, value.to(plain(host)))
                        continue
                    plain(host).copy_(value)
                    continue
                plain(host).copy_(self.state[name])

    def trained(self, names: List[List[str]]) -> List[List[str]]:
        """Those of an optimizer's parameters, by group, that have gradients."""
        return [
            [name for name in group if name in self.weights and self.weights[name].requires_grad]
            for group in names
        ]


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A view of a parameter or buffer that is no wrapper class and has no autograd history."""
    with torch._C.DisableTorchFunctionSubclass():
        return object.__getattribute__(tensor, "detach")()


def named_state(model: torch.nn.Module) -> List[Tuple[str, torch.Tensor]]:
    """(name, tensor) of every parameter and buffer; a tensor with several names appears once, under its first."""
    return list(model.named_parameters()) + list(model.named_buffers())


def find_loss(graph: Graph) -> int:
    """The slot of the graph's one loss.

    Raises:
        poptorch.Error: there is none, or more than one.
    """
    try:
        slot = graph.loss_slot()
    except ValueError as error:
        raise createPoptorchError(
            "Multiple independent losses found in graph. Graph must have one final loss. Wrap final graph loss in "
            f"poptorch.identity_loss. Found: {error}."
        ) from None
    if slot is None:
        others = "".join(
            f" {what} is composed of operators of which PopTorch marks none as a loss: wrap it in "
            "poptorch.identity_loss."
            for what in graph.unmarked_losses
        )
        raise createPoptorchError(
            "Couldn't find a loss in graph: a training model must compute its loss in forward, with a torch loss "
            f"function or poptorch.identity_loss, and return it: what nothing depends on is left out.{others}"
        )
    return slot

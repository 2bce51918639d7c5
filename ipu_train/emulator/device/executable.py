"""What a compiled model consists of."""

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import torch

from .._args_parser import Arguments
from .._impl import createPoptorchError
from ..capture.graph import Graph
from ..capture.program import Program
from ..capture.rounding import make_rounding
from .batching import Batching
from .replica_groups import ReplicaGroups


class Executable:
    """What a compiled model consists of.

    Attributes:
        graph, program: the captured forward and its runnable form.
        batching: how calls are cut into micro-batches.
        fused: micro-batches that run as one batch (1: one by one).
        signature: the arguments it was compiled for, shapes and dtypes only.
        state: storage of every parameter and buffer by name, as replica 0 holds it.
        weights: the parameters among them.
        updated_buffers: names of what forward changes; each replica has its own copy.
        half_weights: names of parameters that the device stores as float16.
        rounding: how results are rounded to float16.
        groups: of replicas, for the parameters that differ between them.
    """

    def __init__(
        self,
        graph: Graph,
        batching: Batching,
        signature: Arguments,
        training: bool,
        keep: Sequence[int] = (),
        check: Optional[Any] = None,
    ) -> None:
        self.graph = graph
        self.batching = batching
        self.signature = signature
        self.training = training
        self.loss_slot = _loss_slot(graph) if training else None
        self.program = Program(graph, list(keep) + ([self.loss_slot] if training else []), check)
        self.fused = 1
        self.state: Dict[str, torch.Tensor] = {}
        self.weights: Dict[str, torch.Tensor] = {}
        self.half_weights: List[str] = []
        self.updated_buffers: List[str] = []
        self.updated_inputs: List[int] = []
        self.replica_state: List[List[torch.Tensor]] = []
        self.parameter_names: Dict[int, str] = {}
        self.groups: Dict[str, ReplicaGroups] = {}
        self.rounding = make_rounding(False)

    def build_replicas(self, replicas: int) -> None:
        """State lists in the order of the graph; buffers that forward updates are held once per replica."""
        self.replica_state = [
            [
                value.detach().clone() if replica and name in self.updated_buffers else value
                for name, value in self.state.items()
            ]
            for replica in range(replicas)
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

    def optimizer_names(self, optimizer: Any) -> List[List[str]]:
        """Names of the weights of each parameter group; parameters of other modules are left out."""
        names = []
        for group in optimizer.param_groups:
            known = [self.parameter_names.get(id(parameter)) for parameter in group["params"]]
            names.append([name for name in known if name is not None and self.weights[name].requires_grad])
        return names


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A view of a parameter or buffer that is no wrapper class and has no autograd history."""
    with torch._C.DisableTorchFunctionSubclass():
        return object.__getattribute__(tensor, "detach")()


def named_state(model: torch.nn.Module) -> List[Tuple[str, torch.Tensor]]:
    """(name, tensor) of every parameter and buffer; a tensor with several names appears once, under its first."""
    return list(model.named_parameters()) + list(model.named_buffers())


def _loss_slot(graph: Graph) -> int:
    try:
        slot = graph.loss_slot()
    except ValueError as error:
        raise createPoptorchError(
            "Multiple independent losses found in graph. Graph must have one final loss. Wrap final graph loss in "
            f"poptorch.identity_loss. Found: {error}."
        ) from None
    if slot is None:
        raise createPoptorchError(
            "Couldn't find a loss in graph: a training model must compute its loss in forward, with a torch loss "
            "function or poptorch.identity_loss."
        )
    return slot

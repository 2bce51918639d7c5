"""Names of the tensors of a compiled model, and tensors kept under a name beside the outputs.

Source: PopTorch 3.4 user guide, "Inspecting tensors": gradients are ``Gradient___<weight>``, weights after an update
``UpdatedVar___<weight>``.
"""

import copy
import json
from typing import Any, Dict, List, Optional

import torch

from ._batching import Batching
from ._graph import Graph, references
from ._logging import logger
from .enums import OutputMode
from .poptorch_core import createError

GRADIENT = "Gradient___"
UPDATED = "UpdatedVar___"
LOSS_SCALE = "finalLossScale"  # PopART's name of the scaling that automatic loss scaling arrived at

# names of PopART's operators, where they differ from torch's
_TYPES = {
    "conv1d": "Conv", "conv2d": "Conv", "conv3d": "Conv", "linear": "Gemm", "addmm": "Gemm", "matmul": "MatMul",
    "__matmul__": "MatMul", "bmm": "MatMul", "__add__": "Add", "__iadd__": "Add", "__mul__": "Mul",
    "__sub__": "Sub", "__truediv__": "Div", "batch_norm": "BatchNormalization", "group_norm": "GroupNormalization",
    "max_pool2d": "MaxPool", "avg_pool2d": "AveragePool", "nll_loss": "Nll", "cross_entropy": "Nll",
    "identity_loss": "Identityloss", "log_softmax": "LogSoftmax", "round_to_half": "Cast",
}  # fmt: skip


def operator_type(name: str) -> str:
    return _TYPES.get(name, "".join(part.capitalize() for part in name.strip("_").split("_")))


def slot_names(graph: Graph) -> Dict[str, int]:
    """A name for every tensor of a graph: inputs, state, and ``<scope>/<operator>:<result>`` for what it computes."""
    names: Dict[str, int] = {}

    def add(name: str, slot: int) -> None:
        unique, count = name, 0
        while unique in names:
            count += 1
            unique = f"{name}/{count}"
        names[unique] = slot

    for slot in graph.inputs:
        add("input", slot)
    for name, slot in graph.state.items():
        add(name, slot)
    for node in graph.nodes:
        prefix = f"{node.scope}/" if node.scope else ""
        for index, slot in enumerate(node.outputs()):
            add(f"{prefix}{operator_type(node.name)}:{index}", slot)
    return names


class Anchor:
    """One kept tensor: which it is, and which micro-batches of it."""

    def __init__(self, short_name: str, long_name: str, batching: Batching) -> None:
        self.short_name = short_name
        self.long_name = long_name
        self.batching = batching
        self.weight: Optional[str] = None  # of a gradient or an updated weight
        self.slot: Optional[int] = None
        self.of_loss_scale = False
        self.pieces: List[torch.Tensor] = []

    @property
    def of_gradient(self) -> bool:
        return self.long_name.startswith(GRADIENT)

    def keep(self, value: torch.Tensor, iteration: int, accumulation: int) -> None:
        if self.batching.keeps(iteration, accumulation):
            self.pieces.append(value.detach().clone())

    def value(self) -> torch.Tensor:
        """What the last call kept; an empty tensor when it kept nothing."""
        pieces, self.pieces = self.pieces, []
        return self.batching.join(pieces) if pieces else torch.empty(0)


def make_anchors(
    options: Any, batching: Batching, graph: Graph, weights: Dict[str, torch.Tensor]
) -> List[Anchor]:
    """The anchors that the options ask for.

    Raises:
        poptorch.Error: a tensor that the model does not have.
    """
    names = slot_names(graph) if options.anchored_tensors else {}
    anchors = []
    for short_name, (long_name, mode_is_none, mode, period) in options.anchored_tensors.items():
        own = copy.copy(batching)
        if not mode_is_none:
            own.output_mode, own.period = OutputMode(mode), period
        mode_name = own.output_mode.name
        if own.output_mode != OutputMode.Sum:  # PopTorch writes this one as it is
            mode_name = mode_name.upper()
        logger.debug("Anchor %s %s/%d", long_name, mode_name, own.period)
        anchor = Anchor(short_name, long_name, own)
        if long_name.startswith((GRADIENT, UPDATED)):
            weight = long_name[len(GRADIENT if anchor.of_gradient else UPDATED) :]
            if weight not in weights and weight.startswith("model."):
                weight = weight[len("model.") :]  # as versions before 3.0 named them
            anchor.weight = weight if weight in weights else None
        else:
            anchor.slot = names.get(long_name)
            anchor.of_loss_scale = long_name == LOSS_SCALE and options.Training.automatic_loss_scaling
        if anchor.weight is None and anchor.slot is None and not anchor.of_loss_scale:
            raise createError(
                f"Anchor tensor {long_name!r} does not exist in the model: executor.getTensorNames() lists those "
                "that do",
                "popart_exception",
            )
        anchors.append(anchor)
    return anchors


def intermediate_representation(graph: Graph) -> str:
    """The captured graph in the form of PopART's JSON: ``{"maingraph": [operators]}``."""
    names = {slot: name for name, slot in slot_names(graph).items()}
    returned = {ref.slot for ref in references(graph.outputs)}
    group_of = {id(node): group for group in graph.multi_convs for node in group}

    def tensor(slot: int) -> Dict[str, Any]:
        return {"name": names.get(slot, f"constant/{slot}"), "returned": slot in returned}

    operators = []
    to_stash = set(graph.stashed)
    for node in graph.nodes:
        group = group_of.get(id(node), [node])  # the convolutions of a MultiConv are one operator
        if node is not group[-1]:
            continue
        attributes = {"__ipu_number": str(node.ipu), "__pipeline_stage": str(node.stage)}
        attributes.update({key: json.dumps(value, default=str) for key, value in node.attributes.items()})
        kind = "MultiConv" if id(node) in group_of else operator_type(node.name)
        operators.append(
            {
                "type": kind,
                "name": f"{node.scope}/{kind}" if node.scope else kind,
                "location": node.location,
                "inputs": [tensor(slot) for member in group for slot in member.inputs()],
                "outputs": [tensor(slot) for member in group for slot in member.outputs()],
                "attributes": attributes,
            }
        )
        for slot in sorted(to_stash.intersection(node.inputs() + node.outputs())):
            to_stash.discard(slot)
            operators.append(
                dict(operators[-1], type="Stash", name="Stash", inputs=[tensor(slot)], outputs=[])
            )
    return json.dumps({"maingraph": operators}, separators=(",", ":"))

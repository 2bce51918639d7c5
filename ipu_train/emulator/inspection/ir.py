"""A compiled model in the form of PopART's intermediate representation, and what its tensors are called in it.

Source: PopTorch 3.4 user guide, "Inspecting tensors": gradients are ``Gradient___<weight>``, weights after an update
``UpdatedVar___<weight>``.
"""

import json
from typing import Any, Dict, List

from ..capture.graph import Graph, references
from ..update.hyper_parameters import optimizerType
from ..update.rules import DeviceOptimizer

Operator = Dict[str, Any]

GRADIENT = "Gradient___"
UPDATED = "UpdatedVar___"

# names of PopART's operators, where they differ from torch's
_TYPES = {
    "conv1d": "Conv", "conv2d": "Conv", "conv3d": "Conv", "linear": "Gemm", "addmm": "Gemm", "matmul": "MatMul",
    "__matmul__": "MatMul", "bmm": "MatMul", "__add__": "Add", "__iadd__": "Add", "__mul__": "Mul",
    "__sub__": "Sub", "__truediv__": "Div", "batch_norm": "BatchNormalization", "group_norm": "GroupNormalization",
    "max_pool2d": "MaxPool", "avg_pool2d": "AveragePool", "nll_loss": "Nll", "cross_entropy": "Nll",
    "identity_loss": "Identityloss", "log_softmax": "LogSoftmax", "round_to_half": "Cast", "round_in_place": "Cast",
}  # fmt: skip

# PopART's operators of a weight update; of the others Adam's
_OPERATORS = {
    "SGD1": ["SGD1Combo", "SGD1VarUpdate"],
    "SGD2": ["SGD2Combo", "SGD2VarUpdate"],
    "RMSPROP": ["RMSPropUpdater", "ScaledVarUpdate"],
    "RMSPROP_CENTERED": ["RMSPropUpdater", "ScaledVarUpdate"],
    "LAMB": ["AdamUpdater", "LambR1", "LambR2", "AdamVarUpdate"],
    "LAMB_NO_BIAS": ["AdamUpdater", "LambR1", "LambR2", "AdamVarUpdate"],
}


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


def as_json(operators: List[Operator]) -> str:
    """PopART's JSON: ``{"maingraph": [operators]}``."""
    return json.dumps({"maingraph": operators}, separators=(",", ":"))


def graph_operators(graph: Graph) -> List[Operator]:
    """The operators of a captured graph, in order."""
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
        for slot in sorted(set(node.inputs() + node.outputs())):
            if (slot, node.ipu) not in to_stash:
                continue
            to_stash.discard((slot, node.ipu))
            operators.append(
                dict(operators[-1], type="Stash", name="Stash", inputs=[tensor(slot)], outputs=[])
            )
    return operators


def update_operators(optimizer: DeviceOptimizer) -> List[Operator]:
    """The operators of the weight update, for each weight the same: from its gradient to ``UpdatedVar___<weight>``."""
    kind = optimizerType(optimizer.kind, optimizer.settings, optimizer.groups)
    kinds = _OPERATORS.get(kind, ["AdamUpdater", "AdamVarUpdate"])
    if optimizer.kind == "sgd" and not any(key.startswith("Accl") for key in optimizer.state):
        kinds = ["SGD0VarUpdate"]
    operators = []
    for weight in (name for names in optimizer.names for name in names):
        inputs = [_tensor(weight), _tensor(GRADIENT + weight)]
        for kind in kinds:
            outputs = [_tensor(UPDATED + weight if kind == kinds[-1] else f"{kind}___{weight}")]
            operators.append(
                {
                    "type": kind,
                    "name": f"{kind}/{weight}",
                    "location": "",
                    "inputs": inputs,
                    "outputs": outputs,
                    "attributes": {},
                }
            )
            inputs = [inputs[0], *outputs]
    return operators


def _tensor(name: str) -> Dict[str, Any]:
    return {"name": name, "returned": False}

"""What a compiled model tells about its tensors (PopTorch 3.4 user guide, "Inspecting tensors")."""

from typing import Any, List, Optional

from ..update.rules import DeviceOptimizer
from .ir import as_json, graph_operators, slot_names, update_operators


def tensor_names(executable: Any, optimizer: Optional[DeviceOptimizer]) -> List[str]:
    """Names of all tensors of what was compiled, in training with those of the weight update."""
    names = list(slot_names(executable.graph))
    if optimizer is not None:
        names.append("loss")
        for weight, storage in executable.weights.items():
            if storage.requires_grad:
                names += [f"Gradient___{weight}", f"UpdatedVar___{weight}"]
        names += list(optimizer.read_parameters())
    return names


def popart_ir(executable: Any, optimizer: Optional[DeviceOptimizer]) -> str:
    """The captured graph as JSON text; in training with the operators that update the weights."""
    operators = graph_operators(executable.graph)
    if optimizer is not None:
        operators += update_operators(optimizer)
    return as_json(operators)

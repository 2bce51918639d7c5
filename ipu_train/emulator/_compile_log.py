"""What compiling says at debug and trace level, in the words that programs look for in PopTorch's log."""

import json
from typing import Any, Dict

import torch

from ._anchors import intermediate_representation
from ._graph import Graph
from ._logging import TRACE, logger, trace

# how PopTorch writes the types of tensors
_TYPES = {
    torch.float32: "Float",
    torch.int32: "Int",
    torch.bool: "Bool",
    torch.uint8: "Byte",
    torch.int8: "Char",
}


def describe(tensor: torch.Tensor, half: bool) -> str:
    """A device tensor's type, e.g. ``Half(16, strides=[1], requires_grad=0, device=ipu:0)``."""
    name = "Half" if half else _TYPES.get(tensor.dtype, str(tensor.dtype))
    shape = "".join(f"{size}, " for size in tensor.shape)
    strides = ", ".join(map(str, torch.empty(tensor.shape, device="meta").stride()))
    return f"{name}({shape}strides=[{strides}], requires_grad={int(tensor.requires_grad)}, device=ipu:0)"


def log_graph(graph: Graph, storages: Dict[str, torch.Tensor], partials: str) -> None:
    """The captured graph: how large it is; at trace level its weights, buffers and operators.

    Args:
        graph: as captured.
        storages: device tensors of weights and buffers by name.
        partials: type of partial sums, ``float`` or ``half``.
    """
    logger.debug("Graph lowered to PopART: %d operators", len(graph.nodes))
    if not logger.isEnabledFor(TRACE):
        return
    for name, slot in graph.state.items():
        trace("%%%d : %s -> %s", slot, describe(storages[name], slot in graph.half), name)
    content = json.loads(intermediate_representation(graph))
    for operator in content["maingraph"]:
        if operator["type"] in ("Gemm", "MatMul"):
            operator["attributes"]["partialsType"] = f"MatMulPartialsType::{partials.upper()}"
        elif operator["type"] in ("Conv", "MultiConv"):
            operator["attributes"]["partialsType[0]"] = partials
    trace("PopART graph: %s", json.dumps(content, separators=(",", ":")))


def log_target(options: Any) -> None:
    """Which device the user asked for, if any."""
    if options.exists("use_model"):
        state = "Enabled" if options.use_model else "Disabled"
        logger.info("From the user configuration: Ipu model: %s", state)


def log_compiled() -> None:
    """Nothing is left to do but to run."""
    trace("Finished Poplar compilation")


def log_acquired(graph: Graph, replicas: int, device: int) -> None:
    """How many IPUs the model takes, and from which device id."""
    ipus = len({node.ipu for node in graph.nodes}) or 1
    logger.debug("Acquired %d IPU(s): running on device Id %d", ipus * replicas, device)

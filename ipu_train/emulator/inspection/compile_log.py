"""What compiling says at debug and trace level, in the words that programs look for in PopTorch's log."""

import logging
from typing import Any, Dict

import torch

from .._logging import TRACE, logger, trace
from ..capture.dtypes import core_name, device_dtype
from ..capture.graph import Graph
from ..capture.stages import StageTracker
from .ir import as_json, graph_operators, slot_names


def describe(tensor: torch.Tensor, half: bool) -> str:
    """A device tensor's type, e.g. ``Half(16, strides=[1], requires_grad=0, device=ipu:0)``."""
    name = "Half" if half else core_name(device_dtype(tensor.dtype))
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
    operators = graph_operators(graph)
    for operator in operators:
        if operator["type"] in ("Gemm", "MatMul"):
            operator["attributes"]["partialsType"] = f"MatMulPartialsType::{partials.upper()}"
        elif operator["type"] in ("Conv", "MultiConv"):
            operator["attributes"]["partialsType[0]"] = partials
    trace("PopART graph: %s", as_json(operators))


def log_placement(graph: Graph, stages: StageTracker) -> None:
    """Name each result with the IPU and stage that compute it, and say whether that makes a pipeline."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    logger.debug("enablePipelining set to value %d", stages.mode == "Pipelined" and stages.several_ipus)
    names = {slot: name for name, slot in slot_names(graph).items()}
    for node in graph.nodes:
        for slot in node.outputs():
            logger.debug(
                "Placed %s : mode(%s), ipu(%d), stage(%d)", names[slot], stages.mode, node.ipu, node.stage
            )


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
    ipus = max((node.ipu for node in graph.nodes), default=0) + 1
    logger.debug("Acquired %d IPU(s): running on device Id %d", ipus * replicas, device)

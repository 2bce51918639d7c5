"""Compile-time rules of overlapped host I/O (PopTorch 3.4 user guide, "Overlapping compute and I/O")."""

from typing import Any, List

from ._graph import Graph, Node, references
from ._strategies import PipelinedExecution, ShardedExecution
from .enums import OutputMode, OverlapMode
from .poptorch_core import createError


def check_overlap(graph: Graph, options: Any) -> None:
    """Refuse overlapped I/O where it cannot work.

    Raises:
        poptorch.Error: not an input or output of the model, used or returned elsewhere too, a pipelined model, no
            I/O tiles, or an output mode other than All and Sum.
    """
    inputs = _overlapped(graph, "set_overlap_for_input")
    outputs = _overlapped(graph, "set_overlap_for_output")
    if not inputs and not outputs:
        return
    strategy = options._execution_strategy
    if isinstance(strategy, PipelinedExecution) and not isinstance(strategy, ShardedExecution):
        raise createError(
            "Overlapped IO is not supported with poptorch.PipelinedExecution: use poptorch.ShardedExecution."
        )
    if not options.TensorLocations.toDict().get("numIOTiles", options._Popart.options.get("numIOTiles", 0)):
        raise createError(
            "No IO tiles allocated. Overlapped IO needs some: call options.TensorLocations.numIOTiles()."
        )
    for node in inputs:
        _check_input(graph, node)
    for node in outputs:
        _check_output(graph, node)
    if outputs and OutputMode(options.output_mode) not in (OutputMode.All, OutputMode.Sum):
        raise createError(
            f"Unsupported output mode for overlapped IO: {OutputMode(options.output_mode).name}. "
            "Use OutputMode.All or OutputMode.Sum."
        )


def _overlapped(graph: Graph, name: str) -> List[Node]:
    return [n for n in graph.nodes if n.name == name and n.args[1] != OverlapMode.NoOverlap]


def _check_input(graph: Graph, node: Node) -> None:
    slot = node.inputs()[0]
    if slot not in graph.inputs:
        raise createError(
            f"poptorch.set_overlap_for_input at {node.location} was applied on a node which is not a tensor input"
        )
    others = [other for other in graph.nodes if other is not node and slot in other.inputs()]
    if others or slot in [ref.slot for ref in references(graph.outputs)]:
        raise createError(
            f"poptorch.set_overlap_for_input at {node.location} must be the only op applied to the input"
            + (f", but {others[0].name} at {others[0].location} uses it too" if others else "")
        )


def _check_output(graph: Graph, node: Node) -> None:
    slot = node.outputs()[0]
    returned = [ref.slot for ref in references(graph.outputs)].count(slot)
    if not returned:
        raise createError(
            f"poptorch.set_overlap_for_output at {node.location} was applied on a node which is not a tensor output"
        )
    if returned > 1:
        raise createError(
            f"The tensor of poptorch.set_overlap_for_output at {node.location} is returned twice"
        )

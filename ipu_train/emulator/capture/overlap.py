"""Compile-time rules of overlapped host I/O (PopTorch 3.4 user guide, "Overlapping compute and I/O")."""

from typing import Any, List, Sequence

from ..enums import OutputMode, OverlapMode
from ..poptorch_core import createError
from ..settings.strategies import PipelinedExecution, ShardedExecution
from .graph import Graph, Node, references


def check_overlap(graph: Graph, options: Any, input_names: Sequence[str]) -> None:
    """Refuse overlapped I/O where it cannot work: first where it was put, then what the options lack.

    Args:
        graph: the captured model.
        options: of the executor.
        input_names: for each input of the graph the parameter of forward that it came with.

    Raises:
        poptorch.Error: not an input or output of the model, used or returned elsewhere too, a pipelined model, no
            I/O tiles, or an output mode other than All and Sum.
    """
    inputs = _overlapped(graph, "set_overlap_for_input")
    outputs = _overlapped(graph, "set_overlap_for_output")
    if not inputs and not outputs:
        return
    for node in inputs:
        _check_input(graph, node, input_names)
    for node in outputs:
        _check_output(graph, node)
    strategy = options._execution_strategy
    if isinstance(strategy, PipelinedExecution) and not isinstance(strategy, ShardedExecution):
        raise createError(
            "Overlapped IO is not supported with poptorch.PipelinedExecution. If you are using only one IPU, please "
            "switch to poptorch.ShardedExecution."
        )
    if not options.TensorLocations.toDict().get("numIOTiles", options._Popart.options.get("numIOTiles", 0)):
        raise createError(
            "No IO tiles allocated. You must allocate at least 32 IO tiles using "
            "poptorch.Options().TensorLocations.numIOTiles."
        )
    if outputs and OutputMode(options.output_mode) not in (OutputMode.All, OutputMode.Sum):
        raise createError(
            "Unsupported output mode for overlapped IO. Please switch output mode to poptorch.OutputMode.All or "
            f"poptorch.OutputMode.Sum; it is {OutputMode(options.output_mode).name}."
        )


def _overlapped(graph: Graph, name: str) -> List[Node]:
    return [n for n in graph.nodes if n.name == name and n.args[1] != OverlapMode.NoOverlap]


def _check_input(graph: Graph, node: Node, input_names: Sequence[str]) -> None:
    slot = node.inputs()[0]
    if slot not in graph.inputs:
        raise createError(
            "poptorch.set_overlap_for_input applied on a node which is not a tensor input to the model. It is called "
            f"at {node.location}."
        )
    others = [other for other in graph.nodes if other is not node and slot in other.inputs()]
    if others or slot in [ref.slot for ref in references(graph.outputs)]:
        raise createError(
            "poptorch.set_overlap_for_input must be the only op applied to an input. This is not the case for input "
            f"{input_names[graph.inputs.index(slot)]} to the model."
            + (f" {others[0].name} at {others[0].location} uses it too." if others else "")
        )


def _check_output(graph: Graph, node: Node) -> None:
    returned = [ref.slot for ref in references(graph.outputs)]
    if node.outputs()[0] not in returned:
        raise createError(
            "poptorch.set_overlap_for_output applied on a node which is not a tensor output to the model. It is "
            f"called at {node.location}."
        )
    if returned.count(node.outputs()[0]) + returned.count(node.inputs()[0]) > 1:
        raise createError(
            "poptorch.set_overlap_for_output cannot be used with a tensor that is returned twice. Please check all "
            f"returned tensors including those nested in tuples/lists. It is called at {node.location}."
        )

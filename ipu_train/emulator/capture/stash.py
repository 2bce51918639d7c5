"""What a pipeline with recomputation keeps of a micro-batch between its forward and its backward pass.

For reports alone (``executor._debugGetPopartIR()``): no number depends on it. Source: PopTorch 3.4 user guide,
"Pipelined execution" and ``poptorch.recomputationCheckpoint``; for what is recomputed unasked, Compiler.cpp.
"""

from typing import Any, Iterable, Set

from ..settings.strategies import PipelinedExecution, ShardedExecution
from .graph import Graph

# popart.RecomputationType.Pipeline
_RECOMPUTE_STAGES = 3


def recomputes_stages(graph: Graph, options: Any) -> bool:
    """Whether stages run forwards again before they run backwards: in pipelines, unless the options say otherwise."""
    strategy = options._execution_strategy
    pipelined = isinstance(strategy, PipelinedExecution) and not isinstance(strategy, ShardedExecution)
    several = len({node.ipu for node in graph.nodes}) > 1
    asked = options._Popart.options.get("autoRecomputation", _RECOMPUTE_STAGES)
    return pipelined and several and asked == _RECOMPUTE_STAGES


def stashed_tensors(graph: Graph, trained: Iterable[int]) -> Set[int]:
    """Slots that are stashed when every stage but the last is recomputed.

    These are the inputs of a stage that its recomputation starts from, and the checkpoints inside it. The last stage
    runs backwards at once and keeps nothing.

    Args:
        trained: slots of the weights that are trained.
    """
    last = max((node.stage for node in graph.nodes), default=0)
    stage_of = {slot: node.stage for node in graph.nodes for slot in node.outputs()}
    needed = set(
        trained
    )  # by the backward pass: what depends on weights, and then what that is computed from
    for node in graph.nodes:
        if node.grad_enabled and needed.intersection(node.inputs()):
            needed.update(node.outputs())
    stashed: Set[int] = set()
    for node in reversed(graph.nodes):
        if node.stage == last or not needed.intersection(node.outputs()):
            continue
        if node.name == "recomputation_checkpoint":
            stashed.update(node.outputs())
        for slot in node.inputs():
            needed.add(slot)
            if slot in graph.inputs or stage_of.get(slot, node.stage) != node.stage:
                stashed.add(slot)
    return stashed

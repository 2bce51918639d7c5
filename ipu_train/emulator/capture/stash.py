"""What a pipeline with recomputation keeps of a micro-batch between its forward and its backward pass.

For reports alone (``executor._debugGetPopartIR()``): no number depends on it. Source: PopTorch 3.4 user guide,
"Pipelined execution" and ``poptorch.recomputationCheckpoint``; for what is recomputed unasked, Compiler.cpp; for what
is stashed, PopART's willow/src/transforms/pipeline.cpp.
"""

from collections import defaultdict
from typing import Any, Dict, Iterable, Set, Tuple

from ..settings.strategies import PipelinedExecution, ShardedExecution
from .graph import Graph
from .precision import ROUND_IN_PLACE

# popart.RecomputationType.Pipeline
_RECOMPUTE_STAGES = 3

_ROUNDINGS = ("round_to_half", ROUND_IN_PLACE)


def recomputes_stages(graph: Graph, options: Any) -> bool:
    """Whether stages run forwards again before they run backwards: in pipelines, unless the options say otherwise."""
    strategy = options._execution_strategy
    pipelined = isinstance(strategy, PipelinedExecution) and not isinstance(strategy, ShardedExecution)
    several = len({node.ipu for node in graph.nodes}) > 1
    asked = options._Popart.options.get("autoRecomputation", _RECOMPUTE_STAGES)
    return pipelined and several and asked == _RECOMPUTE_STAGES


def stashed_tensors(graph: Graph, trained: Iterable[int]) -> Set[Tuple[int, int]]:
    """Slots that are stashed, and the IPU of each, when every stage but the last is recomputed.

    These are what comes to an IPU, from the host or another one, and the checkpoints that are computed with there,
    where the backward pass of these stages depends on it. The last stage runs backwards at once and keeps nothing.
    Stages on one IPU that follow each other hand nothing over.

    Args:
        trained: slots of the weights that are trained.
    """
    last = max((node.stage for node in graph.nodes), default=0)
    ipu_of = {slot: node.ipu for node in graph.nodes for slot in node.outputs()}
    used_on = _consumers(graph)
    needed = set(
        trained
    )  # by the backward pass: what depends on weights, and then what that is computed from
    for node in graph.nodes:
        if node.grad_enabled and needed.intersection(node.inputs()):
            needed.update(node.outputs())
    stashed: Set[Tuple[int, int]] = set()
    for node in reversed(graph.nodes):
        if node.stage == last or not needed.intersection(node.outputs()):
            continue
        if node.name == "recomputation_checkpoint":
            stashed.update((slot, node.ipu) for slot in node.outputs() if node.ipu in used_on[slot])
        for slot in node.inputs():
            if slot in graph.inputs or ipu_of.get(slot, node.ipu) != node.ipu:
                stashed.add((slot, node.ipu))
            else:
                needed.add(slot)
    return stashed


def _consumers(graph: Graph) -> Dict[int, Set[int]]:
    """The IPUs that compute with a slot. Rounding, which is no operation there, hands on what it is given."""
    used_on: Dict[int, Set[int]] = defaultdict(set)
    for node in reversed(graph.nodes):
        rounded = [used_on[slot] for slot in node.outputs()] if node.name in _ROUNDINGS else [{node.ipu}]
        for slot in node.inputs():
            used_on[slot].update(*rounded)
    return used_on

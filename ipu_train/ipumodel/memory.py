"""Memory of one IPU: always-live categories, the peak of what comes and goes, and what is responsible for
it.
"""

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Sequence, Tuple

import numpy as np

from . import constants as k
from .costs import OpCost
from .estimators import code_of
from .liveness import live_at, live_bytes
from .program import PARAMETER, Operation, Program
from .schedule import BACKWARD, RECOMPUTE, Schedule, Step
from .settings import OPTIMIZERS, Settings
from .target import Target

# Always live, in the order of the table; "not_always_live" is the peak over the schedule.
ALWAYS_LIVE = (
    "weights",
    "master_weights",
    "optimizer_state",
    "gradient_accumulators",
    "stash",
    "input_buffers",
    "io_tiles",
    "vertex_code",
    "vertex_state",
    "exchange_code",
    "control_code",
)
PEAK = ("activations", "gradients", "temporaries")


@dataclass(frozen=True)
class Moment:
    """The step of the schedule at which most bytes are live."""

    step: int
    steps: int
    phase: str
    operator: str
    layer: str
    responsible: Tuple[Tuple[str, str, int], ...]  # (layer, what, bytes), largest first


@dataclass
class IpuMemory:
    """Bytes of one IPU over all its tiles. ``categories`` sum to ``total_bytes``."""

    categories: Dict[str, int]
    total_bytes: int
    worst_tile_bytes: int
    bytes_per_tile: int
    moment: Moment
    activation_peak_bytes: int
    live: np.ndarray

    @property
    def fits(self) -> bool:
        return self.worst_tile_bytes <= self.bytes_per_tile

    @property
    def missing_bytes(self) -> int:
        """By how many bytes the worst tile is over; 0 when it fits."""
        return max(0, self.worst_tile_bytes - self.bytes_per_tile)


def stash_depth(settings: Settings, stage: int, stages: int) -> int:
    """Micro-batches in flight between the forward and the backward pass of a stage.

    PopART and grouped pipelines: 2 (stages to the end) + 1, none for the last stage (PopART
    ``pipeline.cpp``); interleaved: as many as there are stages to the end.
    """
    if settings.schedule in ("sequential", "sharded") or stages == 1:
        return 0
    to_end = stages - 1 - stage
    if to_end == 0:
        return 0
    return to_end + 1 if settings.schedule == "interleaved" else 2 * to_end + 1


def weights_of(program: Program, operations: Iterable[Operation], floating_bytes: int = 2) -> Tuple[int, int]:
    """Trainable parameters and other state that the operations read: (trainable elements, constant bytes)."""
    indices = {i for op in operations for i in op.reads if program.tensors[i].kind in (PARAMETER, "buffer")}
    trainable = sum(program.tensors[i].elements for i in indices if program.tensors[i].requires_grad)
    frozen = sum(
        program.tensors[i].elements * (floating_bytes if program.tensors[i].floating else 4)
        for i in indices
        if not program.tensors[i].requires_grad
    )
    return trainable, frozen


def frozen_weights_of(program: Program, operations: Iterable[Operation]) -> int:
    """Elements of the weights that the operations read and that are not trained."""
    read = {i for op in operations for i in op.reads if program.tensors[i].kind == PARAMETER}
    tensors = (program.tensors[i] for i in read)
    return sum(t.elements for t in tensors if t.floating and not t.requires_grad)


def state_bytes(
    program: Program, settings: Settings, trainable: int, frozen: int, frozen_weights: int = 0
) -> Dict[str, float]:
    """Bytes of weights, master weights, optimizer state and accumulators on one IPU (of one replica).

    The ``frozen_weights`` are among the ``frozen`` bytes; 16.32 stores them in float32 like those that are trained.
    """
    _, combined = OPTIMIZERS[settings.optimizer]
    found: Dict[str, float] = {
        "weights": trainable * settings.activation_bytes + frozen,
        "master_weights": (trainable + frozen_weights) * 4 if settings.precision == "16.32" else 0,
        "optimizer_state": 0,
        "gradient_accumulators": 0,
    }
    if not program.training:
        found["master_weights"] = 0
        return found
    state = trainable * settings.state_bytes_per_weight
    accumulate = settings.gradient_accumulation > 1
    found["gradient_accumulators"] = 0 if combined or not accumulate else trainable * settings.gradient_bytes
    if settings.optimizer_offload and settings.state_is_apart:
        state = 0
    elif settings.replicated_tensor_sharding and settings.state_is_apart:
        state = -(-state // settings.replicas)
    found["optimizer_state"] = state
    if settings.weights_offload:
        found["master_weights"] = 0
        if settings.precision != "16.32":  # there the half copies stay: they are made once for both passes
            found["weights"] = frozen
    elif settings.replicated_tensor_sharding and settings.compiler == "tensorflow":
        found["master_weights"] = -(-found["master_weights"] // settings.replicas)
    return found


def _code(schedule: Schedule, costs: Sequence[OpCost], repeated_apart: bool) -> List[Tuple[Any, OpCost]]:
    """(name, cost) of the pieces of code of all steps."""
    repeated = {id(s.op) for s in schedule.steps if s.phase == RECOMPUTE} if repeated_apart else set()
    pieces: List[Tuple[Any, OpCost]] = []
    for step, cost in zip(schedule.steps, costs):
        backward = step.phase == BACKWARD
        pieces += code_of(step.op, cost, backward, not backward and id(step.op) in repeated)
    return pieces


def code_bytes(costs: Iterable[Tuple[Any, OpCost]], target: Target) -> Dict[str, float]:
    """Code and state of the operations of an IPU, each distinct one once (the compiler outlines equal ones).

    ``costs`` are (name, OpCost) pairs. Vertex code is there once per vertex type and tile.
    """
    unique = dict(costs)
    codelets = (
        frozenset().union(*[c.codelets for c in unique.values()]) | {"runtime"} if unique else {"runtime"}
    )
    code = sum(k.CODELET_BYTES.get(name, k.CODELET_BYTES["binary"]) for name in codelets)
    return {
        "vertex_code": code * target.tiles,
        "vertex_state": sum(c.vertex_state_bytes for c in unique.values()),
        "exchange_code": sum(c.exchange_code_bytes for c in unique.values()),
        "control_code": sum(c.control_code_bytes for c in unique.values())
        + k.OTHER_PROGRAM_BYTES * target.tiles,
    }


def ipu_memory(
    program: Program,
    settings: Settings,
    target: Target,
    schedule: Schedule,
    costs: Sequence[OpCost],
    operations: Sequence[Operation],
    depth: int,
    update_bytes: float,
) -> IpuMemory:
    """:class:`IpuMemory` of the IPU that runs ``operations`` by ``schedule``.

    Args:
        costs: the :class:`OpCost` of each step of the schedule, in order.
        target: the chip with the tiles that compute.
        depth: micro-batches in the stash (0: none).
        update_bytes: temporaries of the weight update (all-reduce buffers, optimizer arithmetic).
    """
    trainable, frozen = weights_of(program, operations, settings.activation_bytes)
    categories = dict.fromkeys(ALWAYS_LIVE + PEAK, 0.0)
    frozen_weights = frozen_weights_of(program, operations)
    categories.update(state_bytes(program, settings, trainable, frozen, frozen_weights))
    categories["stash"] = depth * sum(schedule.stored.values())
    categories["input_buffers"] = sum(
        program.tensors[i].elements * settings.input_bytes_per_element
        for op in operations
        for i in op.reads
        if program.tensors[i].kind == "input" and program.tensors[i].floating
    )
    categories["io_tiles"] = _on_io_tiles(settings, categories["input_buffers"])
    update = [] if not program.training else [(("update",), _update_cost(target))]
    categories.update(code_bytes(_code(schedule, costs, settings.compiler == "popart") + update, target))
    during = [
        c.temporary_bytes + _weight_gradient(program, settings, s) + _fetched_weights(program, settings, s)
        for s, c in zip(schedule.steps, costs)
    ]
    steps = len(schedule.steps)
    live = live_bytes(schedule.intervals, steps, during) if steps else np.zeros(0)
    at = int(np.argmax(live)) if steps else 0
    highest = float(live[at]) if steps else 0.0
    moment = _moment(program, schedule, during, at)
    if update_bytes > highest:
        categories["temporaries"] = update_bytes
        held = (("", "all-reduce and update", int(update_bytes)),)
        moment = Moment(steps, steps + 1, "weight update", "update", "", held)  # it comes after all others
    elif steps:
        alive = live_at(schedule.intervals, at)
        categories["gradients"] = sum(i.bytes for i in alive if i.label.startswith("gradient"))
        categories["activations"] = sum(i.bytes for i in alive if not i.label.startswith("gradient"))
        categories["temporaries"] = during[at]
    rounded = {name: round(float(value)) for name, value in categories.items()}
    total = sum(rounded.values())
    worst = round(k.WORST_TILE_SHARE * (total - rounded["io_tiles"]) / target.tiles)
    if settings.io_tiles:
        worst = max(worst, round(k.WORST_TILE_SHARE * rounded["io_tiles"] / settings.io_tiles))
    return IpuMemory(
        rounded,
        total,
        worst,
        target.bytes_per_tile,
        moment,
        int(_activation_peak(schedule, steps)),
        np.append(live, update_bytes) if steps else live,
    )


def _activation_peak(schedule: Schedule, steps: int) -> float:
    """Peak of activations alone: neither gradients nor temporaries."""
    kept = [i for i in schedule.intervals if not i.label.startswith("gradient")]
    live = live_bytes(kept, steps) if steps else np.zeros(0)
    return float(live.max()) if len(live) else 0.0


def _weight_gradient(program: Program, settings: Settings, step: Step) -> float:
    """A weight gradient exists until it is added to the accumulator or the weights."""
    if step.phase != BACKWARD:
        return 0.0
    return float(
        sum(
            program.tensors[i].elements * settings.activation_bytes
            for i in step.op.differentiable
            if program.tensors[i].kind == PARAMETER
        )
    )


def _fetched_weights(program: Program, settings: Settings, step: Step) -> float:
    """Weights that live in streaming memory are there while an operation needs them."""
    if not (settings.weights_offload and program.training and settings.precision != "16.32"):
        return 0.0
    weights = (program.tensors[i] for i in step.op.reads)
    return float(
        sum(t.elements * settings.master_bytes for t in weights if t.kind == PARAMETER and t.requires_grad)
    )


def _on_io_tiles(settings: Settings, inputs: float) -> float:
    """The inputs of the next micro-batch; and of the one after it where updates overlap too (PopTorch, OverlapMode)."""
    if not settings.io_tiles:
        return 0.0
    return inputs * (1 if settings.gradient_accumulation > 1 else 2)


def _update_cost(target: Target) -> OpCost:
    return OpCost(
        vertex_state_bytes=k.BINARY_STATE_BYTES * target.tiles * 4,
        control_code_bytes=k.BINARY_CONTROL_BYTES * target.tiles * 8,
        exchange_code_bytes=k.BINARY_EXCHANGE_BYTES * target.tiles * 4,
        codelets=frozenset({"update", "binary"}),
    )


def _moment(program: Program, schedule: Schedule, during: Sequence[float], at: int) -> Moment:
    """What is live at the peak step, grouped by the layer that made it."""
    if not schedule.steps:
        return Moment(0, 0, "", "", "", ())
    made: Dict[int, str] = {}  # over the whole network: what a stage receives was made by another one
    for op in program.forward():
        for index in op.writes:
            made.setdefault(index, op.layer)
    grouped: Dict[Tuple[str, str], float] = {}
    for interval in live_at(schedule.intervals, at):
        what = "gradient" if interval.label.startswith("gradient") else "activation"
        key = (made.get(interval.tensor, "") or interval.label, what)
        grouped[key] = grouped.get(key, 0.0) + interval.bytes
    step = schedule.steps[at]
    key = (step.op.layer, "temporaries")
    grouped[key] = grouped.get(key, 0.0) + during[at]
    largest: List = sorted(grouped.items(), key=lambda item: -item[1])[:10]
    return Moment(
        at,
        len(schedule.steps),
        step.phase,
        step.op.operator,
        step.op.layer,
        tuple((layer, what, int(size)) for (layer, what), size in largest if size > 0),
    )

"""``plan``: a traced program, a chip and the settings of a run in, a report of memory, cycles and images/s
out.
"""

from dataclasses import dataclass, replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from . import constants as k
from .convolution.plan import PlanOptions
from .costs import CYCLE_KINDS, OpCost, add
from .estimates import estimates
from .memory import ipu_memory, stash_depth, weights_of
from .program import ACTIVATION, Program
from .report import IpuReport, Report
from .schedule import BACKWARD, FORWARD, Schedule, stage_schedule, tensor_bytes
from .settings import Settings
from .target import Target
from .throughput import throughput


@dataclass(frozen=True)
class StageCost:
    """Cycles of one micro-batch on one IPU: by phase, by kind and by kind of layer."""

    by_phase: Dict[str, float]
    by_kind: Dict[str, float]
    by_layer_kind: Dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.by_phase.values())

    @property
    def forward(self) -> float:
        """Cycles of the forward pass alone, the first time that it runs."""
        return self.by_phase.get(FORWARD, 0.0)


def plan_options(settings: Settings, proportion: float) -> PlanOptions:
    """The convolution planner's options for one IPU.

    Args:
        settings: The run's ``Settings``.
        proportion: ``availableMemoryProportion`` of that IPU (0 to 1).
    """
    return PlanOptions(
        available_memory_proportion=proportion,
        half_partials=settings.half_partials and settings.half,
        float_inputs=not settings.half,
    )


def _step_costs(
    program: Program, settings: Settings, target: Target, schedule: Schedule, proportion: float
) -> List[OpCost]:
    """The cost of each step of a schedule; equal operations are estimated once."""
    known = estimates(target, plan_options(settings, proportion), settings.activation_bytes)
    again = set(settings.run_again)
    costs = []
    for step in schedule.steps:
        op = step.op
        backward = step.phase == BACKWARD
        first = op.reads[0] if op.reads else -1
        needs_input = first in op.differentiable
        if op.kind == "matmul" and op.operator.endswith("addmm"):
            needs_input = len(op.reads) > 1 and op.reads[1] in op.differentiable
        cost = known.of(op, backward, needs_input)
        if backward and op.layer in again:
            cost = replace(cost, cycles=add([cost, known.of(op)]).cycles)
        costs.append(cost)
    return costs


def _cycles(schedule: Schedule, costs: Sequence[OpCost], target: Target) -> StageCost:
    numbers: Dict[int, int] = {}  # equal operations have one and the same cost
    distinct: List[OpCost] = []
    which = []
    for cost in costs:
        number = numbers.setdefault(id(cost), len(distinct))
        if number == len(distinct):
            distinct.append(cost)
        which.append(number)
    speedup = target.program_speedup
    totals = [cost.total_cycles / speedup for cost in distinct]
    by_phase: Dict[str, float] = {}
    by_layer: Dict[str, float] = {}
    for step, number in zip(schedule.steps, which):
        total = totals[number]
        by_phase[step.phase] = by_phase.get(step.phase, 0.0) + total
        kind = step.op.kind
        by_layer[kind] = by_layer.get(kind, 0.0) + total
    by_kind = dict.fromkeys(CYCLE_KINDS, 0.0)
    if which:
        kinds = np.array(
            [[cost.cycles.get(kind, 0.0) / speedup for kind in CYCLE_KINDS] for cost in distinct]
        )
        # one after the other, as in a loop: a sum of floats depends on the order
        by_kind = dict(zip(CYCLE_KINDS, np.cumsum(kinds[which], axis=0)[-1].tolist()))
    return StageCost(by_phase, by_kind, by_layer)


class PlannedStage(NamedTuple):
    """One stage of a plan: what its IPU needs, its trainable weights, and the bytes of activations that it keeps."""

    ipu: IpuReport
    trainable: int
    kept: float


Known = Dict[Tuple[Any, ...], PlannedStage]


def plan(
    program: Program, target: Target, settings: Optional[Settings] = None, known: Optional[Known] = None
) -> Report:
    """Plans a traced program on a chip.

    Args:
        program: from :func:`~ipu_train.ipumodel.tracer.trace`; its batch is the micro-batch size.
        target: :class:`~ipu_train.ipumodel.target.Target`.
        settings: :class:`~ipu_train.ipumodel.settings.Settings`; default settings when left out.
        known: stages of earlier plans with the same target and settings of the same program, cut elsewhere into
            stages of consecutive operations; those of this plan are added.

    Returns:
        :class:`~ipu_train.ipumodel.report.Report`.
    """
    settings = settings or Settings()
    stages = program.stages
    mode = settings.recompute_for(stages)
    sequential = settings.schedule == "sequential" or stages == 1
    groups = [None] if sequential else list(range(stages))
    proportions = settings.proportions(len(groups))
    computing = replace(target, tiles=target.tiles - settings.io_tiles)
    forward = program.forward()
    found: List[PlannedStage] = []
    for position, stage in enumerate(groups):
        # PopART keeps what the end of the last forward stage makes, since its backward pass follows at once.
        # The grouped and interleaved pipelines of the TensorFlow applications run it again like every other
        # stage: with it kept, their published throughput would be missed by up to 30 %.
        last = stage is None or (stage == stages - 1 and settings.schedule not in ("grouped", "interleaved"))
        depth = 0 if stage is None else stash_depth(settings, stage, stages)
        of_stage = [i for i, op in enumerate(forward) if stage is None or op.stage == stage]
        key = (stage, *of_stage[:1], len(of_stage), mode, last, depth, proportions[position])
        planned = known.get(key) if known is not None and stage is not None else None
        if planned is None:
            operations = [forward[i] for i in of_stage]
            schedule = _schedule(program, settings, stage, mode, last, depth > 0)
            costs = _step_costs(program, settings, computing, schedule, proportions[position])
            trainable, _ = weights_of(program, operations)
            update_bytes = _update_bytes(program, settings, trainable)
            memory = ipu_memory(
                program, settings, computing, schedule, costs, operations, depth, update_bytes
            )
            ipu = IpuReport(position, stage, memory, _cycles(schedule, costs, computing), schedule, costs)
            kept = sum(size for i, size in schedule.stored.items() if program.tensors[i].kind == "activation")
            planned = PlannedStage(ipu, trainable, kept)
            if known is not None:
                known[key] = planned
        found.append(planned)
    rate = throughput(
        program,
        settings,
        computing,
        [one.ipu.cycles for one in found],
        [one.trainable for one in found],
        [one.kept for one in found],
        [] if sequential else _crossing(program, settings, stages),
    )
    ipus = [one.ipu for one in found]
    return Report(
        program.batch, target, settings, mode, ipus, rate, dict(program.unknown), program.stage_names, program
    )


def _crossing(program: Program, settings: Settings, stages: int) -> List[float]:
    """Bytes of activations that go from each IPU to the next in one micro-batch; as many of gradients come back."""
    made: Dict[int, int] = {}
    read: Dict[int, int] = {}
    for op in program.forward():
        for index in op.writes:
            made.setdefault(index, op.stage)
        read.update(dict.fromkeys(op.reads, op.stage))
    found = [0.0] * (stages - 1)
    for index, stage in made.items():
        tensor = program.tensors[index]
        if tensor.kind == ACTIVATION:
            for boundary in range(stage, read.get(index, stage)):
                found[boundary] += tensor_bytes(tensor, settings)
    return found


def _schedule(
    program: Program, settings: Settings, stage: Optional[int], mode: str, last: bool, flush: bool
) -> Schedule:
    if stage is None and program.stages > 1 and mode in ("pipeline", "standard"):
        return _sequential_schedule(program, settings)
    return stage_schedule(program, settings, stage, mode, last, flush)


def _sequential_schedule(program: Program, settings: Settings) -> Schedule:
    """All stages on one IPU: what crosses a stage boundary is kept, the rest of each stage is computed
    again.
    """
    crossing: Dict[int, int] = {}
    for op in program.forward():
        for index in op.writes:
            crossing.setdefault(index, op.stage)
    kept = tuple(
        sorted({i for op in program.forward() for i in op.reads if i in crossing and crossing[i] != op.stage})
    )
    return stage_schedule(program, settings, None, "kept", True, False, kept)


def _update_bytes(program: Program, settings: Settings, trainable: int) -> float:
    """Temporary bytes of a weight update: gradients on their way through the all-reduce, optimizer
    arithmetic.
    """
    if not program.training:
        return 0.0
    gradients = trainable * settings.gradient_bytes
    reduce = 0.0
    if settings.replicas > 1:
        reduce = float(gradients)
        if settings.all_reduce_buffer_bytes is not None:
            reduce = min(reduce, float(settings.all_reduce_buffer_bytes))
    # Updates run tensor by tensor: a share of the weights is in flight in float at once.
    return reduce + k.UPDATE_SHARE * trainable * 4.0

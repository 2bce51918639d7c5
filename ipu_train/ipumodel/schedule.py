"""The order of one micro-batch's work on one IPU, and how long each tensor lives in it, in PopART's sense.

The backward pass is not recorded from torch: it follows from the forward operations. Each forward operation
has one backward operation, run in reverse order, that reads the tensors the forward operation saves
(``operators.py``) and the gradient of its result. Tensors that are not kept are computed again just before
the first backward operation that reads them, from what was kept (PopART's explicit recomputation).
"""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Set, Tuple

from .lifetimes import BACKWARD, FORWARD, RECOMPUTE, Step, lifetimes, tensor_bytes
from .liveness import Interval
from .program import ACTIVATION, BUFFER, INPUT, PARAMETER, Operation, Program, Tensor
from .settings import Settings

__all__ = ["BACKWARD", "FORWARD", "RECOMPUTE", "Schedule", "Step", "stage_schedule", "tensor_bytes"]


@dataclass
class Schedule:
    """Steps in order and intervals of all not-always-live tensors; ``stored`` are tensors kept from forward
    to backward.
    """

    steps: List[Step]
    intervals: List[Interval]
    stored: Dict[int, float]
    forward_steps: int


def writers(operations: Sequence[Operation]) -> Dict[int, List[Operation]]:
    """tensor -> operations that write it, in order."""
    found: Dict[int, List[Operation]] = {}
    for op in operations:
        for index in op.writes:
            found.setdefault(index, []).append(op)
    return found


def needed_for_backward(operations: Sequence[Operation]) -> Set[int]:
    """Tensors that some backward operation reads."""
    return {index for op in operations if op.differentiable for index in op.saves}


def _kept(
    operations: Sequence[Operation],
    tensors: Sequence[Tensor],
    mode: str,
    checkpoints: Sequence[str],
    boundary: Sequence[int],
    alone: bool,
) -> Set[int]:
    """Which activations are kept from the forward pass for the backward pass.

    PopART's automatic choice ("standard") looks at programs of one IPU (``alone``) only: in a pipeline it keeps what
    enters a stage (``Ir::prepareImpl``, ``Pipeline::prepareForStashing``).
    """
    needed = needed_for_backward(operations)
    activations = {i for i in needed if tensors[i].kind in (ACTIVATION, INPUT)}
    if mode == "none":
        return activations
    kept = set(boundary)
    if mode == "checkpoints":
        last = {}
        for op in operations:
            for name in checkpoints:
                if op.layer == name or op.layer.startswith(name + "."):
                    last[name] = op.writes[0]
        kept |= set(last.values())
    elif mode == "standard" and alone:
        kept |= _smallest_live_sets(operations, tensors)
    return kept


def decreasing_intervals(count: int) -> List[Tuple[int, int]]:
    """[begin, end) of the intervals in each of which PopART's Standard recomputation keeps one set of tensors.

    They shrink by one from about 0.75 sqrt(2 n); what they leave of the n operations, nearly half, are intervals of
    one operation, after each of which everything alive is kept (PopART, ``intervals.cpp``).
    """
    size = int((int((2.0 * count) ** 0.5) - 1) * 0.75)
    intervals, begin = [], 0
    while size > 0 and begin + size <= count:
        intervals.append((begin, begin + size))
        begin, size = begin + size, size - 1
    return intervals + [(i, i + 1) for i in range(begin, count)]


def _smallest_live_sets(operations: Sequence[Operation], tensors: Sequence[Tensor]) -> Set[int]:
    """What PopART's Standard keeps: of each interval the live set of the fewest bytes (``recompute.cpp``).

    An operation is alive from its own run until all its readers have run.
    """
    made_by: Dict[int, int] = {}
    waiting: Dict[int, int] = {}
    for position, op in enumerate(operations):
        for source in {made_by[i] for i in op.reads if i in made_by} - {position}:
            waiting[source] = position  # the last reader
        for index in op.writes:
            made_by[index] = position
    sizes = [sum(tensors[i].bytes for i in op.writes) for op in operations]
    ends: Dict[int, List[int]] = {}
    for source, reader in waiting.items():
        ends.setdefault(reader, []).append(source)
    live, live_sets, total, totals = set(), [], 0, []
    for position in range(len(operations)):
        for source in ends.get(position, ()):
            live.discard(source)
            total -= sizes[source]
        live.add(position)
        total += sizes[position]
        live_sets.append(frozenset(live))
        totals.append(total)
    chosen: Set[int] = set()
    for begin, end in decreasing_intervals(len(operations)):
        chosen |= live_sets[min(range(begin, end), key=totals.__getitem__)]
    return {i for position in chosen for i in operations[position].writes if tensors[i].kind == ACTIVATION}


def stage_schedule(
    program: Program,
    settings: Settings,
    stage: Optional[int],
    mode: str,
    last_stage: bool = True,
    flush: bool = False,
    keep: Sequence[int] = (),
) -> Schedule:
    """The :class:`Schedule` of one micro-batch on the operations of ``stage`` (None for all stages in
    sequence).

    ``flush`` says that forward and backward of one micro-batch are apart (a pipeline): what is kept then goes
    through the stash, and only the working copies appear in the intervals.
    """
    tensors = program.tensors
    operations = [op for op in program.forward() if stage is None or op.stage == stage]
    boundary = _boundary(program, operations, stage)
    training = program.training
    steps = [Step(FORWARD, op) for op in operations]
    backward_ops = [op for op in reversed(operations) if op.differentiable] if training else []
    by_writer = writers(operations)
    kept = set()
    if training:
        kept = _kept(operations, tensors, mode, settings.checkpoints, boundary, stage is None) | set(keep)
        if mode not in ("none", "standard") and last_stage and not flush:
            kept |= _kept_to_the_loss(operations, kept, boundary, tensors, backwards=stage is None)
    available = set(kept)

    def compute_again(index: int) -> None:
        """Appends the steps that make a tensor again, ancestors first."""
        pending = [(index, False)]
        while pending:
            current, ready = pending.pop()
            if (
                current in available
                or tensors[current].kind in (PARAMETER, BUFFER)
                or current not in by_writer
            ):
                continue
            ops = by_writer[current]
            if not ready:
                pending.append((current, True))
                for op in ops:
                    pending.extend((i, False) for i in op.reads if i != current)
                continue
            for op in ops:
                steps.append(Step(RECOMPUTE, op))
                available.update(op.writes)

    for op in backward_ops:
        for index in op.saves:
            if index not in available:
                compute_again(index)
        steps.append(Step(BACKWARD, op))
    if mode == "standard":  # a checkpoint that nothing reads any more does not live on
        kept &= {i for step in steps[len(operations) :] for i in _read_again(step)}
    intervals, stored = lifetimes(program, settings, steps, len(operations), kept, boundary, flush)
    return Schedule(steps, intervals, stored, len(operations))


def _boundary(program: Program, operations: Sequence[Operation], stage: Optional[int]) -> List[int]:
    """Activations and inputs that come from outside: earlier stages or the host."""
    written: Set[int] = set()
    outside: List[int] = []
    for op in operations:
        for index in op.reads:
            tensor = program.tensors[index]
            if index not in written and tensor.kind in (ACTIVATION, INPUT):
                outside.append(index)
        written.update(op.writes)
    return list(dict.fromkeys(outside))


def _read_again(step: Step) -> Tuple[int, ...]:
    """What a step of the backward pass reads of the forward pass."""
    return step.op.saves if step.phase == BACKWARD else step.op.reads


def _kept_to_the_loss(
    operations: Sequence[Operation],
    kept: Set[int],
    boundary: Sequence[int],
    tensors: Sequence[Tensor],
    backwards: bool,
) -> Set[int]:
    """What lies between the last checkpoints and the loss runs backward at once: it is never computed twice.

    On one IPU PopART walks backwards from the loss to the checkpoints that it meets first; one that has a way past it,
    in a branch of a residual block, stops nothing (``recompute.cpp``, RecomputeAll). In the last stage of a pipeline it
    walks forwards from those that no later checkpoint depends on (``pipeline.cpp``).
    """
    if backwards:
        again = _backwards_to_checkpoints(operations, kept - set(boundary))
    else:
        again = _forwards_from_checkpoints(operations, kept - set(boundary), boundary)
    made = {i for position in again for i in operations[position].writes if tensors[i].kind == ACTIVATION}
    return made & needed_for_backward(operations)


def _backwards_to_checkpoints(operations: Sequence[Operation], checkpoints: Set[int]) -> Set[int]:
    """Positions of the operations from which a way without a checkpoint leads to the last one."""
    made: Dict[int, int] = {}
    sources: List[Set[int]] = []
    for position, op in enumerate(operations):
        sources.append({made[i] for i in op.reads if i in made and i not in checkpoints})
        made.update(dict.fromkeys(op.writes, position))
    found, pending = set(), [len(operations) - 1] if operations else []
    while pending:
        position = pending.pop()
        if position not in found:
            found.add(position)
            pending.extend(sources[position])
    return found


def _forwards_from_checkpoints(
    operations: Sequence[Operation], checkpoints: Set[int], boundary: Sequence[int]
) -> Set[int]:
    """Positions of the operations that depend on a checkpoint which no later checkpoint depends on."""
    origins = {i: frozenset([i]) for i in boundary}
    frontier = set(boundary)
    for op in operations:
        behind = frozenset().union(*(origins.get(i, frozenset()) for i in op.reads))
        for index in op.writes:
            origins[index] = behind
        for index in op.writes:
            if index in checkpoints:
                frontier -= behind
                frontier.add(index)
                origins[index] = behind | {index}
    reached, found = set(frontier), set()
    for position, op in enumerate(operations):
        if not op.reads or any(i in reached for i in op.reads):  # constants are there anyway
            found.add(position)
            reached.update(op.writes)
    return found

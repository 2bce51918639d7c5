"""The order of one micro-batch's work on one IPU, and how long each tensor lives in it, in PopART's sense.

The backward pass is not recorded from torch: it follows from the forward operations. Each forward operation
has one backward operation, run in reverse order, that reads the tensors the forward operation saves
(``operators.py``) and the gradient of its result. Tensors that are not kept are computed again just before
the first backward operation that reads them, from what was kept (PopART's explicit recomputation).
"""

from dataclasses import dataclass
from typing import Dict, List, Set, Tuple

from .liveness import Interval
from .program import ACTIVATION, BUFFER, INPUT, PARAMETER

FORWARD, RECOMPUTE, BACKWARD = "forward", "recompute", "backward"
_IN_PLACE = ("unary", "binary")


@dataclass(frozen=True)
class Step:
    """One operation at one place of the schedule."""

    phase: str
    op: object


@dataclass
class Schedule:
    """Steps in order and intervals of all not-always-live tensors; ``stored`` are tensors kept from forward
    to backward.
    """

    steps: List[Step]
    intervals: List[Interval]
    stored: Dict[int, float]
    forward_steps: int


def tensor_bytes(tensor, settings):
    """Bytes of a tensor on the IPU: floating tensors in the run's precision, others as traced (at most
    four).
    """
    if not tensor.floating:
        return float(min(tensor.bytes, 4 * tensor.elements))
    if tensor.kind == INPUT:
        return float(tensor.elements * settings.input_bytes_per_element)
    return float(tensor.elements * settings.activation_bytes)


def writers(operations):
    """tensor -> operations that write it, in order."""
    found = {}
    for op in operations:
        for index in op.writes:
            found.setdefault(index, []).append(op)
    return found


def needed_for_backward(operations):
    """Tensors that some backward operation reads."""
    return {index for op in operations if op.differentiable for index in op.saves}


def _kept(operations, tensors, mode, checkpoints, boundary, alone):
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


def decreasing_intervals(count):
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


def _smallest_live_sets(operations, tensors):
    """What PopART's Standard keeps: of each interval the live set of the fewest bytes (``recompute.cpp``).

    An operation is alive from its own run until all its readers have run.
    """
    made_by = {}
    waiting = {}
    for position, op in enumerate(operations):
        for source in {made_by[i] for i in op.reads if i in made_by} - {position}:
            waiting[source] = position  # the last reader
        for index in op.writes:
            made_by[index] = position
    sizes = [sum(tensors[i].bytes for i in op.writes) for op in operations]
    ends = {}
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
    chosen = set()
    for begin, end in decreasing_intervals(len(operations)):
        chosen |= live_sets[min(range(begin, end), key=totals.__getitem__)]
    return {i for position in chosen for i in operations[position].writes if tensors[i].kind == ACTIVATION}


def stage_schedule(program, settings, stage, mode, last_stage=True, flush=False, keep=()):
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

    def compute_again(index):
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
            compute_again(index)
        steps.append(Step(BACKWARD, op))
    if mode == "standard":  # a checkpoint that nothing reads any more does not live on
        kept &= {i for step in steps[len(operations) :] for i in _read_again(step)}
    intervals, stored = _intervals(program, settings, steps, len(operations), kept, boundary, training, flush)
    return Schedule(steps, intervals, stored, len(operations))


def _boundary(program, operations, stage):
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


def _read_again(step):
    """What a step of the backward pass reads of the forward pass."""
    return step.op.saves if step.phase == BACKWARD else step.op.reads


def _kept_to_the_loss(operations, kept, boundary, tensors, backwards):
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


def _backwards_to_checkpoints(operations, checkpoints):
    """Positions of the operations from which a way without a checkpoint leads to the last one."""
    made = {}
    sources = []
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


def _forwards_from_checkpoints(operations, checkpoints, boundary):
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


def _intervals(program, settings, steps, forward_steps, kept, boundary, training, flush):
    """Intervals of every not-always-live tensor over the steps, and the bytes kept for the backward pass."""
    tensors = program.tensors
    size = {}

    def bytes_of(index):
        if index not in size:
            size[index] = tensor_bytes(tensors[index], settings)
        return size[index]

    uses: Dict[Tuple[str, int], List[int]] = {}
    elementwise_end: Dict[Tuple[str, int], int] = {}
    end_of_forward = forward_steps - 1
    outputs = set(program.outputs)
    in_place = _IN_PLACE if training else _IN_PLACE + ("norm",)  # in inference a norm is a scale and a shift
    for position, step in enumerate(steps):
        op = step.op
        if step.phase in (FORWARD, RECOMPUTE):
            version = "forward" if step.phase == FORWARD else "again"
            for index in op.reads + op.writes:
                if tensors[index].kind not in (ACTIVATION, INPUT):
                    continue
                # what a repeated operation writes beside what was wanted is a copy of its own, not the kept tensor
                only_written = index in op.writes and index not in op.reads
                is_kept = version == "again" and index in kept and not only_written
                key = ("forward", index) if is_kept else (version, index)
                uses.setdefault(key, []).append(position)
                if op.kind in in_place and index in op.reads and bytes_of(index) >= bytes_of(op.writes[0]):
                    elementwise_end[key] = position
        else:
            for index in op.saves:
                if tensors[index].kind in (ACTIVATION, INPUT):
                    key = ("forward", index) if index in kept else ("again", index)
                    uses.setdefault(key, []).append(position)
            for index in op.writes[:1]:
                uses.setdefault(("gradient", index), []).append(position)
            for index in op.differentiable:
                if tensors[index].kind == ACTIVATION:
                    uses.setdefault(("gradient", index), []).append(position)
                    if op.kind in _IN_PLACE and index != op.writes[0]:
                        elementwise_end.setdefault(("gradient", op.writes[0]), position)
    intervals, stored = [], {}
    for (version, index), positions in uses.items():
        start, end = positions[0], positions[-1]
        label = ("gradient of " if version == "gradient" else "") + (tensors[index].name or f"tensor {index}")
        key = (version, index)
        if version == "forward" and training and index in kept:
            if flush:
                stored[index] = bytes_of(index)
                before = [p for p in positions if p <= end_of_forward]
                after = [p for p in positions if p > end_of_forward]
                if before or index in boundary:
                    first = 0 if index in boundary else before[0]
                    intervals.append(Interval(first, end_of_forward, bytes_of(index), label, index))
                if after:
                    first = end_of_forward + 1
                    intervals.append(Interval(first, after[-1], bytes_of(index), label, index))
                continue
            stored[index] = bytes_of(index)
        elif version == "forward" and index in boundary:
            start = 0
        if version == "forward" and index in outputs and not training:
            end = len(steps) - 1
        # An elementwise operation whose operand nobody needs afterwards writes over it.
        if elementwise_end.get(key) == end and end > start and not (version == "forward" and index in kept):
            end -= 1
        intervals.append(Interval(start, end, bytes_of(index), label, index))
    return intervals, stored

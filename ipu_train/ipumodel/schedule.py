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


def _kept(operations, tensors, mode, checkpoints, boundary):
    """Which activations are kept from the forward pass for the backward pass."""
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
    elif mode == "standard":
        kept |= _even_cuts(operations, tensors, boundary)
    return kept


def _even_cuts(operations, tensors, boundary):
    """About sqrt(n) tensors at which the graph is cut by a single activation, evenly spaced by bytes
    computed.
    """
    last_use, first = {}, {}
    for step, op in enumerate(operations):
        for index in op.reads:
            last_use[index] = step
        for index in op.writes:
            first.setdefault(index, step)
            last_use[index] = max(last_use.get(index, step), step)
    cuts = []
    crossing = []
    for step, op in enumerate(operations[:-1]):
        crossing.append(op.writes[0])
        alive = {
            i
            for i in set(crossing) | set(boundary)
            if last_use.get(i, -1) > step and tensors[i].kind == ACTIVATION and len(tensors[i].shape) > 1
        }
        if len(alive) == 1:
            cuts.append((step, next(iter(alive))))
    unique = list(dict.fromkeys(index for _, index in cuts))
    count = max(1, round(len(unique) ** 0.5))
    return {unique[(i + 1) * len(unique) // (count + 1)] for i in range(count)} if unique else set()


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
    kept = _kept(operations, tensors, mode, settings.checkpoints, boundary) | set(keep) if training else set()
    by_writer = writers(operations)
    if training and mode != "none" and last_stage and not flush:
        kept |= _last_segment(operations, kept, boundary, tensors)
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


def _last_segment(operations, kept, boundary, tensors):
    """What follows the last kept tensor runs backward at once: it is never computed twice.

    PopART sets the end of the last forward stage to be kept for the same reason (``pipeline.cpp``).
    """
    made = {index: position for position, op in enumerate(operations) for index in op.writes}
    after = max([made[i] for i in kept if i in made and i not in boundary] or [-1])
    return {
        index
        for op in operations[after + 1 :]
        if op.differentiable
        for index in op.saves
        if tensors[index].kind == ACTIVATION and made.get(index, -1) > after
    }


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

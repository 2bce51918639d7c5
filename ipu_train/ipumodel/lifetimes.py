"""When each tensor of a schedule is made and last used: from steps to intervals of live bytes."""

from dataclasses import dataclass
from typing import AbstractSet, Dict, List, Sequence, Tuple

from .liveness import Interval
from .program import ACTIVATION, INPUT, Operation, Program, Tensor
from .settings import Settings

FORWARD, RECOMPUTE, BACKWARD = "forward", "recompute", "backward"
_IN_PLACE = ("unary", "binary")
# A tensor in one of its lives: "forward", "again" (recomputed) or "gradient", and its index.
_Life = Tuple[str, int]


@dataclass(frozen=True)
class Step:
    """One operation at one place of the schedule."""

    phase: str
    op: Operation


def tensor_bytes(tensor: Tensor, settings: Settings) -> float:
    """Bytes of a tensor on the IPU: floating tensors in the run's precision, others as traced (at most
    four).
    """
    if not tensor.floating:
        return float(min(tensor.bytes, 4 * tensor.elements))
    if tensor.kind == INPUT:
        return float(tensor.elements * settings.input_bytes_per_element)
    return float(tensor.elements * settings.activation_bytes)


class _Uses:
    """Collects at which steps each tensor is used, and where an operation may write over its operand.

    Args:
        kept: tensors that live from the forward to the backward pass.
    """

    def __init__(self, program: Program, settings: Settings, kept: AbstractSet[int]) -> None:
        self.tensors, self.settings, self.kept = program.tensors, settings, kept
        # in inference a norm is a scale and a shift
        self.in_place = _IN_PLACE if program.training else _IN_PLACE + ("norm",)
        self.at: Dict[_Life, List[int]] = {}
        self.overwritten: Dict[_Life, int] = {}
        self._bytes: Dict[int, float] = {}

    def bytes_of(self, index: int) -> float:
        if index not in self._bytes:
            self._bytes[index] = tensor_bytes(self.tensors[index], self.settings)
        return self._bytes[index]

    def _add(self, life: _Life, position: int) -> None:
        self.at.setdefault(life, []).append(position)

    def forward(self, position: int, op: Operation, again: bool) -> None:
        """An operation of the forward pass, or one that is run ``again``."""
        for index in op.reads + op.writes:
            if self.tensors[index].kind not in (ACTIVATION, INPUT):
                continue
            # what a repeated operation writes beside what was wanted is a copy of its own, not the kept tensor
            only_written = index in op.writes and index not in op.reads
            life = ("again" if again and (index not in self.kept or only_written) else "forward", index)
            self._add(life, position)
            may_overwrite = op.kind in self.in_place and index in op.reads
            if may_overwrite and self.bytes_of(index) >= self.bytes_of(op.writes[0]):
                self.overwritten[life] = position

    def backward(self, position: int, op: Operation) -> None:
        """The gradient of an operation: reads what it saves and the gradient of its result."""
        for index in op.saves:
            if self.tensors[index].kind in (ACTIVATION, INPUT):
                self._add(("forward" if index in self.kept else "again", index), position)
        for index in op.writes[:1]:
            self._add(("gradient", index), position)
        for index in op.differentiable:
            if self.tensors[index].kind == ACTIVATION:
                self._add(("gradient", index), position)
                if op.kind in _IN_PLACE and index != op.writes[0]:
                    self.overwritten.setdefault(("gradient", op.writes[0]), position)

    def label(self, life: _Life) -> str:
        version, index = life
        return ("gradient of " if version == "gradient" else "") + (
            self.tensors[index].name or f"tensor {index}"
        )


def _working_copies(
    positions: Sequence[int], end_of_forward: int, outside: bool, size: float, label: str, index: int
) -> List[Interval]:
    """A tensor that goes through the stash: what of it is there in the forward and in the backward pass.

    Args:
        outside: it comes from another stage or the host, so that it is there from the first step on.
    """
    before = [p for p in positions if p <= end_of_forward]
    after = [p for p in positions if p > end_of_forward]
    found = []
    if before or outside:
        found.append(Interval(0 if outside else before[0], end_of_forward, size, label, index))
    if after:
        found.append(Interval(end_of_forward + 1, after[-1], size, label, index))
    return found


def _while_used(
    positions: Sequence[int], end_of_forward: int, size: float, label: str, index: int
) -> List[Interval]:
    """A tensor that lies in streaming memory between its uses in the forward and in the backward pass."""
    parts = [p for p in positions if p <= end_of_forward], [p for p in positions if p > end_of_forward]
    return [Interval(part[0], part[-1], size, label, index) for part in parts if part]


def lifetimes(
    program: Program,
    settings: Settings,
    steps: Sequence[Step],
    forward_steps: int,
    kept: AbstractSet[int],
    boundary: Sequence[int],
    flush: bool,
) -> Tuple[List[Interval], Dict[int, float]]:
    """Intervals of every not-always-live tensor over the steps, and the bytes kept for the backward pass.

    Args:
        kept: tensors kept from the forward pass for the backward pass.
        boundary: tensors that come from other stages or the host.
        flush: forward and backward of one micro-batch are apart, and what is kept goes through the stash.
    """
    uses = _Uses(program, settings, kept)
    for position, step in enumerate(steps):
        if step.phase == BACKWARD:
            uses.backward(position, step.op)
        else:
            uses.forward(position, step.op, step.phase == RECOMPUTE)
    intervals, stored = [], {}
    outside, outputs = set(boundary), set() if program.training else set(program.outputs)
    for life, positions in uses.at.items():
        version, index = life
        size, label = uses.bytes_of(index), uses.label(life)
        is_kept = version == "forward" and program.training and index in kept
        if is_kept:
            stored[index] = size
        if is_kept and flush:
            intervals += _working_copies(positions, forward_steps - 1, index in outside, size, label, index)
            continue
        if is_kept and settings.activations_offload and program.tensors[index].kind == ACTIVATION:
            intervals += _while_used(positions, forward_steps - 1, size, label, index)
            continue
        start, end = positions[0], positions[-1]
        if version == "forward" and index in outside and not is_kept:
            start = 0
        if version == "forward" and index in outputs:
            end = len(steps) - 1
        # An elementwise operation whose operand nobody needs afterwards writes over it.
        if uses.overwritten.get(life) == end and end > start and not (version == "forward" and index in kept):
            end -= 1
        intervals.append(Interval(start, end, size, label, index))
    return intervals, stored

"""When each tensor of a schedule is made and last used: from steps to intervals of live bytes."""

from typing import AbstractSet, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .liveness import Interval
from .program import ACTIVATION, INPUT, Operation, Program, Tensor
from .settings import Settings

FORWARD, RECOMPUTE, BACKWARD = "forward", "recompute", "backward"
_IN_PLACE = ("unary", "binary")
# The lives of a tensor, by number: in the forward pass, computed again, its gradient.
_FORWARD, _AGAIN, _GRADIENT, _LIVES = range(4)


class Step(NamedTuple):
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


class _Sizes(NamedTuple):
    """Of each tensor of a program: bytes, whether it comes and goes, whether its gradient does, its name."""

    bytes: List[float]
    moving: List[bool]
    activation: List[bool]
    names: List[str]


# of the last program and settings: a search plans stages of one program many times
_last: Optional[Tuple[Sequence[Tensor], Tuple[float, float], _Sizes]] = None


def _sizes(tensors: Sequence[Tensor], settings: Settings) -> _Sizes:
    global _last
    widths = (settings.activation_bytes, settings.input_bytes_per_element)
    if _last is None or _last[0] is not tensors or _last[1] != widths:
        found = _Sizes(
            [tensor_bytes(tensor, settings) for tensor in tensors],
            [tensor.kind in (ACTIVATION, INPUT) for tensor in tensors],
            [tensor.kind == ACTIVATION for tensor in tensors],
            [tensor.name or f"tensor {index}" for index, tensor in enumerate(tensors)],
        )
        _last = (tensors, widths, found)
    return _last[2]


class _Uses:
    """Collects at which steps each tensor is used in each of its lives, and where an operation may write over its
    operand; by ``index * _LIVES + life``, in the order of the first uses.

    Args:
        sizes: of the program's tensors.
        kept: tensors that live from the forward to the backward pass.
        training: in inference a norm is a scale and a shift.
    """

    def __init__(self, sizes: _Sizes, kept: AbstractSet[int], training: bool) -> None:
        self._sizes, self._kept = sizes, kept
        self._in_place = _IN_PLACE if training else _IN_PLACE + ("norm",)
        self.at: Dict[int, List[int]] = {}
        self.overwritten: Dict[int, int] = {}

    def forward(self, position: int, op: Operation, again: bool) -> None:
        """An operation of the forward pass, or one that is run ``again``."""
        sizes, moving = self._sizes.bytes, self._sizes.moving
        reads, writes, may_overwrite = op.reads, op.writes, op.kind in self._in_place
        for index in reads + writes:
            if not moving[index]:
                continue
            life = index * _LIVES
            # what a repeated operation writes beside what was wanted is a copy of its own, not the kept tensor
            if again and (index not in self._kept or (index in writes and index not in reads)):
                life += _AGAIN
            if life in self.at:
                self.at[life].append(position)
            else:
                self.at[life] = [position]
            if may_overwrite and index in reads and sizes[index] >= sizes[writes[0]]:
                self.overwritten[life] = position

    def backward(self, position: int, op: Operation) -> None:
        """The gradient of an operation: reads what it saves and the gradient of its result."""
        used = [
            index * _LIVES + (_FORWARD if index in self._kept else _AGAIN)
            for index in op.saves
            if self._sizes.moving[index]
        ]
        used += [index * _LIVES + _GRADIENT for index in op.writes[:1]]
        for index in op.differentiable:
            if self._sizes.activation[index]:
                used.append(index * _LIVES + _GRADIENT)
                if op.kind in _IN_PLACE and index != op.writes[0]:
                    self.overwritten.setdefault(op.writes[0] * _LIVES + _GRADIENT, position)
        for life in used:
            if life in self.at:
                self.at[life].append(position)
            else:
                self.at[life] = [position]


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
    sizes = _sizes(program.tensors, settings)
    uses = _Uses(sizes, kept, program.training)
    for position, step in enumerate(steps):
        if step.phase == BACKWARD:
            uses.backward(position, step.op)
        else:
            uses.forward(position, step.op, step.phase == RECOMPUTE)
    intervals, stored = [], {}
    outside, outputs = set(boundary), set() if program.training else set(program.outputs)
    for life, positions in uses.at.items():
        index, version = divmod(life, _LIVES)
        size, label = sizes.bytes[index], sizes.names[index]
        if version == _GRADIENT:
            label = "gradient of " + label
        is_kept = version == _FORWARD and program.training and index in kept
        if is_kept:
            stored[index] = size
        if is_kept and flush:
            intervals += _working_copies(positions, forward_steps - 1, index in outside, size, label, index)
            continue
        if is_kept and settings.activations_offload and program.tensors[index].kind == ACTIVATION:
            intervals += _while_used(positions, forward_steps - 1, size, label, index)
            continue
        start, end = positions[0], positions[-1]
        if version == _FORWARD and index in outside and not is_kept:
            start = 0
        if version == _FORWARD and index in outputs:
            end = len(steps) - 1
        # An elementwise operation whose operand nobody needs afterwards writes over it.
        if uses.overwritten.get(life) == end and end > start and not (version == _FORWARD and index in kept):
            end -= 1
        intervals.append(Interval(start, end, size, label, index))
    return intervals, stored

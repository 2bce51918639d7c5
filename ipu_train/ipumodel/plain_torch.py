"""Memory of the traced program on eager torch: no tiles, no code, torch's own saved tensors.

This is the liveness engine alone. Its figures equal what torch allocates (a test holds it to two per cent on
ten networks), so what the IPU model adds is visible as such.
"""

from dataclasses import dataclass
from typing import Dict

from .liveness import Interval, peak
from .program import ACTIVATION, Program


@dataclass(frozen=True)
class PlainMemory:
    """Bytes: ``saved_bytes`` kept for backward (activations only), ``peak_bytes`` of everything that the step
    allocates beyond weights, buffers and inputs, gradients of the weights included.
    """

    saved_bytes: int
    peak_bytes: int
    peak_operation: str


def plain_torch_memory(program: Program) -> PlainMemory:
    """:class:`PlainMemory` of a program traced with ``record_backward=True``."""
    first: Dict[int, int] = {}
    last: Dict[int, int] = {}
    for step, op in enumerate(program.operations):
        for index in op.reads + op.writes:
            first.setdefault(index, step)
            last[index] = step
    steps = len(program.operations)
    for index in program.outputs:  # the caller still holds them
        last[index] = steps - 1
    intervals = [
        Interval(first[t.index], steps - 1 if t.is_gradient else last[t.index], t.bytes, t.name, t.index)
        for t in program.tensors
        if t.kind == ACTIVATION and t.index in first
    ]
    most, step = peak(intervals, steps)
    saved = sum(
        t.bytes for t in program.tensors if t.index in set(program.saved_by_torch) and t.kind == ACTIVATION
    )
    name = program.operations[step].operator if steps else ""
    return PlainMemory(int(saved), int(most), name)

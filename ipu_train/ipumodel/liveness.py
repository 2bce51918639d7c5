"""Which bytes are live when: intervals on a schedule, nothing else.

A tensor is live from the step that creates it to the last step that uses it, both included (while a step
runs, its operands and its results exist together). Steps may add memory of their own for as long as they run.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np


@dataclass(frozen=True)
class Interval:
    """``bytes`` live from step ``start`` to step ``end``, both included; ``label`` says what they are."""

    start: int
    end: int
    bytes: float
    label: str = ""
    tensor: int = -1


def live_bytes(intervals: Sequence[Interval], steps: int, during: Sequence[float] = ()) -> np.ndarray:
    """Bytes live at each of ``steps`` steps: [steps] float64. ``during`` adds memory of single steps."""
    if steps == 0:
        return np.zeros(0)
    at: List[int] = []
    by: List[float] = []
    for i in intervals:
        if i.end >= i.start and i.bytes:
            at += (max(i.start, 0), min(i.end, steps - 1) + 1)
            by += (i.bytes, -i.bytes)
    change = np.bincount(at, by, steps + 1) if at else np.zeros(steps + 1)
    total = np.cumsum(change[:-1])
    return total + np.asarray(during) if len(during) else total


def peak(intervals: Sequence[Interval], steps: int, during: Sequence[float] = ()) -> Tuple[float, int]:
    """(largest number of live bytes, first step at which it is reached); (0, 0) for an empty schedule."""
    live = live_bytes(intervals, steps, during)
    if not len(live):
        return 0.0, 0
    at = int(np.argmax(live))
    return float(live[at]), at


def live_at(intervals: Sequence[Interval], step: int) -> List[Interval]:
    """The intervals live at a step, largest first."""
    return sorted((i for i in intervals if i.start <= step <= i.end), key=lambda i: -i.bytes)

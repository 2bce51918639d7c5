"""Which bytes are live when: intervals on a schedule, nothing else.

A tensor is live from the step that creates it to the last step that uses it, both included (while a step
runs, its operands and its results exist together). Steps may add memory of their own for as long as they run.
"""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np


class Interval(NamedTuple):
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
    change = np.zeros(steps + 1)
    if intervals:
        columns = list(zip(*intervals))
        start, end, size = (np.array(column) for column in columns[:3])
        counts = np.flatnonzero((end >= start) & (size != 0))
        # each one's beginning and end follow each other: sums of floats are of this order
        at = np.stack([np.maximum(start, 0), np.minimum(end, steps - 1) + 1], axis=1)[counts].ravel()
        by = np.stack([size, -size], axis=1)[counts].ravel()
        change = np.bincount(at, by, steps + 1) if len(at) else change
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

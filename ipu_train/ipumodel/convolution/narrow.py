"""The splits that can be as fast as a limit, of many forms and codelets at once, found without making the others.

What the convolution units take is a product of a number for each axis, but for rows of outputs, which two axes make
together. While axes are added one by one, what is still to come can be bounded from below: perfectly spread over the
tiles that are left, and no less than the finest split leaves. A start that is too slow already is dropped.
"""

from functools import lru_cache
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

# Splits that leave more tiles idle than this share of the best filling are not looked at.
FILL = 0.5
_SAFE = 1 + 1e-9  # beyond all rounding
_APART = 1e8  # tables of one axis lie this far apart in one rising row
_GROUPS, _BATCH, _OY, _OX, _KY, _CI, _CO = range(7)
_OUTPUTS = (False, True, True, True, False, False, False)


class Work(NamedTuple):
    """Cycles of a tile, at least: ``each`` x groups x taps x input x output channels x (``start`` + ``position`` x rows
    x width + ``row`` x rows beyond the first six), rows being batch x oy.

    Every number counts what a tile has along that axis, in the grains that are split. Rows and width are divided by
    ``dilation`` and rounded up, taps are kernel rows in blocks of ``height``.
    """

    each: float
    start: float
    position: float
    row: float
    dilation: Tuple[int, int]
    height: int


class Task(NamedTuple):
    """Grains to split along each axis, their work, and the most cycles of it that are of interest."""

    grains: Tuple[int, ...]
    work: Work
    limit: float


class Fast(NamedTuple):
    """Splits: of which task, the parts along each axis, their product and the cycles that they take at least."""

    task: np.ndarray
    columns: List[np.ndarray]
    used: np.ndarray
    least: np.ndarray


@lru_cache(maxsize=4096)
def distinct_splits(size: int, limit: int) -> np.ndarray:
    """Split counts that give different tile sizes: about 2 sqrt(size) of them."""
    size = int(max(size, 1))
    root = int(size**0.5) + 1
    sizes = {-(-size // s) for s in range(1, min(size, root) + 1)} | set(range(1, root))
    return np.array(sorted({-(-size // s) for s in sizes if -(-size // s) <= limit}), dtype=np.float64)


@lru_cache(maxsize=4096)
def _table(size: int, tiles: int, block: int) -> Tuple[np.ndarray, np.ndarray]:
    """(splits, blocks of grains that the busiest tile has then)."""
    splits = distinct_splits(size, tiles)
    return splits, np.ceil(np.ceil(size / splits) / block)


class _Axis:
    """The splits of one axis for all tasks, their tables one after the other."""

    def __init__(self, sizes: Sequence[Tuple[int, int]], tiles: int) -> None:
        places: Dict[Tuple[int, int], int] = {}
        self.place = np.array([places.setdefault(size, len(places)) for size in sizes])
        tables = [_table(size, tiles, block) for size, block in places]
        self.splits = np.concatenate([splits for splits, _ in tables])
        self.left = np.concatenate([left for _, left in tables])
        lengths = [len(splits) for splits, _ in tables]
        self.single = max(lengths) == 1
        apart = np.repeat(np.arange(len(tables)) * _APART, lengths)
        self._rising, self._falling = apart + self.splits, apart - self.left
        self.apart = self.place * _APART
        self.most = np.array([splits[-1] for splits, _ in tables])[self.place]
        self.fewest = np.array([left[-1] for _, left in tables])[self.place]
        self.whole = np.array([size / block for size, block in sizes])

    def between(self, task: np.ndarray, low: np.ndarray, high: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(first, end) of the splits from ``low`` to ``high``."""
        apart = self.apart[task]
        first = np.searchsorted(self._rising, apart + low, side="left")
        return first, np.searchsorted(self._rising, apart + high, side="right")

    def leaving(self, task: np.ndarray, most: np.ndarray) -> np.ndarray:
        """First of the splits that leave no more than ``most``."""
        return np.searchsorted(self._falling, self.apart[task] - np.minimum(most, _APART / 4), side="left")


def fast_splits(tasks: Sequence[Task], tiles: int) -> Optional[Fast]:
    """All splits, of those that :func:`~.evaluate.every_split` gives and in the same order, whose work is within the
    limits of their tasks; None where there is none."""
    works = [task.work for task in tasks]
    each, start, position, row = (
        np.array([getattr(work, name) for work in works]) for name in ("each", "start", "position", "row")
    )
    limits = np.array([task.limit for task in tasks]) * _SAFE / each
    dilated = np.array([float(work.dilation[0]) for work in works])
    blocks = [(1, 1, 1, work.dilation[1], work.height, 1, 1) for work in works]
    axes = [
        _Axis([(task.grains[axis], block[axis]) for task, block in zip(tasks, blocks)], tiles)
        for axis in range(7)
    ]
    # What the axes still to come leave at least: in all, perfectly spread, and on a tile, split most finely.
    ones = np.ones(len(tasks))
    reach, whole, fewest, whole_calls, fewest_calls = [ones], [ones], [ones], [ones], [ones]
    for axis in range(6, -1, -1):
        here = axes[axis]
        stride = dilated if axis == _OY else 1.0
        reach.append(reach[-1] * here.most)
        whole.append(whole[-1] * here.whole / stride)
        fewest.append(fewest[-1] * here.fewest / stride)
        whole_calls.append(whole_calls[-1] if _OUTPUTS[axis] else whole_calls[-1] * here.whole)
        fewest_calls.append(fewest_calls[-1] if _OUTPUTS[axis] else fewest_calls[-1] * here.fewest)
    floor = FILL * np.minimum(float(tiles), reach[-1])

    task = np.arange(len(tasks))
    product, calls = ones, ones  # of the splits so far; of what they leave along axes that are no outputs
    outputs, cost = ones, ones  # rows and then positions; cycles of one call
    columns: List[Optional[np.ndarray]] = []
    for axis in range(7):
        here, rest = axes[axis], 6 - axis
        if here.single:
            columns.append(None)
            left = here.left[here.place[task]]
        else:
            first, end = here.between(task, floor[task] / (product * reach[rest][task]), tiles / product)
            if axis >= _CI:
                # The more a split divides, the less is left: those that are fast enough are the last ones.
                slowest = limits[task] / (calls * cost * fewest_calls[rest][task])
                first = np.maximum(first, here.leaving(task, slowest))
            count = np.maximum(end - first, 0)
            before = np.cumsum(count) - count
            from_ = np.repeat(np.arange(len(count)), count)
            if not len(from_):
                return None
            at = np.arange(len(from_)) + (first - before)[from_]
            columns = [None if column is None else column[from_] for column in columns]
            columns.append(here.splits[at])
            task, product, left = task[from_], product[from_] * here.splits[at], here.left[at]
            calls = calls[from_]
            if axis > _BATCH:
                outputs = outputs[from_]
            if axis > _OX:
                cost = cost[from_]
        if axis == _BATCH:
            outputs = left
        elif axis == _OY:
            outputs = np.maximum(1.0, np.ceil(outputs * left / dilated[task]))
        elif axis == _OX:
            cost = start[task] + position[task] * outputs * left + row[task] * np.maximum(outputs - 6.0, 0.0)
        else:
            calls = calls * left
        if here.single:
            continue
        share = product / tiles
        calls_left = np.maximum(share * whole_calls[rest][task], fewest_calls[rest][task])
        if axis < _OX:
            spread = np.maximum(share * whole[rest][task], fewest[rest][task])
            if axis > _GROUPS:
                spread = spread * outputs
            bound = calls * (start[task] * calls_left + position[task] * spread)
        else:
            bound = calls * cost * calls_left
        fast = np.flatnonzero(bound <= limits[task])
        if len(fast) < len(task):
            if not len(fast):
                return None
            task, product, calls = task[fast], product[fast], calls[fast]
            columns = [None if column is None else column[fast] for column in columns]
            if axis >= _BATCH:
                outputs = outputs[fast]
            if axis >= _OX:
                cost = cost[fast]
    same = np.ones(len(task))
    found = [same if column is None else column for column in columns]
    return Fast(task, found, product, each[task] * calls * cost)

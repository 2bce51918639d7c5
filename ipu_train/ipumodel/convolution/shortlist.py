"""The splits of all forms and codelets of a pass that may take no more than some cycles, judged all at once.

What they take at least leaves out little of what they take: how the workers of a tile share its outputs, and the sums
of partial results. So few are left that need be evaluated.
"""

from operator import attrgetter
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..target import Target
from .evaluate import AXES, grains_of, input_range, least_work
from .forms import Codelet, PlanOptions
from .narrow import Task, fast_splits
from .params import Problem
from .rearrange import MovingRates

_SAFE = 1 - 1e-9  # beyond all rounding
_SIZES = ("groups", "batch", "co", "oy", "ox", "ky", "kx", "iy", "ix", "sy", "sx", "dy", "dx")


_SUMMING = 150.0  # cycles that a sum or a cast takes at least
_sizes_of = attrgetter(*_SIZES)


class Pair(NamedTuple):
    """A form and a codelet that can run it, the cycles that they take at least, and those of moving operands."""

    least: float
    form: Problem
    codelet: Codelet
    moving: MovingRates


class Short(NamedTuple):
    """Splits, in the order of ``every_split``: of which pair of form and codelet, the parts along each of ``AXES``, the
    tiles that are used, and bounds from below on cycles and temporary bytes."""

    pair: np.ndarray
    columns: List[np.ndarray]
    used: np.ndarray
    cycles: np.ndarray
    temporary: np.ndarray

    def only(self, chosen: np.ndarray) -> "Short":
        """Some of them."""
        columns, used = self.splits(chosen)
        return Short(self.pair[chosen], columns, used, self.cycles[chosen], self.temporary[chosen])

    def splits(self, chosen: np.ndarray) -> Tuple[List[np.ndarray], np.ndarray]:
        """Parts and tiles of some of them."""
        return [column[chosen] for column in self.columns], self.used[chosen]


class Shortlist:
    """The convolution units' splits.

    Args:
        pairs: forms and codelets, which are numbered in this order.
        serial: parts of the output channels that are computed one after the other.

    Attributes:
        least: a bound from below on the cycles of each pair.
    """

    def __init__(self, pairs: Sequence[Pair], target: Target, options: PlanOptions, serial: int) -> None:
        self._target, self._serial = target, serial
        self._in_bytes = 4 if options.float_inputs else 2
        self._works = [least_work(form, codelet, target, options) for _, form, codelet, _ in pairs]
        grains = [grains_of(form, codelet, serial) for _, form, codelet, _ in pairs]
        self._grains = [counts for counts, _ in grains]
        self._counts, self._sizes = (np.array([one[i] for one in grains], dtype=float).T for i in (0, 1))
        self._form = dict(zip(_SIZES, np.array([_sizes_of(pair.form) for pair in pairs], dtype=float).T))
        self._partial_bytes = np.array([2.0 if pair.codelet.half_partials else 4.0 for pair in pairs])
        # cycles of summing each partial result, and whether lone ones are cast, see ``codelets.reduce_partials``
        halves = np.array([pair.codelet.half_partials for pair in pairs])
        self._by_partial, self._casts = np.where(halves, 0.25, 0.5), halves == options.float_inputs
        self._by_share, self._by_result = np.array([pair.moving[1:] for pair in pairs]).T
        # What every split takes at least: moving operands and results, and all, perfectly spread over the tiles.
        tiles, form = float(target.tiles), self._form
        results = (
            form["groups"] * form["batch"] * np.ceil(form["co"] / serial) * form["oy"] * form["ox"] / tiles
        )
        self._moving = self._by_share / tiles + results * (
            self._by_result + self._partial_bytes / target.exchange_bytes_per_cycle
        )
        each, start, position = np.array([work[:3] for work in self._works]).T
        counts = dict(zip(AXES, self._counts))
        calls = counts["groups"] * counts["ci"] * counts["co"]
        calls = calls * np.ceil(counts["ky"] / np.array([work.height for work in self._works]))
        outputs = counts["batch"] * counts["oy"] * counts["ox"] / (form["dy"] * form["dx"])
        compute = each * (start * np.maximum(1.0, calls / tiles) + position * calls * outputs / tiles)
        self.least = (compute + self._moving) * serial * _SAFE

    def within(self, limit: float) -> Optional[Short]:
        """Splits that may take no more than ``limit`` cycles; None where none may."""
        chosen = np.flatnonzero(self.least <= limit)
        if not len(chosen):
            return None
        each = limit / self._serial
        tasks = [Task(self._grains[i], self._works[i], each - self._moving[i]) for i in chosen]
        fast = fast_splits(tasks, self._target.tiles)
        if fast is None:
            return None
        pair = chosen[fast.task]
        form = {name: self._form[name][pair] for name in _SIZES[3:]}
        split = dict(zip(AXES, fast.columns))
        tile = {
            axis: np.ceil(count[pair] / split[axis]) * size[pair]
            for axis, count, size in zip(AXES, self._counts, self._sizes)
        }
        iy = input_range(tile["oy"], tile["ky"], form["sy"], form["dy"], (form["oy"], form["ky"], form["iy"]))
        ix = input_range(tile["ox"], form["kx"], form["sx"], form["dx"], (form["ox"], form["kx"], form["ix"]))
        inputs = tile["groups"] * tile["batch"] * tile["ci"] * iy * ix
        weights = tile["groups"] * tile["ci"] * tile["co"] * tile["ky"] * form["kx"]
        partials = tile["groups"] * tile["batch"] * tile["co"] * tile["oy"] * tile["ox"]
        in_bytes, rate = self._in_bytes, float(self._target.exchange_bytes_per_cycle)
        in_rate = np.where(split["co"] % self._target.tiles_per_exchange_bus == 0, 2 * rate, rate)
        partial_bytes = self._partial_bytes[pair]
        cycles = fast.least + (inputs - np.floor(inputs / split["co"])) * in_bytes / in_rate
        cycles += (weights - np.floor(weights / (split["oy"] * split["ox"] * split["batch"]))) * (
            in_bytes / rate
        )
        cycles += partials * partial_bytes / rate
        # Sums of partial results read each of them once, casts of lone ones as well.
        depth = split["ky"] * split["ci"]
        summed = np.where(depth > 1, True, self._casts[pair])
        cycles += summed * (_SUMMING + partials * self._by_partial[pair])
        cycles += self._by_share[pair] / fast.used
        cycles += self._by_result[pair] * partials / depth
        cycles *= self._serial * _SAFE
        temporary = ((inputs + weights) * in_bytes + partials * partial_bytes) * _SAFE
        few = np.flatnonzero(cycles <= limit)
        if not len(few):
            return None
        return Short(pair, fast.columns, fast.used, cycles, temporary).only(few)

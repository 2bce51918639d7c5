"""Plans a convolution: which codelet, and how it is split over tiles, to take the fewest cycles within a
memory bound.

The search follows what Graphcore's public poplibs planner minimises (``lib/poplin/ConvModel.cpp``): cycles of
exchange, rearrangement, partial sums and reduction on the busiest tile, subject to temporary bytes <= bytes
per tile x available memory proportion. A bound nobody can meet is doubled up to twice the tile and then
dropped (``ConvPlan.cpp``), so too low a proportion costs cycles, never an error.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Dict, Optional, Tuple

import numpy as np

from ..target import Target
from .evaluate import AXES, Candidates, Splits, evaluate
from .forms import DEFAULT_OPTIONS, Codelet, PlanOptions, codelets_for, fewest_cycles, transformed
from .kept import kept
from .params import ConvParams, Problem, flatten, problem_of
from .rearrange import least_moving

__all__ = ["AXES", "DEFAULT_OPTIONS", "ConvPlan", "PlanOptions", "plan_pass", "plan_problem"]

# Serial splits are tried while the bound costs more than this factor in cycles.
_SERIAL_GAIN = 1.02
_LEAST_PROPORTION = 1.0 / 256
SERIAL_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class ConvPlan:
    """The chosen plan of one pass. Cycles on the busiest tile by step; ``temporary_bytes`` on that tile.

    ``least_bound``: bounds on temporary bytes from this one on give the same plan.
    """

    problem: Problem
    codelet: Codelet
    splits: Tuple[int, ...]
    serial: int
    tiles: int
    cycles: Dict[str, float]
    temporary_bytes: int
    sizes: Dict[str, float]
    least_bound: float = float("inf")

    @property
    def total_cycles(self) -> float:
        return sum(self.cycles.values())


def _doubled(bound: float, least: float, target: Target) -> float:
    """The bound, doubled until ``least`` bytes are within it; infinite when that is beyond two tiles."""
    while bound < least:
        bound = float("inf") if bound > 2 * target.bytes_per_tile else bound * 2
    return bound


def _least_temporary(
    p: Problem, codelet: Codelet, serial: int, target: Target, options: PlanOptions
) -> float:
    """Bytes that the busiest tile of any split holds at least: its share of what the codelet reads and writes."""
    partials = p.groups * p.batch * -(-p.co // serial) * p.oy * p.ox * (2 if codelet.half_partials else 4)
    # Where a stride steps over inputs, they need not be there.
    inputs = 0 if max(p.sy, p.sx, p.dy, p.dx) > 1 else p.groups * p.batch * p.ci * p.iy * p.ix
    return (inputs * (4 if options.float_inputs else 2) + partials) / target.tiles


class _Search:
    """The search for the best plan of one pass among all its forms and codelets."""

    def __init__(self, problem: Problem, target: Target, options: PlanOptions) -> None:
        self.target, self.options = target, options
        pairs = [(f, c) for f in transformed(problem) for c in codelets_for(f, target, options)]
        in_bytes = 4 if options.float_inputs else 2
        self.moving = {pair: least_moving(*pair, target, in_bytes) for pair in pairs}
        bounds = ((fewest_cycles(f, c, target) + self.moving[f, c], f, c) for f, c in pairs)
        self.pairs = sorted(bounds, key=lambda bound: bound[0])

    def feasible(self, bound: float) -> float:
        """The bound, doubled until some split is within it; infinite when that is beyond two tiles.

        The more parts the output channels are computed in, the less is temporary, so only the most parts are tried.
        """
        parts = [(max(s for s in SERIAL_SPLITS if f.co % s == 0), f, c) for _, f, c in self.pairs]
        least = min(_least_temporary(f, c, serial, self.target, self.options) for serial, f, c in parts)
        bound = _doubled(bound, least, self.target)
        smallest = float("inf")
        for serial, form, codelet in parts:
            if _least_temporary(form, codelet, serial, self.target, self.options) < smallest:
                splits = Splits(form, codelet, self.target, self.options, serial)
                smallest = min(smallest, float(splits.temporary(splits.sizes()).min()))
                if smallest <= bound:
                    break
        return _doubled(bound, smallest, self.target)

    def within(self, bound: float) -> Optional[ConvPlan]:
        """The best plan whose temporary bytes are within a bound; None if there is none."""
        best, unbounded = None, float("inf")
        for serial in SERIAL_SPLITS:
            # A loop over output channels only pays where the whole convolution does not fit the bound.
            if best is not None and best.total_cycles <= _SERIAL_GAIN * unbounded:
                break
            for least, form, codelet in self.pairs:
                limit = best.total_cycles if best is not None else float("inf")
                if least > limit:
                    break
                if form.co % serial:
                    continue
                least_bytes = _least_temporary(form, codelet, serial, self.target, self.options)
                if serial > 1 and least_bytes > bound:
                    continue
                found, fewest = self._candidates(
                    Splits(form, codelet, self.target, self.options, serial),
                    limit - self.moving[form, codelet],
                    bound,
                )
                unbounded = min(unbounded, fewest)
                if found is None:
                    continue
                total = np.where(found.temporary <= bound, found.total, np.inf)
                fewest = float(total.min())
                if not np.isfinite(fewest):
                    continue
                # Of plans that take equally long the one that needs least memory (``PlanningObjective.hpp``).
                at = int(np.argmin(np.where(total == fewest, found.temporary, np.inf)))
                cost = fewest, int(found.temporary[at])
                if best is None or cost < (best.total_cycles, best.temporary_bytes):
                    best = _plan_of(form, codelet, serial, found, at)
        # The best of all splits stays the best of fewer. Not so where loops over output channels were tried: the bound
        # decides which.
        if best is not None and serial == SERIAL_SPLITS[1]:
            best = replace(best, least_bound=float(best.temporary_bytes))
        return best

    @staticmethod
    def _candidates(splits: Splits, limit: float, bound: float) -> Tuple[Optional[Candidates], float]:
        """(splits whose codelet takes no more than ``limit`` cycles, None where none does or none is within the bound;
        a number of cycles that no bound would have gone below)."""
        if limit < float("inf"):
            within = splits.within(limit)
            if within is None:
                return None, float("inf")
            splits = within
        sizes = splits.sizes()
        temporary = splits.temporary(sizes)
        if splits.serial > 1 and not (temporary <= bound).any():
            return None, float("inf")
        found = evaluate(splits, sizes, temporary)
        return found, float(found.total.min())


def _plan_of(form: Problem, codelet: Codelet, serial: int, found: Candidates, at: int) -> ConvPlan:
    return ConvPlan(
        form,
        codelet,
        tuple(int(column[at]) for column in found.splits),
        serial,
        int(found.used[at]),
        {step: float(value[at]) for step, value in found.cycles.items()},
        int(found.temporary[at]),
        {name: float(value[at]) for name, value in found.sizes.items()},
    )


def plan_problem(problem: Problem, target: Target, options: PlanOptions) -> ConvPlan:
    """The best :class:`ConvPlan` of one pass."""
    # A proportion of zero asks for the least temporary memory: doubling then finds the smallest bound that
    # can be met.
    search = _Search(problem, target, options)
    bound = search.feasible(
        target.bytes_per_tile * max(options.available_memory_proportion, _LEAST_PROPORTION)
    )
    known = _of_looser_bounds.get(_but_for_the_bound(problem, target, options))
    if known is not None and known[0] >= bound >= known[1].least_bound:
        return known[1]
    while True:
        best = search.within(bound)
        if best is not None:
            return best
        bound = float("inf") if bound > 2 * target.bytes_per_tile else 2 * bound


# (bound, plan) by all else.
_of_looser_bounds: Dict[Any, Tuple[float, ConvPlan]] = {}
_MOST_KNOWN = 8192


def _but_for_the_bound(problem: Problem, target: Target, options: PlanOptions) -> Any:
    return problem, target, replace(options, available_memory_proportion=0.0)


def _remember(problem: Problem, target: Target, options: PlanOptions, plan: ConvPlan) -> None:
    """Note a plan for searches within tighter bounds."""
    bound = target.bytes_per_tile * options.available_memory_proportion
    if plan.least_bound > bound:  # loops, or a bound that nothing could meet
        return
    key = _but_for_the_bound(problem, target, options)
    if key not in _of_looser_bounds or _of_looser_bounds[key][0] < bound:
        if len(_of_looser_bounds) >= _MOST_KNOWN:
            _of_looser_bounds.clear()
        _of_looser_bounds[key] = (bound, plan)


def canonical(problem: Problem) -> Problem:
    """The same problem under one name: a backward pass is planned as a forward pass of its sizes."""
    return problem if problem.pass_ == "weights" else flatten(replace(problem, pass_="forward"))


@lru_cache(maxsize=4096)
def _planned(problem: Problem, target: Target, options: PlanOptions) -> ConvPlan:
    plan: ConvPlan = kept(problem, target, options, lambda: plan_problem(problem, target, options), ConvPlan)
    _remember(problem, target, options, plan)
    return plan


@lru_cache(maxsize=8192)
def plan_pass(
    params: ConvParams, pass_: str, target: Target, options: PlanOptions = DEFAULT_OPTIONS
) -> ConvPlan:
    """Plans one pass ("forward", "backward" or "weights") of a layer; cached by shape."""
    return _planned(canonical(problem_of(params.check(), pass_)), target, options)

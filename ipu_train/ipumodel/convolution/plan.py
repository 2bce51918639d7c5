"""Plans a convolution: which codelet, and how it is split over tiles, to take the fewest cycles within a
memory bound.

The search follows what Graphcore's public poplibs planner minimises (``lib/poplin/ConvModel.cpp``): cycles of
exchange, rearrangement, partial sums and reduction on the busiest tile, subject to temporary bytes <= bytes
per tile x available memory proportion. A bound nobody can meet is doubled up to twice the tile and then
dropped (``ConvPlan.cpp``), so too low a proportion costs cycles, never an error.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from ..target import Target
from .evaluate import AXES, Candidates, Splits, evaluate
from .forms import DEFAULT_OPTIONS, Codelet, PlanOptions, codelets_for, fewest_cycles, transformed
from .kept import kept
from .params import ConvParams, Problem, changed, flatten, problem_of
from .rearrange import moving_rates
from .shortlist import Pair, Short, Shortlist

__all__ = ["AXES", "DEFAULT_OPTIONS", "ConvPlan", "PlanOptions", "plan_pass", "plan_problem"]

# Serial splits are tried while the bound costs more than this factor in cycles.
_SERIAL_GAIN = 1.02
_LEAST_PROPORTION = 1.0 / 256
# Splits are looked at first that take no more than this factor of the least conceivable (or what did for a similar
# problem, and a margin), then more by another factor, so often.
_FIRST_LIMIT, _MARGIN = 2.2, 1.1
_NEXT_LIMIT, _LIMITS = 1.6, 6
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


class _Best(NamedTuple):
    """The best split so far: at ``at`` of the candidates. Sorts by what is to be least."""

    cycles: float
    temporary: int
    serial: int
    pair: int
    at: int
    found: Candidates


class _Search:
    """The search for the best plan of one pass among all its forms and codelets."""

    def __init__(self, problem: Problem, target: Target, options: PlanOptions) -> None:
        self.target, self.options = target, options
        self._similar = _but_for_sizes(problem), target.name, options.half_partials, options.float_inputs
        in_bytes = 4 if options.float_inputs else 2
        pairs = []
        for form in transformed(problem):
            for codelet in codelets_for(form, target, options):
                moving = moving_rates(form, codelet, target, in_bytes)
                pairs.append(Pair(fewest_cycles(form, codelet, target) + moving.least, form, codelet, moving))
        self.pairs = sorted(pairs, key=lambda pair: pair.least)

    def feasible(self, bound: float) -> Tuple[float, float]:
        """(the bound, doubled until some split is within it; bytes of such a split). Infinite when that is beyond two
        tiles.

        The more parts the output channels are computed in, the less is temporary, so only the most parts are tried.
        """
        parts = [(_most_parts(f.co), f, c) for _, f, c, _ in self.pairs]
        least = min(_least_temporary(f, c, serial, self.target, self.options) for serial, f, c in parts)
        bound = _doubled(bound, least, self.target)
        smallest = float("inf")
        for serial, form, codelet in parts:
            if _least_temporary(form, codelet, serial, self.target, self.options) < smallest:
                splits = Splits(form, codelet, self.target, self.options, serial)
                smallest = min(smallest, float(splits.temporary(splits.sizes()).min()))
                if smallest <= bound:
                    break
        return _doubled(bound, smallest, self.target), smallest

    def within(self, bound: float) -> Optional[ConvPlan]:
        """The best plan whose temporary bytes are within a bound; None if there is none."""
        # ``fewest``: cycles that no bound would have gone below
        best, fewest = self._whole(bound)
        for serial in SERIAL_SPLITS[1:]:
            # A loop over output channels only pays where the whole convolution does not fit the bound.
            if best is not None and best.cycles <= _SERIAL_GAIN * fewest:
                break
            best, fewest = self._in_parts(serial, bound, best, fewest)
        if best is None:
            return None
        _, form, codelet, _ = self.pairs[best.pair]
        plan = _plan_of(form, codelet, best.serial, best.found, best.at)
        # The best of all splits stays the best of fewer. Not so where loops over output channels were tried: the bound
        # decides which.
        return replace(plan, least_bound=float(plan.temporary_bytes)) if serial == SERIAL_SPLITS[1] else plan

    def _whole(self, bound: float) -> Tuple[Optional[_Best], float]:
        """(the best split within the bound that computes all output channels at once, fewest cycles of any)."""
        best: Optional[_Best] = None
        fewest = float("inf")
        units = [i for i, pair in enumerate(self.pairs) if pair.codelet.method == "amp"]
        others = [i for i, pair in enumerate(self.pairs) if pair.codelet.method != "amp"]
        if units:
            best, fewest = self._of_units(units, bound)
        for index in others:
            limit = best.cycles if best is not None else float("inf")
            pair = self.pairs[index]
            if pair.least <= limit:
                found = self._candidates(index, 1, limit - pair.moving.least)
                if found is not None:
                    fewest = min(fewest, float(found.total.min()))
                    best = _better(best, _best_of(found, index, 1, bound))
        return best, fewest

    def _of_units(self, units: List[int], bound: float) -> Tuple[Optional[_Best], float]:
        """``_whole`` of the convolution units alone: with a limit on the cycles that is raised until it is enough."""
        short = Shortlist([self.pairs[i] for i in units], self.target, self.options, 1)
        least = float(short.least.min())
        limit = _factors.get(self._similar, _FIRST_LIMIT) * least
        for _ in range(_LIMITS):
            best, fewest = self._of_short(short.within(limit), units, limit, bound)
            if best is not None and best.cycles <= limit:
                _factors[self._similar] = _MARGIN * best.cycles / least
                return best, fewest
            known = fewest <= limit
            limit = best.cycles if best is not None else _NEXT_LIMIT * limit
        # Hardly a split is within the bound, if any is.
        fewest = fewest if known else float("inf")
        for index in units:
            pair = self.pairs[index]
            limit = best.cycles if best is not None else float("inf")
            least_bytes = _least_temporary(pair.form, pair.codelet, 1, self.target, self.options)
            if pair.least <= limit and (least_bytes <= bound or not known):
                found = self._candidates(index, 1, limit - pair.moving.least, bound if known else None)
                if found is not None:
                    fewest = min(fewest, float(found.total.min()))
                    best = _better(best, _best_of(found, index, 1, bound))
        return best, fewest

    def _of_short(
        self, short: Optional[Short], units: List[int], limit: float, bound: float
    ) -> Tuple[Optional[_Best], float]:
        """(the best split of a short list within the bound, fewest cycles of any), right where they are within the
        limit: pair after pair, the one first whose bound from below is least."""
        best: Optional[_Best] = None
        fewest = float("inf")
        while short is not None:
            useful = (short.cycles <= limit) & ((short.temporary <= bound) | (short.cycles < fewest))
            if not useful.any():
                break
            pair = short.pair[np.argmin(np.where(useful, short.cycles, np.inf))]
            here = short.pair == pair
            found = self._evaluated(units[pair], 1, short.splits(np.flatnonzero(useful & here)))
            fewest = min(fewest, float(found.total.min()))
            best = _better(best, _best_of(found, units[pair], 1, bound))
            if best is not None:
                if best.cycles > limit:  # to be asked again with this limit: there may be better ones beyond
                    break
                limit = best.cycles
            short = short.only(np.flatnonzero(useful & ~here))
        return best, fewest

    def _in_parts(
        self, serial: int, bound: float, best: Optional[_Best], fewest: float
    ) -> Tuple[Optional[_Best], float]:
        """As ``_whole``, with the output channels in so many parts one after the other; better than what is given."""
        limit = best.cycles if best is not None else float("inf")
        eligible = []
        for index, (least, form, codelet, _) in enumerate(self.pairs):
            temporary = _least_temporary(form, codelet, serial, self.target, self.options)
            if least <= limit and form.co % serial == 0 and temporary <= bound:
                eligible.append(index)
        found: Optional[Candidates]
        units = [i for i in eligible if best is not None and self.pairs[i].codelet.method == "amp"]
        short = None
        if units:
            pairs = [self.pairs[i] for i in units]
            short = Shortlist(pairs, self.target, self.options, serial).within(limit)
        for index in eligible:
            limit = best.cycles if best is not None else float("inf")
            pair = self.pairs[index]
            if pair.least > limit:
                break
            if index in units:
                if short is None:
                    continue
                here = (short.pair == units.index(index)) & (short.cycles <= limit)
                if not (here & ((short.temporary <= bound) | (short.cycles < fewest))).any():
                    continue
                found = self._evaluated(index, serial, short.splits(np.flatnonzero(here)))
                counted = found.cycles["compute"] <= limit - pair.moving.least
                if not (found.temporary[counted] <= bound).any() and found.total.min() >= fewest:
                    continue
                if not (found.temporary[counted] <= bound).any():
                    found = self._candidates(index, serial, limit - pair.moving.least)
            else:
                found = self._candidates(index, serial, limit - pair.moving.least)
            # What no split of a form does within the bound does not count as what would be done without it.
            if found is not None and (found.temporary <= bound).any():
                fewest = min(fewest, float(found.total.min()))
                best = _better(best, _best_of(found, index, serial, bound))
        return best, fewest

    def _evaluated(self, index: int, serial: int, chosen: Tuple[List[np.ndarray], np.ndarray]) -> Candidates:
        _, form, codelet, _ = self.pairs[index]
        splits = Splits(form, codelet, self.target, self.options, serial, chosen)
        sizes = splits.sizes()
        return evaluate(splits, sizes, splits.temporary(sizes))

    def _candidates(
        self, index: int, serial: int, limit: float, bound: Optional[float] = None
    ) -> Optional[Candidates]:
        """The splits of a pair whose codelet takes no more than ``limit`` cycles and, where a bound is given, that are
        within it; None where there is none."""
        _, form, codelet, _ = self.pairs[index]
        splits: Optional[Splits]
        if limit < float("inf"):
            splits = Splits.within(form, codelet, self.target, self.options, serial, limit)
        else:
            splits = Splits(form, codelet, self.target, self.options, serial)
        if splits is None:
            return None
        sizes = splits.sizes()
        temporary = splits.temporary(sizes)
        if bound is None:
            return evaluate(splits, sizes, temporary)
        small = np.flatnonzero(temporary <= bound)
        if not len(small):
            return None
        splits = splits.only(small)
        return evaluate(splits, splits.sizes(), temporary[small])


def _best_of(found: Candidates, pair: int, serial: int, bound: float) -> Optional[_Best]:
    """The best candidate within the bound; None where none is."""
    total = np.where(found.temporary <= bound, found.total, np.inf)
    fewest = float(total.min())
    if not np.isfinite(fewest):
        return None
    # Of plans that take equally long the one that needs least memory (``PlanningObjective.hpp``).
    at = int(np.argmin(np.where(total == fewest, found.temporary, np.inf)))
    return _Best(fewest, int(found.temporary[at]), serial, pair, at, found)


def _better(best: Optional[_Best], other: Optional[_Best]) -> Optional[_Best]:
    """Fewer cycles, then fewer bytes, then fewer parts, then the pair that comes first."""
    if best is None or other is None:
        return best or other
    return other if other[:4] < best[:4] else best


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
    bound = target.bytes_per_tile * max(options.available_memory_proportion, _LEAST_PROPORTION)
    key = _but_for_the_bound(problem, target, options)
    known = _of_looser_bounds.get(key)
    search = None
    if _smallest.get(key, float("inf")) > bound:
        search = _Search(problem, target, options)
        bound, smallest = search.feasible(bound)
        if len(_smallest) >= _MOST_KNOWN:
            _smallest.clear()
        _smallest[key] = smallest
    if known is not None and known[0] >= bound >= known[1].least_bound:
        return known[1]
    search = search or _Search(problem, target, options)
    while True:
        best = search.within(bound)
        if best is not None:
            return best
        bound = float("inf") if bound > 2 * target.bytes_per_tile else 2 * bound


# By all but the bound: (bound, plan), and the bytes of some split, so that looser bounds are known to be met.
_of_looser_bounds: Dict[Any, Tuple[float, ConvPlan]] = {}
_smallest: Dict[Any, float] = {}
_MOST_KNOWN = 8192
# By what similar problems have in common: cycles of the last plan in relation to the bound from below, and a margin.
_factors: Dict[Any, float] = {}


@lru_cache(maxsize=4096)
def _most_parts(channels: int) -> int:
    return max(serial for serial in SERIAL_SPLITS if channels % serial == 0)


def _but_for_sizes(p: Problem) -> Any:
    """The same for problems that differ in the batch or the field; of weights, channels."""
    return p.pass_, p.kx if p.pass_ != "weights" else p.oy, p.sx, p.dx, p.groups == 1, p.ci, p.co


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
    return problem if problem.pass_ == "weights" else flatten(changed(problem, pass_="forward"))


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

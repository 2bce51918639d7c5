"""What a convolution pass may become before it is split over tiles: its forms and the codelets that can run
them.

The forms are poplibs' transformations (``lib/poplin/ConvModel.cpp``): kernel dimensions expanded into input
channels, free dimensions flattened into one, operands of a matrix product swapped, convolution groups
combined. The codelets are those of ``lib/poplin/ConvVertexType.cpp``.
"""

from dataclasses import dataclass
from typing import List

from ..target import Target
from .params import Problem, changed, combine_groups, expand, flatten, is_matrix_product, swap


@dataclass(frozen=True)
class PlanOptions:
    """What a caller may set of a plan (PopTorch's and poplibs' names)."""

    available_memory_proportion: float = 0.6
    half_partials: bool = False
    float_inputs: bool = False
    slic: bool = True
    vertical_mac: bool = True


DEFAULT_OPTIONS = PlanOptions()
# Half input channels that a convolution unit sums at once.
_ALL_AT_ONCE = 16


@dataclass(frozen=True)
class Codelet:
    """A convolution vertex: method and the channels (and conv groups) that one inner loop takes."""

    method: str
    in_per_group: int
    out_per_group: int
    groups_per_group: int = 1
    units: int = 0
    half_partials: bool = False


def codelets_for(problem: Problem, target: Target, options: PlanOptions) -> List[Codelet]:
    """Vertices that can run the problem (poplibs ``ConvVertexType.cpp``)."""
    half = options.half_partials and not options.float_inputs
    found = _convolution_units(problem, target, options, half)
    if not half and not options.float_inputs and problem.ky == problem.kx == 1 and problem.ci <= _ALL_AT_ONCE:
        # One pass over the input sums all, so that results may be written as they will be kept.
        halves = _convolution_units(problem, target, options, True)
        found += [c for c in halves if -(-problem.ci // c.in_per_group) * c.in_per_group == _ALL_AT_ONCE]
    if problem.co <= 4 or problem.ci <= 4:  # where a convolution unit would stand mostly idle
        found += _dot_products(problem, options, half)
    if not options.float_inputs:
        if options.slic and _slides(problem):
            units = target.half_half_conv_units if half else target.half_float_conv_units
            found.append(Codelet("slic", problem.ci, problem.co, 4 // problem.ci, units, half))
        if options.vertical_mac and problem.co == 1 and problem.groups >= 4:
            found.append(Codelet("vmac", 1, 1, 4, 0, half))
    if problem.ci == 1 and is_matrix_product(problem):
        found.append(Codelet("outer", 1, min(problem.co, 16), 1, 0, True))
    return found


def _convolution_units(problem: Problem, target: Target, options: PlanOptions, half: bool) -> List[Codelet]:
    """The convolution units, in every grouping of input and output channels that they take."""
    found = []
    units = target.conv_units(options.float_inputs, not half)
    weights_per_unit = target.conv_unit_weight_bytes // (4 if options.float_inputs else 2)
    step = 2 if options.float_inputs else 4
    for inside in (weights_per_unit, weights_per_unit // 2, weights_per_unit // 4):
        if inside < step:
            continue
        if inside > step and inside // 2 >= problem.ci:  # a smaller group already holds all channels
            continue
        for used_units in {units, 8} if units > 8 else {units}:
            used = weights_per_unit * used_units // units
            for outside in sorted({used_units, used}):
                fills = outside == used_units or problem.co > used_units
                if outside % used_units == 0 and (inside == weights_per_unit or used % inside == 0) and fills:
                    found.append(Codelet("amp", inside, outside, 1, used_units, half))
    return found


def _dot_products(problem: Problem, options: PlanOptions, half: bool) -> List[Codelet]:
    """Dot products over input channels, in groups of several sizes."""
    grain = 1 if options.float_inputs else 2
    sizes = sorted({min(problem.ci, 1 << bits) for bits in (2, 4, 6, 8, 10)})
    return [Codelet("hmac", -(-size // grain) * grain, 2 if half else 1, 1, 0, half) for size in sizes]


def _slides(problem: Problem) -> bool:
    """Whether the sliding-window codelet can run the problem: few channels a group, no dilated kernel."""
    p = problem
    return (
        p.groups > 1
        and p.ci == p.co
        and p.ci in (1, 2, 4)
        and p.sx <= 2
        and p.kdy == p.kdx == 1
        and not p.expanded
        and p.pass_ != "weights"
    )


def _can_expand(problem: Problem, dim: str) -> bool:
    """Whether turning a kernel dimension into channels changes anything (poplibs
    ``expandingDimChangesParams``).
    """
    p = problem
    k, i, s, d = (p.ky, p.iy, p.sy, p.dy) if dim == "y" else (p.kx, p.ix, p.sx, p.dx)
    return k <= i and (k > 1 or s > 1 or d > 1)


def transformed(problem: Problem) -> List[Problem]:
    """The forms a pass may take before it is split: expanded, swapped, with groups combined."""
    forms = []
    for y in (False, True):
        for x in (False, True):
            if (y and not _can_expand(problem, "y")) or (x and not _can_expand(problem, "x")):
                continue
            form = flatten(expand(problem, y, x))
            forms.append(form)
            if is_matrix_product(form):
                forms.append(swap(form))
            elif problem.pass_ == "weights" and problem.groups == 1:
                other = changed(problem, batch=problem.co, co=problem.batch, swapped=True)
                forms.append(flatten(expand(other, y, x)))
    if problem.groups > 1:
        for wanted in (4, 8, 16):
            factor = wanted // problem.ci
            if factor > 1 and problem.groups >= factor:
                for form in [f for f in forms if f.combined == 1]:
                    if form.groups == problem.groups:
                        forms.append(combine_groups(form, factor))
    return list(dict.fromkeys(forms))


def fewest_cycles(p: Problem, c: Codelet, target: Target) -> float:
    """A bound from below on the compute cycles of a form with a codelet: inner loops, perfectly spread."""
    outputs = p.groups * p.batch * p.oy * p.ox / (p.dy * p.dx) / target.tiles
    if c.method == "amp":
        weights_per_unit = target.conv_unit_weight_bytes // 2
        height = max(1, weights_per_unit // c.in_per_group)
        passes = -(-p.co // c.out_per_group) * c.out_per_group / c.units
        # Each call of the inner loop loads the units' weights and starts six workers, however little there is to do.
        # More calls than these are only made when outputs are split.
        calls = p.groups * -(-p.ky // height) * p.kx * -(-p.ci // c.in_per_group) * passes / target.tiles
        each = 110.0 + 32.0 * c.units / target.conv_unit_load_bytes_per_cycle
        work = outputs * -(-p.ky // height) * p.kx * -(-p.ci // c.in_per_group) * passes
        return each * max(1.0, calls) + (2.0 if c.units == 4 else 4.0) * work
    if c.method == "hmac":
        return outputs * p.ky * p.kx * -(-p.ci // c.in_per_group) * p.co * (7 + c.in_per_group / 4.0)
    # Of the outputs that dilation leaves out, these two compute every one.
    every = outputs * p.dy * p.dx / c.groups_per_group
    if c.method == "slic":
        return every * p.ky * -(-p.kx // 4) * (2 if p.sx == 1 else 4) * (0.5 if c.units == 16 else 1.0)
    if c.method == "vmac":
        return every * p.ky * p.ci * 2.0 * p.kx
    return 0.0

"""Plans a convolution: which codelet, and how it is split over tiles, to take the fewest cycles within a
memory bound.

The search follows what Graphcore's public poplibs planner minimises (``lib/poplin/ConvModel.cpp``): cycles of
exchange, rearrangement, partial sums and reduction on the busiest tile, subject to temporary bytes <= bytes
per tile x available memory proportion. A bound nobody can meet is doubled up to twice the tile and then
dropped (``ConvPlan.cpp``), so too low a proportion costs cycles, never an error.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Dict, Tuple

import numpy as np

from ..convolution import codelets
from .codelets import ceil_div
from .forms import (
    DEFAULT_OPTIONS,
    Codelet,
    PlanOptions,
    codelets_for,
    fewest_cycles,
    transformed,
)
from .params import Problem, problem_of

__all__ = ["AXES", "DEFAULT_OPTIONS", "ConvPlan", "PlanOptions", "plan_pass", "plan_problem"]

AXES = ("groups", "batch", "oy", "ox", "ky", "ci", "co")
# Splits that leave more tiles idle than this share of the best filling are not looked at.
_FILL = 0.5
# Serial splits are tried while the bound costs more than this factor in cycles.
_SERIAL_GAIN = 1.02
# Plans within about this share of the best one's cycles are taken as equally likely.
_TIE = 0.01
_LEAST_PROPORTION = 1.0 / 256
_SERIAL_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class ConvPlan:
    """The chosen plan of one pass. Cycles on the busiest tile by step; ``temporary_bytes`` on that tile.

    ``typical_temporary_bytes`` is over all tiles and over plans that are as good within a per cent: which of
    those the real planner takes hangs on details no estimate reaches, so their weighted geometric mean is the
    better prediction.
    """

    problem: Problem
    codelet: Codelet
    splits: Tuple[int, ...]
    serial: int
    tiles: int
    cycles: Dict[str, float]
    temporary_bytes: int
    sizes: Dict[str, float]
    typical_temporary_bytes: float = 0.0

    @property
    def total_cycles(self):
        return sum(self.cycles.values())


def _distinct_splits(size, limit):
    """Split counts that give different tile sizes: about 2 sqrt(size) of them."""
    size = int(max(size, 1))
    sizes = {-(-size // s) for s in range(1, min(size, int(size**0.5) + 1) + 1)} | set(
        range(1, int(size**0.5) + 1)
    )
    return np.array(sorted({-(-size // s) for s in sizes if -(-size // s) <= limit}), dtype=np.float64)


@lru_cache(maxsize=2048)
def _all_splits(grains, tiles):
    """Every combination of splits over the axes that uses at most ``tiles`` and not far too few."""
    per_axis = [_distinct_splits(g, tiles) for g in grains]
    most = 1.0
    for s in per_axis:
        most *= s[-1]
    floor = _FILL * min(float(tiles), most)
    # What the axes still to come can multiply a partial product by: lets hopeless starts be dropped at once.
    reach = [1.0]
    for s in reversed(per_axis[1:]):
        reach.append(reach[-1] * s[-1])
    reach = reach[::-1]
    columns = [per_axis[0]]
    product = per_axis[0]
    for axis in range(len(per_axis)):
        if axis:
            s = per_axis[axis]
            grid = product[:, None] * s[None, :]
            keep = (grid <= tiles) & (grid * reach[axis] >= floor)
            first, second = np.nonzero(keep)
            columns = [c[first] for c in columns] + [s[second]]
            product = grid[first, second]
    return columns, product


def _input_range(out, kernel, stride, kernel_dilation, input_dilation, whole_out, whole_kernel, whole_in):
    """Input elements one dimension of a tile needs (poplibs ``getMaxInputRangeSize``)."""
    span = (out - 1) * stride + (kernel - 1) * kernel_dilation
    need = np.floor(span / input_dilation) + 1
    everything = (out == whole_out) & (kernel == whole_kernel)
    return np.where(everything, whole_in, np.minimum(need, whole_in))


def _compute(problem, codelet, tile, target, options):
    """Cycles of the partial-sum codelet for each candidate."""
    rows = tile["batch"] * tile["oy"]
    # A strided backward pass (dilated input) computes only the outputs each tap reaches.
    # The sliding window is the exception: it runs over an input whose gaps have been filled with zeros.
    sliding = codelet.method == "slic"
    rows = np.maximum(1.0, ceil_div(rows, 1 if sliding else problem.dy))
    width = ceil_div(tile["ox"], 1 if sliding else problem.dx)
    in_groups = ceil_div(tile["ci"], codelet.in_per_group)
    out_groups = ceil_div(tile["co"], codelet.out_per_group)
    if codelet.method == "amp":
        full_units = target.conv_units(options.float_inputs, not codelet.half_partials)
        weights_per_unit = target.conv_unit_weight_bytes // (4 if options.float_inputs else 2)
        height = max(1, weights_per_unit * codelet.units // full_units // codelet.in_per_group)
        passes = codelet.out_per_group / codelet.units
        load = target.conv_unit_load_bytes_per_cycle
        general = codelets.amp_nx1(
            rows,
            width,
            tile["ky"],
            problem.kx,
            tile["groups"],
            in_groups,
            out_groups,
            passes,
            codelet.units,
            height,
            load,
            codelet.half_partials,
        )
        if (
            height != 1
            or problem.kx != 1
            or problem.sx != 1
            or problem.sy != 1
            or problem.dx * problem.dy != 1
        ):
            cycles = general
        else:
            single = codelets.amp_1x1(
                rows,
                width,
                tile["groups"],
                in_groups,
                out_groups,
                passes,
                codelet.units,
                load,
                codelet.half_partials,
            )
            cycles = np.where((tile["ky"] == 1) & (tile["batch"] * tile["oy"] == 1), single, general)
        return cycles * (2 if options.float_inputs else 1)
    if codelet.method == "hmac":
        return codelets.horizontal_mac(
            rows,
            width,
            tile["ky"] * problem.kx,
            tile["groups"],
            in_groups,
            out_groups,
            codelet.in_per_group,
            codelet.out_per_group,
            options.float_inputs,
        )
    group_groups = ceil_div(tile["groups"], codelet.groups_per_group)
    if codelet.method == "slic":
        return codelets.slic(
            rows,
            width,
            tile["ky"],
            problem.kx,
            group_groups,
            problem.sx,
            codelet.units,
            codelet.half_partials,
            codelet.groups_per_group,
        )
    if codelet.method == "vmac":
        return codelets.vertical_mac(rows * width, tile["ky"], problem.kx, group_groups, in_groups)
    return codelets.outer_product(
        tile["ox"], tile["co"] * tile["groups"], codelet.out_per_group, options.float_inputs
    )


def _evaluate(problem, codelet, target, options, serial, limit=float("inf")):
    """Candidate splits of one form with one codelet: cycles by step, temporary bytes, sizes (arrays).

    Splits whose compute cycles alone are above ``limit`` are left out; None when no split remains.
    """
    p, c = problem, codelet
    co_serial = -(-p.co // serial)
    grains = (
        -(-p.groups // c.groups_per_group),
        p.batch,
        p.oy,
        p.ox,
        p.ky,
        -(-p.ci // c.in_per_group),
        -(-co_serial // c.out_per_group),
    )
    columns, used = _all_splits(grains, target.tiles)
    per_grain = (c.groups_per_group, 1, 1, 1, 1, c.in_per_group, c.out_per_group)
    tile = {a: ceil_div(g, s) * k for a, g, s, k in zip(AXES, grains, columns, per_grain)}
    compute = _compute(p, c, tile, target, options)
    within = np.flatnonzero(compute * serial <= limit)
    if not len(within):
        return None
    if len(within) < len(used):
        compute, used = compute[within], used[within]
        columns = [column[within] for column in columns]
        tile = {axis: size[within] for axis, size in tile.items()}
    split = dict(zip(AXES, columns))
    in_bytes = 4 if options.float_inputs else 2
    partial_bytes = 2 if c.half_partials else 4
    out_half = not options.float_inputs

    iy = _input_range(tile["oy"], tile["ky"], p.sy, p.kdy, p.dy, p.oy, p.ky, p.iy)
    ix = _input_range(tile["ox"], p.kx, p.sx, p.kdx, p.dx, p.ox, p.kx, p.ix)
    inputs = tile["groups"] * tile["batch"] * tile["ci"] * iy * ix
    weights = tile["groups"] * tile["ci"] * tile["co"] * tile["ky"] * p.kx
    partials = tile["groups"] * tile["batch"] * tile["co"] * tile["oy"] * tile["ox"]
    depth = split["ky"] * split["ci"]
    outputs = ceil_div(partials, depth)

    rate = float(target.exchange_bytes_per_cycle)
    # Tiles that share an exchange bus receive one stream at twice the rate: neighbours hold consecutive out
    # channels.
    in_rate = np.where(split["co"] % target.tiles_per_exchange_bus == 0, 2 * rate, rate)
    in_exchange = (inputs - np.floor(inputs / split["co"])) * in_bytes / in_rate
    weight_exchange = (
        (weights - np.floor(weights / (split["oy"] * split["ox"] * split["batch"]))) * in_bytes / rate
    )
    first, second = codelets.reduction_stages(depth)
    after_first = ceil_div(partials, first)
    reduce_exchange = np.where(depth > 1, (partials - outputs) * partial_bytes / rate, 0.0)
    reduce_exchange = reduce_exchange + np.where(second > 1, after_first * partial_bytes / rate, 0.0)
    reduce = codelets.reduce_partials(
        after_first, first, c.half_partials, np.where(second <= 1, out_half, c.half_partials)
    )
    reduce = reduce + np.where(
        second > 1, codelets.reduce_partials(outputs, second, c.half_partials, out_half), 0.0
    )
    transform, transform_bytes = _transform(p, c, target, outputs, used, in_bytes)
    conv_bytes = (inputs + weights) * in_bytes + partials * partial_bytes
    if c.method == "slic":
        conv_bytes = (
            conv_bytes + partials * partial_bytes / ceil_div(tile["groups"], c.groups_per_group) + 200
        )
        window_y = (tile["oy"] - 1) * p.sy + 1 + (tile["ky"] - 1) * p.kdy
        window_x = (tile["ox"] - 1) * p.sx + 1 + (p.kx - 1) * p.kdx
        zeros = tile["groups"] * tile["batch"] * tile["ci"] * window_y * window_x - inputs
        transform = transform + np.maximum(zeros, 0.0) * in_bytes / rate
        conv_bytes = conv_bytes + np.maximum(zeros, 0.0) * in_bytes
    reduce_bytes = np.where(depth > 1, outputs * depth * partial_bytes, 0.0)
    temporary = np.maximum(np.maximum(transform_bytes, conv_bytes), reduce_bytes)
    cycles = {
        "compute": compute,
        "input_exchange": in_exchange,
        "weight_exchange": weight_exchange,
        "reduce_exchange": reduce_exchange,
        "reduce": reduce,
        "transform": transform,
    }
    slicing = 30.0 + weights * in_bytes / target.memcpy_bytes_per_cycle if serial > 1 else 0.0
    cycles = {k: (v + (slicing if k == "transform" else 0.0)) * serial for k, v in cycles.items()}
    sizes = {
        "inputs": inputs,
        "weights": weights,
        "partials": partials,
        "outputs": outputs,
        "depth": depth,
        "in_groups": ceil_div(tile["ci"], c.in_per_group),
        "out_groups": ceil_div(tile["co"], c.out_per_group),
        "taps": tile["ky"] * p.kx,
        "conv_groups": ceil_div(tile["groups"], c.groups_per_group),
        "worker_rows": tile["batch"] * tile["oy"],
    }
    return cycles, temporary, columns, used, sizes


def _transform(p, c, target, outputs, used, in_bytes):
    """Cycles and bytes of moving operands into the planned layout (poplibs ``addTransformCycleEstimate``)."""
    is_weights = p.pass_ == "weights"
    pad_in = p.ci % c.in_per_group != 0
    pad_out = p.co % c.out_per_group != 0
    combined = p.combined > 1
    move_input = is_weights or p.expanded or p.swapped or combined or pad_in
    move_weights = move_input or pad_out
    move_output = (is_weights != p.swapped) or combined or pad_out
    copy_in = float(min(target.memcpy_bytes_per_cycle, in_bytes))
    # The scale is poplibs' own: 5/4, or 5/3 when channels are not in fours.
    scale = 1.25 if (p.ci * p.co) % 4 == 0 else 5.0 / 3.0
    share = _whole(p, move_input, move_weights) / used * in_bytes
    cycles = share / target.exchange_bytes_per_cycle + share * scale / copy_in
    out_bytes = outputs * 2
    out_scale = 1.25 if p.co % 4 == 0 else 5.0 / 3.0
    if move_output:
        cycles = cycles + out_bytes / target.exchange_bytes_per_cycle + out_bytes * out_scale / copy_in
    elif c.out_per_group != 16:
        rate = min(target.memcpy_bytes_per_cycle, c.out_per_group * 2)
        cycles = cycles + out_bytes * out_scale / rate
    return cycles, 2.0 * np.maximum(share, out_bytes if move_output else 0.0)


def _whole(p, move_input, move_weights):
    """Elements of the whole operands, after expansion, that a transform has to write."""
    total = 0.0
    if move_input:
        total += float(p.groups) * p.batch * p.ci * p.iy * p.ix
    if move_weights:
        total += float(p.groups) * p.ci * p.co * p.ky * p.kx
    return total


def _typical(candidates, best):
    """Weighted geometric mean of the temporary bytes of plans within a few _TIE of the best."""
    total = np.concatenate([c[0] for c in candidates])
    size = np.concatenate([c[1] for c in candidates])
    weight = np.exp(-(total / best - 1.0) / _TIE)
    return float(np.exp(np.sum(weight * np.log(np.maximum(size, 1.0))) / np.sum(weight)))


def _doubled(bound, least, target):
    """The bound, doubled until ``least`` bytes are within it; infinite when that is beyond two tiles."""
    while bound < least:
        bound = float("inf") if bound > 2 * target.bytes_per_tile else bound * 2
    return bound


def _least_temporary(problem, codelet, target, options):
    """Bytes that the busiest tile of any split holds at least: its share of what the codelet reads and writes."""
    p = problem
    serial = max(s for s in _SERIAL_SPLITS if p.co % s == 0)
    partials = p.groups * p.batch * -(-p.co // serial) * p.oy * p.ox * (2 if codelet.half_partials else 4)
    # Where a stride steps over inputs, they need not be there.
    inputs = 0 if max(p.sy, p.sx, p.dy, p.dx) > 1 else p.groups * p.batch * p.ci * p.iy * p.ix
    return (inputs * (4 if options.float_inputs else 2) + partials) / target.tiles


def plan_problem(problem, target, options):
    """The best :class:`ConvPlan` of one pass."""
    # A proportion of zero asks for the least temporary memory: doubling then finds the smallest bound that
    # can be met.
    bound = target.bytes_per_tile * max(options.available_memory_proportion, _LEAST_PROPORTION)
    pairs = [
        (form, codelet) for form in transformed(problem) for codelet in codelets_for(form, target, options)
    ]
    pairs = sorted(((fewest_cycles(f, c, target), f, c) for f, c in pairs), key=lambda pair: pair[0])
    bound = _doubled(bound, min(_least_temporary(f, c, target, options) for _, f, c in pairs), target)
    while True:
        best, unbounded, candidates, smallest = None, float("inf"), [], float("inf")
        for serial in _SERIAL_SPLITS:
            # A loop over output channels only pays where the whole convolution does not fit the bound.
            if best is not None and best.total_cycles <= _SERIAL_GAIN * unbounded:
                break
            for least, form, codelet in pairs:
                limit = best.total_cycles * (1 + 5 * _TIE) if best is not None else float("inf")
                if least > limit:
                    break
                if serial > 1 and form.co % serial:
                    continue
                found = _evaluate(form, codelet, target, options, serial, limit)
                if found is None:
                    continue
                cycles, temporary, columns, used, sizes = found
                total = sum(cycles.values())
                unbounded = min(unbounded, float(total.min()))
                smallest = min(smallest, float(temporary.min()))
                total = np.where(temporary <= bound, total, np.inf)
                i = int(np.argmin(total))
                if not np.isfinite(total[i]):
                    continue
                if best is None or total[i] < best.total_cycles:
                    best = ConvPlan(
                        form,
                        codelet,
                        tuple(int(c[i]) for c in columns),
                        serial,
                        int(used[i]),
                        {k: float(v[i]) if np.ndim(v) else float(v) for k, v in cycles.items()},
                        int(temporary[i]),
                        {k: float(v[i]) for k, v in sizes.items()},
                    )
                near = total <= best.total_cycles * (1 + 5 * _TIE)
                candidates.append((total[near], (temporary * used)[near]))
        if best is not None:
            return replace(best, typical_temporary_bytes=_typical(candidates, best.total_cycles))
        # Nothing met the bound, so nothing was left out: the next bound that can be met is known.
        bound = _doubled(bound, smallest, target)


@lru_cache(maxsize=4096)
def plan_pass(params, pass_, target, options=DEFAULT_OPTIONS):
    """Plans one pass ("forward", "backward" or "weights") of a layer; cached by shape."""
    return plan_problem(problem_of(params.check(), pass_), target, options)

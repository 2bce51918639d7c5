"""Cycles and temporary bytes of a pass under every way to split it over tiles, one form and codelet at a time."""

from dataclasses import replace
from functools import lru_cache
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..target import Target
from . import codelets
from .codelets import ceil_div
from .forms import Codelet, PlanOptions
from .narrow import FILL, Task, Work, distinct_splits, fast_splits
from .params import Problem
from .rearrange import kernel_rows_at_once, transform, zeros
from .summing import reduction

AXES = ("groups", "batch", "oy", "ox", "ky", "ci", "co")
SLIC_BUFFER_BYTES = 200  # alignment of the sliding window's second buffer of partials


class Candidates(NamedTuple):
    """Splits and what they cost; every array has one element a split.

    ``cycles`` on the busiest tile by step, ``temporary`` bytes on that tile, ``splits`` the parts along each of
    ``AXES``, ``used`` tiles, ``sizes`` elements and groups on the busiest tile.
    """

    cycles: Dict[str, np.ndarray]
    total: np.ndarray
    temporary: np.ndarray
    splits: List[np.ndarray]
    used: np.ndarray
    sizes: Dict[str, np.ndarray]


@lru_cache(maxsize=2048)
def every_split(grains: Tuple[int, ...], tiles: int) -> Tuple[List[np.ndarray], np.ndarray]:
    """Every combination of splits over the axes that uses at most ``tiles`` and not far too few, and their product."""
    per_axis = [distinct_splits(g, tiles) for g in grains]
    most = 1.0
    for s in per_axis:
        most *= s[-1]
    floor = FILL * min(float(tiles), most)
    # What the axes still to come can multiply a partial product by: lets hopeless starts be dropped at once.
    reach = [1.0]
    for s in reversed(per_axis[1:]):
        reach.append(reach[-1] * s[-1])
    reach = reach[::-1]
    columns = [per_axis[0]]
    product = per_axis[0]
    for axis in range(1, len(per_axis)):
        s = per_axis[axis]
        if len(s) == 1:  # nothing to choose along this axis
            columns.append(np.ones_like(product))
            continue
        # With each product go the splits from one on to another: they rise.
        begin = np.searchsorted(s, floor / (product * reach[axis]), side="left")
        count = np.maximum(np.searchsorted(s, tiles / product, side="right") - begin, 0)
        before = np.cumsum(count) - count
        second = s[np.arange(int(count.sum())) + np.repeat(begin - before, count)]
        columns = [np.repeat(c, count) for c in columns] + [second]
        product = np.repeat(product, count) * second
    return columns, product


def input_range(
    out: np.ndarray,
    kernel: np.ndarray,
    stride: int,
    input_dilation: int,
    whole: Tuple[int, ...],
) -> np.ndarray:
    """Input elements one dimension of a tile needs, as poplibs' ``getMaxInputRangeSize`` counts them: as if no kernel
    were dilated.

    Args:
        whole: output, kernel and input of the whole problem in this dimension.
    """
    whole_out, whole_kernel, whole_in = whole
    need = np.floor(((out - 1) * stride + kernel - 1) / input_dilation) + 1
    everything = (out == whole_out) & (kernel == whole_kernel)
    return np.where(everything, whole_in, np.minimum(need, whole_in))


def _amp_cycles(
    p: Problem,
    c: Codelet,
    tile: Dict[str, np.ndarray],
    rows: np.ndarray,
    width: np.ndarray,
    target: Target,
    floats: bool,
) -> np.ndarray:
    """Cycles of the convolution unit: the one-tap loop where it applies, else the general one."""
    in_groups = ceil_div(tile["ci"], c.in_per_group)
    out_groups = ceil_div(tile["co"], c.out_per_group)
    height = kernel_rows_at_once(c, target, floats)
    passes = c.out_per_group / c.units
    load = target.conv_unit_load_bytes_per_cycle
    cycles = codelets.amp_nx1(
        rows,
        width,
        tile["ky"],
        p.kx,
        tile["groups"],
        in_groups,
        out_groups,
        passes,
        c.units,
        height,
        load,
        c.half_partials,
    )
    if height == 1 and p.kx == 1 and p.sx == p.sy == p.dx == p.dy == 1:
        single = codelets.amp_1x1(
            rows, width, tile["groups"], in_groups, out_groups, passes, c.units, load, c.half_partials
        )
        cycles = np.where((tile["ky"] == 1) & (tile["batch"] * tile["oy"] == 1), single, cycles)
    return cycles * (2 if floats else 1)


def least_work(p: Problem, c: Codelet, target: Target, options: PlanOptions) -> Work:
    """A bound from below on the cycles of convolution units for one part of the output channels."""
    passes = c.out_per_group / c.units
    height = kernel_rows_at_once(c, target, options.float_inputs)
    one_tap = height == 1 and p.kx == 1 and p.sx == p.sy == p.dx == p.dy == 1
    start, position, row = codelets.amp_at_least(
        passes, c.units, height, target.conv_unit_load_bytes_per_cycle, c.half_partials, one_tap
    )
    each = passes * p.kx * (2 if options.float_inputs else 1)
    return Work(each, start, position, row, (p.dy, p.dx), height)


def _compute(
    problem: Problem, codelet: Codelet, tile: Dict[str, np.ndarray], target: Target, options: PlanOptions
) -> np.ndarray:
    """Cycles of the partial-sum codelet for each candidate."""
    # A strided backward pass (dilated input) computes only the outputs each tap reaches.
    # The sliding window is the exception: it runs over an input whose gaps have been filled with zeros.
    sliding = codelet.method == "slic"
    rows = np.maximum(1.0, ceil_div(tile["batch"] * tile["oy"], 1 if sliding else problem.dy))
    width = ceil_div(tile["ox"], 1 if sliding else problem.dx)
    if codelet.method == "amp":
        return _amp_cycles(problem, codelet, tile, rows, width, target, options.float_inputs)
    in_groups = ceil_div(tile["ci"], codelet.in_per_group)
    if codelet.method == "hmac":
        return codelets.horizontal_mac(
            rows,
            width,
            tile["ky"] * problem.kx,
            tile["groups"],
            in_groups,
            ceil_div(tile["co"], codelet.out_per_group),
            codelet.in_per_group,
            codelet.out_per_group,
            options.float_inputs,
        )
    group_groups = ceil_div(tile["groups"], codelet.groups_per_group)
    if sliding:
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
        # Its planner counts every output, the dilated ones too.
        outputs = tile["oy"] * tile["ox"]
        return codelets.vertical_mac(outputs, tile["batch"], tile["ky"], problem.kx, group_groups, in_groups)
    return codelets.outer_product(
        tile["ox"], tile["co"] * tile["groups"], codelet.out_per_group, options.float_inputs
    )


def unplanned_cycles(
    p: Problem, c: Codelet, splits: Sequence[int], serial: int, target: Target, options: PlanOptions
) -> float:
    """Cycles of a chosen split that happen and that the planner does not count; less those that it counts in vain.

    Where several kernel rows are multiplied at once, gaps between dilated rows are filled with zeros, which are then
    multiplied as well (``ConvVertices.cpp``, ``createConvPartialAmpVertices``). The planner lets every partial sum
    travel (``addExchangeCycleEstimates`` of ``ConvModel.cpp``).
    """
    columns = [np.array([float(split)]) for split in splits]
    tile = _on_tile(p, c, serial, columns)
    partials = tile["groups"] * tile["batch"] * tile["co"] * tile["oy"] * tile["ox"]
    depth = columns[AXES.index("ky")] * columns[AXES.index("ci")]
    sums = (c, partials, np.ceil(partials / depth), depth, target, not options.float_inputs)
    found = reduction(*sums, planned=False)[0] - reduction(*sums)[0]
    if c.method == "amp" and p.dy > 1 and kernel_rows_at_once(c, target, options.float_inputs) > 1:
        every_row, planned = (_compute(form, c, tile, target, options) for form in (replace(p, dy=1), p))
        found = found + every_row - planned
    return serial * float(found[0])


def grains_of(p: Problem, c: Codelet, serial: int) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
    """(number, size) of what is split along each of ``AXES``."""
    out_channels = -(-p.co // serial)
    # Two neighbours at a time where a tile would otherwise get an odd number of results.
    wide = 2 if c.out_per_group % 2 and p.ox % 2 == 0 else 1
    count = (
        -(-p.groups // c.groups_per_group),
        p.batch,
        p.oy,
        p.ox // wide,
        p.ky,
        -(-p.ci // c.in_per_group),
        -(-out_channels // c.out_per_group),
    )
    return count, (c.groups_per_group, 1, 1, wide, 1, c.in_per_group, c.out_per_group)


def _on_tile(p: Problem, c: Codelet, serial: int, columns: Sequence[np.ndarray]) -> Dict[str, np.ndarray]:
    """Elements along each of ``AXES`` on the busiest tile."""
    counts, sizes = grains_of(p, c, serial)
    return {a: np.ceil(n / s) * size for a, n, s, size in zip(AXES, counts, columns, sizes)}


class Splits:
    """All splits of one form with one codelet: sizes and temporary bytes at once, cycles when they are asked for.

    Args:
        serial: parts of the output channels that are computed one after the other, each on all tiles.
        chosen: (parts along each of ``AXES``, their product) of some splits; None: of all.
    """

    def __init__(
        self,
        problem: Problem,
        codelet: Codelet,
        target: Target,
        options: PlanOptions,
        serial: int = 1,
        chosen: Optional[Tuple[List[np.ndarray], np.ndarray]] = None,
    ):
        self.problem, self.codelet, self.serial = problem, codelet, serial
        self.target, self.options = target, options
        self.columns, self.used = chosen or every_split(grains_of(problem, codelet, serial)[0], target.tiles)
        self.tile = _on_tile(problem, codelet, serial, self.columns)
        self._compute: Optional[np.ndarray] = None

    @property
    def compute(self) -> np.ndarray:
        """Cycles of the codelet itself, all serial parts together."""
        if self._compute is None:
            found = _compute(self.problem, self.codelet, self.tile, self.target, self.options)
            self._compute = found * self.serial
        return self._compute

    @staticmethod
    def within(
        problem: Problem, codelet: Codelet, target: Target, options: PlanOptions, serial: int, limit: float
    ) -> Optional["Splits"]:
        """The splits whose codelet takes no more than ``limit`` cycles; None where none does."""
        if codelet.method != "amp":
            splits = Splits(problem, codelet, target, options, serial)
        else:
            work = least_work(problem, codelet, target, options)
            task = Task(grains_of(problem, codelet, serial)[0], work, limit / serial)
            found = fast_splits([task], target.tiles)
            if found is None:
                return None
            splits = Splits(problem, codelet, target, options, serial, (found.columns, found.used))
        chosen = np.flatnonzero(splits.compute <= limit)
        if not len(chosen):
            return None
        return splits.only(chosen) if len(chosen) < len(splits.used) else splits

    def only(self, chosen: np.ndarray) -> "Splits":
        """The splits at some indices."""
        part = object.__new__(Splits)
        part.__dict__.update(self.__dict__)
        part.columns = [column[chosen] for column in self.columns]
        part.used = self.used[chosen]
        part.tile = {axis: size[chosen] for axis, size in self.tile.items()}
        part._compute = None if self._compute is None else self._compute[chosen]
        return part

    def sizes(self) -> Dict[str, np.ndarray]:
        """Elements, groups and taps on the busiest tile, and ``depth``, the partial results of one output."""
        p, tile = self.problem, self.tile
        split = dict(zip(AXES, self.columns))
        iy = input_range(tile["oy"], tile["ky"], p.sy, p.dy, (p.oy, p.ky, p.iy))
        ix = input_range(tile["ox"], np.float64(p.kx), p.sx, p.dx, (p.ox, p.kx, p.ix))
        partials = tile["groups"] * tile["batch"] * tile["co"] * tile["oy"] * tile["ox"]
        depth = split["ky"] * split["ci"]
        return {
            "inputs": tile["groups"] * tile["batch"] * tile["ci"] * iy * ix,
            "input_rows": tile["batch"] * iy,
            "weights": tile["groups"] * tile["ci"] * tile["co"] * tile["ky"] * p.kx,
            "partials": partials,
            "outputs": np.ceil(partials / depth),
            "depth": depth,
        }

    def temporary(self, sizes: Dict[str, np.ndarray]) -> np.ndarray:
        """Temporary bytes on the busiest tile (poplibs ``ConvModel.cpp``): the most of moving operands, of running the
        codelet and of the reduction."""
        c = self.codelet
        in_bytes, partial_bytes = self._widths()
        _, moved = transform(self.problem, c, self.target, sizes["outputs"], self.used, in_bytes)
        conv = (sizes["inputs"] + sizes["weights"]) * in_bytes + sizes["partials"] * partial_bytes
        conv = conv + sum(self._zeros()) * in_bytes
        if c.method == "slic":
            conv = conv + sizes["partials"] * partial_bytes / ceil_div(
                self.tile["groups"], c.groups_per_group
            )
            conv = conv + SLIC_BUFFER_BYTES
        depth = sizes["depth"]
        return np.maximum(
            np.maximum(moved, conv), np.where(depth > 1, sizes["outputs"] * depth * partial_bytes, 0.0)
        )

    def cycles(self, sizes: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Cycles on the busiest tile by step, all serial parts together."""
        p, c, target = self.problem, self.codelet, self.target
        split = dict(zip(AXES, self.columns))
        in_bytes, _ = self._widths()
        inputs, weights, depth = sizes["inputs"], sizes["weights"], sizes["depth"]
        rate = float(target.exchange_bytes_per_cycle)
        # Tiles that share an exchange bus receive one stream at twice the rate: neighbours hold consecutive out
        # channels.
        in_rate = np.where(split["co"] % target.tiles_per_exchange_bus == 0, 2 * rate, rate)
        shared = split["oy"] * split["ox"] * split["batch"]
        moving, _ = transform(p, c, target, sizes["outputs"], self.used, in_bytes)
        zero_inputs, zero_weights = self._zeros()
        moving = moving + zero_inputs * in_bytes / in_rate + zero_weights * in_bytes / rate
        if self.serial > 1:
            moving = moving + 30.0 + weights * in_bytes / target.memcpy_bytes_per_cycle
        gather, reduce = reduction(
            c, sizes["partials"], sizes["outputs"], depth, target, not self.options.float_inputs
        )
        steps = {
            "input_exchange": (inputs - np.floor(inputs / split["co"])) * in_bytes / in_rate,
            "weight_exchange": (weights - np.floor(weights / shared)) * in_bytes / rate,
            "reduce_exchange": gather,
            "reduce": reduce,
            "transform": moving,
        }
        if self.serial > 1:
            steps = {step: value * self.serial for step, value in steps.items()}
        return dict({"compute": self.compute}, **steps)

    def _zeros(self) -> Tuple[np.ndarray, np.ndarray]:
        return zeros(
            self.problem,
            self.codelet,
            self.tile,
            self.columns[4],
            self.target,
            self.options.float_inputs,
        )

    def _widths(self) -> Tuple[int, int]:
        """Bytes of an operand's and of a partial result's element."""
        return 4 if self.options.float_inputs else 2, 2 if self.codelet.half_partials else 4


def evaluate(splits: Splits, sizes: Dict[str, np.ndarray], temporary: np.ndarray) -> Candidates:
    """The :class:`Candidates` of splits whose sizes and temporary bytes are known."""
    p, c, tile = splits.problem, splits.codelet, splits.tile
    cycles = splits.cycles(sizes)
    # The vertical codelet's work lists hold kernel rows for single outputs, the others' taps for rows of outputs.
    vertical = c.method == "vmac"
    more = {
        "in_groups": np.ceil(tile["ci"] / c.in_per_group),
        "out_groups": np.ceil(tile["co"] / c.out_per_group),
        "taps": tile["ky"] if vertical else tile["ky"] * p.kx,
        "kernel_positions": tile["ky"] * p.kx,
        "conv_groups": np.ceil(tile["groups"] / c.groups_per_group),
        "worker_rows": tile["batch"] * tile["oy"] * (tile["ox"] if vertical else 1),
    }
    total: np.ndarray = sum(cycles.values())
    return Candidates(cycles, total, temporary, splits.columns, splits.used, dict(sizes, **more))

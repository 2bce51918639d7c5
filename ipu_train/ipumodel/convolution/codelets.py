"""Cycles of the convolution and reduction codelets on one tile, for many splits at once.

Every argument may be a numpy array; results are float64 arrays of tile cycles. The loop structure and its
overheads (a supervisor thread that loads weights and starts six workers, each with a list of rows) are those
of Graphcore's public poplibs code, ``lib/poplin/PerformanceEstimation.hpp``; a worker issues one instruction
every six cycles, hence the factor of six on everything a worker does.
"""

from typing import Callable, List, Tuple, Union

import numpy as np

Numbers = Union[float, np.ndarray]
WORKERS = 6

# Cycles a worker saves on every row after the first because it keeps its state between calls.
_NX1_RETENTION = 6
_FEW_SPLITS = 256  # are not worth a table
_MOST_PAIRS = 1 << 20


def ceil_div(a: Numbers, b: Numbers) -> np.ndarray:
    return np.ceil(np.asarray(a, dtype=np.float64) / b)


def _pieces(rows: np.ndarray, width: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each worker computes of ``rows`` of ``width``: a run of neighbouring positions (poplibs
    ``partitionConvPartialByWorker``).

    Gives [workers, ...]: width of the part of its first row, number of whole rows after it, width of the part of its
    last row; widths are 0 where there is none.
    """
    positions = rows * width
    worker = np.arange(WORKERS, dtype=np.float64).reshape(-1, *[1] * positions.ndim)
    begin = np.floor(worker * positions / WORKERS)
    end = np.floor((worker + 1) * positions / WORKERS)
    first_row, last_row = np.floor(begin / width), np.floor((end - 1) / width)
    several = last_row > first_row
    return (
        np.where(several, (first_row + 1) * width, end) - begin,
        np.where(several, last_row - first_row - 1, 0.0),
        np.where(several, end - last_row * width, 0.0),
    )


def _slowest(rows: Numbers, width: Numbers, row_cycles: Callable[[Numbers], np.ndarray]) -> np.ndarray:
    """Cycles of the worker that takes longest, from those of a part of a row of so many positions.

    Splits have few pairs of rows and width between them; each pair is worked out once.
    """
    rows, width = np.broadcast_arrays(np.asarray(rows, dtype=np.float64), np.asarray(width, dtype=np.float64))
    wide = int(width.max(initial=0)) + 1
    many = (int(rows.max(initial=0)) + 1) * wide
    if rows.size < _FEW_SPLITS or many > _MOST_PAIRS:
        return _slowest_of_each(rows, width, row_cycles)
    pair = (rows * wide + width).astype(np.int64)
    occurs = np.zeros(many, dtype=bool)
    occurs[pair] = True
    pairs = np.flatnonzero(occurs)
    found = np.empty(many)
    found[pairs] = _slowest_of_each(
        (pairs // wide).astype(np.float64), (pairs % wide).astype(np.float64), row_cycles
    )
    return found[pair]


def _slowest_of_each(
    rows: np.ndarray, width: np.ndarray, row_cycles: Callable[[Numbers], np.ndarray]
) -> np.ndarray:
    first, whole, last = _pieces(rows, width)
    cycles = np.where(first > 0, row_cycles(first), 0.0) + whole * row_cycles(width)
    cycles = cycles + np.where(last > 0, row_cycles(last), 0.0)
    return np.maximum(cycles.max(axis=0), 0.0)


def _row_list(rows: Numbers, width: Numbers, row_cycles: Callable[[Numbers], np.ndarray]) -> np.ndarray:
    """Cycles of a worker whose share are whole rows and then parts of rows (poplibs
    ``estimateConvPartialHorizontalMacInnerLoopCycles``).
    """
    rows = np.asarray(rows, dtype=np.float64)
    factor = WORKERS / np.gcd(WORKERS, rows.astype(np.int64))
    longest = ceil_div(rows * factor, WORKERS)
    whole = np.floor(longest / factor)
    parts = longest - whole * factor
    return whole * row_cycles(width) + parts * row_cycles(ceil_div(width, factor))


def _amp_row(width: Numbers, core_cycles: Numbers, first: float) -> np.ndarray:
    """Worker cycles for one row of ``width`` outputs in the convolution unit loop."""
    short = np.where(width < 1, 0.0, np.where(width < 2, first - 5, first - 1))
    return np.where(width < 3, short, first + (width - 3) * core_cycles)


def amp_1x1(
    rows: Numbers,
    width: Numbers,
    conv_groups: Numbers,
    in_groups: Numbers,
    out_groups: Numbers,
    passes: Numbers,
    units: int,
    load_bytes_per_cycle: float,
    half_partials: bool,
) -> np.ndarray:
    """The one-tap codelet: every output position once for each input group; zeroing is part of the first
    pass.
    """
    positions = ceil_div(rows * width, WORKERS)
    core = 2.0 if units == 4 else 4.0
    worker = _amp_row(positions, core, 41.0 if half_partials else 40.0) - (0 if half_partials else 10)
    zeroing = (2 + 2 * positions) if half_partials else -2.0
    loads = units * 32.0 / load_bytes_per_cycle
    inner = WORKERS * worker
    rest = (in_groups - 1) * (16 + out_groups * (19 + passes * (6 + loads + inner)))
    first = 11 + out_groups * (19 + passes * (7 + loads + inner + WORKERS * zeroing))
    retention = 0 if half_partials else WORKERS * (10 + 2 * (in_groups * conv_groups - 1))
    return 50 + retention + conv_groups * (12 + rest + first)


def amp_nx1(
    rows: Numbers,
    width: Numbers,
    kernel_y: Numbers,
    kernel_x: Numbers,
    conv_groups: Numbers,
    in_groups: Numbers,
    out_groups: Numbers,
    passes: Numbers,
    units: int,
    height: int,
    load_bytes_per_cycle: float,
    half_partials: bool,
) -> np.ndarray:
    """The general codelet: ``height`` kernel rows at once, one pass for each other tap."""
    core = 2.0 if units == 4 else 4.0
    worker = 17.0 + (1 if half_partials else 0)
    worker = worker + _slowest(rows, width, lambda n: _amp_row(n, core, 34.0) - _NX1_RETENTION)
    # Four kernel rows at once need their weights shuffled: the wide load cannot be used.
    load = min(load_bytes_per_cycle, 8) if height == 4 else load_bytes_per_cycle
    overhead = {1: 15.0, 2: 46.0, 4: 60.0}[height] + 3 + units * 32.0 / load
    taps = ceil_div(kernel_y, height)
    inner = taps * (14 + kernel_x * (12 + passes * (overhead + WORKERS * worker)))
    zero = zero_partials(rows * width * passes * units, half_partials) * out_groups * conv_groups
    loops = conv_groups * (16 + in_groups * (14 + out_groups * (14 + inner)))
    fixed = 103 + WORKERS * (_NX1_RETENTION + 9) + conv_groups * (out_groups * 23 + 1)
    return fixed + loops + zero


def amp_at_least(
    passes: float, units: int, height: int, load_bytes_per_cycle: float, half_partials: bool, one_tap: bool
) -> Tuple[float, float, float]:
    """A bound from below on ``amp_nx1``, and on ``amp_1x1`` too where ``one_tap`` says that it may run.

    Gives (cycles of each call of the inner loop, of each output position in it, of each row of these beyond the first
    six). The slowest worker has at least the mean number of positions, and the mean number of pieces of rows.
    """
    core = 2.0 if units == 4 else 4.0
    short = 1.0 if units == 4 else 0.0  # rows of one position take less than the loop would
    row = 34.0 - _NX1_RETENTION - 3 * core - short
    load = min(load_bytes_per_cycle, 8) if height == 4 else load_bytes_per_cycle
    call = {1: 15.0, 2: 46.0, 4: 60.0}[height] + 3 + units * 32.0 / load + 12.0 / passes
    call += WORKERS * (17.0 + (1 if half_partials else 0) + row)
    if one_tap:
        single = (41.0 if half_partials else 30.0) - 3 * core - short
        call, row = 6 + units * 32.0 / load_bytes_per_cycle + WORKERS * single, 0.0
    beyond_rounding = 1 - 1e-9
    return call * beyond_rounding, core * beyond_rounding, row * beyond_rounding


def zero_partials(elements: Numbers, half_partials: bool) -> np.ndarray:
    """Setting ``elements`` partials to zero, eight bytes a store."""
    vector = 4 if half_partials else 2
    return WORKERS * (ceil_div(ceil_div(elements, WORKERS), vector) + 5)


def slic(
    rows: Numbers,
    width: Numbers,
    kernel_y: Numbers,
    kernel_x: Numbers,
    conv_group_groups: Numbers,
    stride_x: int,
    units: int,
    half_partials: bool,
    groups_per_group: int,
) -> np.ndarray:
    """The sliding-window codelet: four conv groups (or channels) at once, the kernel row in pieces of four
    taps.
    """
    eight_half = units == 8 and half_partials
    blocks = kernel_y * ceil_div(kernel_x, 4)

    def row(n: Numbers) -> np.ndarray:
        if stride_x == 1:  # two to four positions take other paths than the loop
            cycles = np.where(n < 5, np.where(n < 2, 13.0, 17.0 + n), 10.0 + n)
        else:
            cycles = np.where(n < 3, 11.0 + 2 * n, 9.0 + 2 * n)
        return (
            (cycles - (0 if half_partials else 1)) * (1 if units == 16 else 2)
            + (0 if half_partials else 3)
            + 10
        )

    worker = 17.0 + _slowest(rows, width, row)
    load = 16 + (18 if groups_per_group == 1 else 21 + WORKERS * (12 if groups_per_group == 2 else 10))
    merge = 2 + 2 * rows * width if eight_half else 0.0
    return (
        28
        + conv_group_groups * 21
        + blocks * (load + 25)
        + conv_group_groups * (WORKERS * worker * blocks + merge)
    )


def horizontal_mac(
    rows: Numbers,
    width: Numbers,
    taps: Numbers,
    conv_groups: Numbers,
    in_groups: Numbers,
    out_groups: Numbers,
    in_per_group: int,
    out_per_group: int,
    float_inputs: bool,
) -> np.ndarray:
    """Dot products over input channels, one output at a time: 4 half or 2 float multiplies a cycle."""
    size = float(in_per_group)
    if float_inputs:
        dot = 7 + (size if in_per_group % 2 == 0 else 2 * size)
    else:
        dot = 7 + (size / 4 if in_per_group % 4 == 0 else size)
    each = 7 + out_per_group * dot
    worker = taps * (16 + _row_list(rows, width, lambda n: 19 + n * each)) + 16
    inner = WORKERS * worker
    zero = zero_partials(rows * width * out_per_group, False) * out_groups * conv_groups
    return 63 + 54 + conv_groups * (23 + in_groups * (15 + out_groups * (10 + inner))) + zero


def vertical_mac(
    outputs: Numbers,
    batch: Numbers,
    kernel_y: Numbers,
    kernel_x: Numbers,
    conv_group_groups: Numbers,
    in_groups: Numbers,
) -> np.ndarray:
    """Four conv groups side by side, kernel rows for single outputs (poplibs ``VerticalMac``), as depthwise weights
    passes run; ``outputs`` of one sample.
    """
    lists = kernel_y * _row_list(batch * outputs, kernel_x, lambda n: 15 + 5 + 2 * (n - 1))
    reduce = 10 + (9 + 2 * (WORKERS - 1)) * ceil_div(outputs, WORKERS) / 4
    per_group = 4 + outputs + 32 + in_groups * (24 + WORKERS * (6 + lists)) + reduce
    return 100 + per_group * conv_group_groups


def outer_product(
    width: Numbers, channels: Numbers, channels_per_group: int, float_inputs: bool
) -> np.ndarray:
    """One input channel: every output is one multiply."""
    per_worker = ceil_div(width, WORKERS)
    groups = ceil_div(channels, channels_per_group)
    step = 2 if float_inputs else 4
    return WORKERS * (25 + groups * (11 + per_worker * (6 + channels_per_group / step)))


def reduce_partials(
    outputs: Numbers, depth: Numbers, half_partials: bool, half_outputs: Numbers, one_block: Numbers = False
) -> np.ndarray:
    """Sums ``depth`` partials for each of ``outputs`` on a tile; a cast where the depth is one (poplibs
    ``getReduceCycleEstimate``).

    Args:
        one_block: the partials that come from other tiles lie in one piece, the tile's own beside them.
    """
    outputs, depth = np.asarray(outputs, dtype=np.float64), np.asarray(depth, dtype=np.float64)
    vector = 8 if half_partials else 4
    loops = ceil_div(ceil_div(outputs, vector), WORKERS)
    pieces = WORKERS * (32 + (3 * depth + (8 if half_partials else 6)) * loops)
    block = WORKERS * (20 + (2 * (depth - 1) + (9 if half_partials else 7)) * loops) + 33
    summed = np.where(np.logical_and(one_block, outputs % vector == 0), block, pieces)
    cast = WORKERS * (26 + ceil_div(ceil_div(outputs, WORKERS), 2))
    needs_cast = np.not_equal(half_outputs, half_partials)
    return np.where(depth > 1, summed, np.where(needs_cast, cast, 0.0))


_MOST_STAGES = 3
_known_stages = np.zeros((64, _MOST_STAGES))  # by depth; zeros where nothing has asked


def reduction_stages(depth: Numbers) -> List[np.ndarray]:
    """Partials of one output that each stage of a reduction sums; 1 where there is no such stage."""
    global _known_stages
    depth = np.asarray(depth, dtype=np.int64)
    more = int(depth.max(initial=0)) + 1 - len(_known_stages)
    if more > 0:
        _known_stages = np.concatenate([_known_stages, np.zeros((more, _MOST_STAGES))])
    found = _known_stages[depth]
    unknown = depth[found[..., 0] == 0]
    if unknown.size:
        for one in set(unknown.tolist()):
            _known_stages[one] = _stages(one)
        found = _known_stages[depth]
    return [found[..., i] for i in range(_MOST_STAGES)]


def _stages(depth: int) -> Tuple[int, int, int]:
    number = 3 if depth >= 125 else 2 if depth >= 16 else 1
    found, left = [], depth
    for parts in _parts_left(depth, number)[0]:
        found.append(-(-left // parts))
        left = -(-left // found[-1])
    found.append(left)
    return tuple(found + [1] * (3 - len(found)))  # type: ignore[return-value]


def _parts_left(depth: int, stages: int) -> Tuple[List[int], float]:
    """(partials that are left after each stage but the last, messages a tile hears in all of them): the fewest
    messages, as ``getMultiStageReducePlanAndCost`` of ``ConvReducePlan.cpp``."""
    if stages == 1:
        return [], float(depth)
    least, best = float("inf"), []
    lower = int(depth ** ((stages - 1.0) / stages))
    for parts in (lower + 1, lower):  # the greater of two that are as good
        later, heard = _parts_left(parts, stages - 1)
        if heard + depth / parts < least:
            least, best = heard + depth / parts, [parts, *later]
    return best, least

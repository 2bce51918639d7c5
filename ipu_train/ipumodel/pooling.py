"""Pooling on an IPU: cycles and bytes of a forward and a backward pass.

As in Graphcore's public poplibs code (``lib/popnn/PoolPlan.cpp``): the output is split over channel groups, batch and
field so that the codelet, the exchange of its inputs and their regrouping take the fewest cycles. The codelet's cycles
are those of ``lib/popnn/PerformanceEstimation.hpp``. What a pass costs around them is fitted, see ``constants.py``.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Sequence, Tuple

import numpy as np

from . import constants as k
from .convolution.evaluate import every_split
from .costs import OpCost
from .target import Target

_GROUP = 8
_MOST_GRAINS = 8  # of eight bytes in a channel group (PoolPlan.cpp)
_WORKERS = 6
Pair = Tuple[int, int]


@dataclass(frozen=True)
class Pool:
    """[batch, channels, *field] (elements) into ``out_field``; sizes in y, x order."""

    batch: int
    channels: int
    field: Pair
    kernel: Pair
    stride: Pair
    out_field: Pair
    element_bytes: int = 2
    maximum: bool = True


@dataclass(frozen=True)
class PoolPlan:
    """Channels in a group, tiles in use, and cycles on the busiest one by step."""

    channels_per_group: int
    tiles: int
    compute: float
    exchange: float
    rearrange: float


def codelet_cycles(
    groups: np.ndarray,
    vectors: int,
    rows: np.ndarray,
    width: np.ndarray,
    taps: int,
    stride_x: int,
    gradient: bool,
) -> np.ndarray:
    """Tile cycles of the pooling codelet (``getPoolingCycles``): six workers, each with a run of output positions.

    Args:
        groups: channel groups on the tile, each of ``vectors`` eight-byte vectors.
        rows, width: of the outputs on the tile, batch among the rows.
        gradient: of a maximum, which compares two tensors and reads a third.
    """
    positions = rows * width
    worst = np.zeros_like(positions)
    start, each, first = (23, 5, 7) if gradient else (13, 3, 4)
    item = 23 + groups * (2 + vectors * 3) + (groups - 1) * (6 if gradient else 4)
    for worker in range(_WORKERS):
        begin, end = np.floor(worker * positions / _WORKERS), np.floor((worker + 1) * positions / _WORKERS)
        pieces = np.where(end > begin, np.floor((end - 1) / width) - np.floor(begin / width) + 1, 0)
        inner = pieces * (item + groups * vectors * (first - each))
        inner = inner + np.ceil((end - begin) / stride_x) * groups * vectors * each
        worst = np.maximum(worst, np.where(pieces > 0, start, 1) + 15 * pieces + taps * inner)
    zeroing = 29 + (4 + positions / _WORKERS) * groups
    return 13 + _WORKERS * (worst + zeroing)


@lru_cache(maxsize=1024)
def plan_pool(pool: Pool, gradient: bool, lies_in_groups_of: int, target: Target) -> PoolPlan:
    """The :class:`PoolPlan` of one pass; ``lies_in_groups_of`` channels is how its input lies."""
    grain = 8 // pool.element_bytes
    out = pool.field if gradient else pool.out_field
    stride = (1, 1) if gradient else pool.stride
    stride_x = pool.stride[1] if gradient else 1
    compares = gradient and pool.maximum
    least, best = float("inf"), PoolPlan(grain, 1, 0.0, 0.0, 0.0)
    most = max(1, min(-(-lies_in_groups_of // grain), -(-pool.channels // grain), _MOST_GRAINS))
    for vectors in range(1, most + 1):
        inside = vectors * grain
        sizes = (-(-pool.channels // inside), pool.batch, out[0], out[1])
        columns, used = every_split(sizes, target.tiles)
        groups, batch, oy, ox = (np.ceil(size / column) for size, column in zip(sizes, columns))
        rows, taps = batch * oy, math.prod(pool.kernel)
        window = ((oy - 1) * stride[0] + pool.kernel[0]) * ((ox - 1) * stride[1] + pool.kernel[1])
        # The gradient of a maximum reads the gradient and the maximum under its windows, and its own input.
        read = 2 * window + oy * ox if compares else window
        read = read * batch * groups * inside * pool.element_bytes
        exchange = read / target.exchange_bytes_per_cycle
        rearrange = read / 4 * (inside != lies_in_groups_of)
        compute = codelet_cycles(groups, vectors, rows, ox, taps, stride_x, compares)
        total = compute + exchange + rearrange
        at = int(np.argmin(total))
        if total[at] < least:
            # The planner counts every tap of every row; rows that a stride steps over have no work for some.
            taps = (-(-pool.kernel[0] // pool.stride[0]) if gradient else pool.kernel[0]) * pool.kernel[1]
            one = slice(at, at + 1)
            found = float(
                codelet_cycles(groups[one], vectors, rows[one], ox[one], taps, stride_x, compares)[0]
            )
            least = float(total[at])
            best = PoolPlan(inside, int(used[at]), found, float(exchange[at]), float(rearrange[at]))
    return best


def pool_cost(pool: Pool, passes: Sequence[str], target: Target, lies_in_groups_of: int = _GROUP) -> OpCost:
    """:class:`OpCost` of ``passes`` ("forward", "backward") of a pool."""
    inputs = pool.batch * pool.channels * math.prod(pool.field)
    outputs = pool.batch * pool.channels * math.prod(pool.out_field)
    taps = math.prod(pool.kernel)
    operands = len(passes) * (inputs + outputs) * pool.element_bytes
    windows = math.ceil(outputs / _GROUP / target.tiles) * _GROUP * taps * pool.element_bytes * target.tiles
    forward = plan_pool(pool, False, lies_in_groups_of, target)
    plans = [forward] if "forward" in passes else []
    if "backward" in passes:
        plans.append(plan_pool(pool, True, forward.channels_per_group, target))
    ungrouped = k.POOL_REGROUP_CYCLES if lies_in_groups_of % _GROUP else 0.0
    around = len(passes) * (k.POOL_STEP_CYCLES + ungrouped)
    return OpCost(
        cycles={
            "compute": sum(plan.compute for plan in plans),
            "exchange": sum(plan.exchange for plan in plans) + around / 2,
            "rearrange": sum(plan.rearrange for plan in plans) + around / 2,
            "sync": 0.0,
        },
        temporary_bytes=(k.POOL_TENSOR_SHARE - 1) * operands + k.POOL_WINDOW_SHARE * windows,
        vertex_state_bytes=k.POOL_PROGRAM_BYTES * target.tiles * len(passes) / 2 * 0.5,
        control_code_bytes=k.POOL_PROGRAM_BYTES * target.tiles * len(passes) / 2 * 0.5,
        codelets=frozenset({"pool"}),
        tiles=min(target.tiles, math.ceil(outputs / _GROUP)),
        flops=float(len(passes) * outputs * taps),
    )

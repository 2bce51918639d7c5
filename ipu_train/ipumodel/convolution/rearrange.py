"""What a split has to move and to fill before and after its codelet runs, as poplibs' planner counts it."""

from typing import Any, Dict, NamedTuple, Tuple

import numpy as np

from ..target import Target
from .forms import Codelet
from .params import Problem

_SLIDING_TAPS = 4  # that a sliding window takes of a kernel row at once


def zeros(
    p: Problem, c: Codelet, tile: Dict[str, np.ndarray], split_ky: np.ndarray, target: Target, floats: bool
) -> Tuple[np.ndarray, np.ndarray]:
    """Zeros that the planner counts on a tile, in elements: (of inputs, of weights).

    Convolution units that take several kernel rows at once want as many rows as a multiple of that; a sliding window
    wants as many taps as a multiple of four, and its inputs padded and dilated. As ``applyPadding`` of
    ``ConvModel.cpp``, inputs are counted from the tile's outputs on.
    """
    each = tile["groups"] * tile["ci"]
    if c.method == "amp":
        height = kernel_rows_at_once(c, target, floats)
        if height == 1:
            return _NOTHING
        fewer, more = np.floor(p.ky / split_ky), np.ceil(p.ky / split_ky)
        rows = (height - np.maximum(fewer % height, more % height)) % height
        return each * tile["batch"] * rows * p.kdy * tile["ox"], each * tile["co"] * rows * p.kx
    if c.method != "slic":
        return _NOTHING
    taps = (_SLIDING_TAPS - p.kx % _SLIDING_TAPS) % _SLIDING_TAPS
    around_y = (p.oy - 1) * p.sy + (p.ky - 1) * p.kdy - (p.iy - 1) * p.dy
    around_x = (p.ox - 1) * p.sx + (p.kx - 1) * p.kdx - (p.ix - 1) * p.dx
    high = (tile["oy"] - 1) * p.dy + 1 + max(around_y, 0)
    wide = (tile["ox"] + taps - 1) * p.dx + 1 + max(around_x, 0)
    around = np.maximum(high * wide - tile["oy"] * tile["ox"], 0.0)
    return each * tile["batch"] * around, each * tile["co"] * tile["ky"] * taps


_NOTHING = (np.zeros(()), np.zeros(()))


def kernel_rows_at_once(c: Codelet, target: Target, floats: bool) -> int:
    """Rows of a kernel that convolution units multiply by in one pass, to make up for few input channels."""
    weights_per_unit = target.conv_unit_weight_bytes // (4 if floats else 2)
    units = target.conv_units(floats, not c.half_partials)
    return max(1, weights_per_unit * c.units // units // c.in_per_group)


class Moves(NamedTuple):
    """What moving operands into the planned layout takes (poplibs ``addTransformCycleEstimate``).

    Attributes:
        elements: of the whole operands that move.
        scale: cycles of copying by the shape of a block, of operands and of results; the scale is poplibs' own: 5/4, or
            5/3 when channels are not in fours.
        copy: bytes that a cycle copies, of operands and of results.
        results: whether these move over tiles, too.
    """

    elements: float
    scale: Tuple[float, float]
    copy: Tuple[float, float]
    results: bool


def moves(p: Problem, c: Codelet, target: Target, in_bytes: int) -> Moves:
    """The :class:`Moves` of a form with a codelet; copying results is infinitely fast where they stay as they are."""
    is_weights = p.pass_ == "weights"
    pad_in = p.ci % c.in_per_group != 0
    pad_out = p.co % c.out_per_group != 0
    combined = p.combined > 1
    move_input = is_weights or p.expanded or p.swapped or combined or pad_in
    move_weights = move_input or pad_out
    move_output = (is_weights != p.swapped) or combined or pad_out
    copy_in = float(min(target.memcpy_bytes_per_cycle, in_bytes))
    if move_output:
        copy_out = copy_in
    elif c.out_per_group != 16:
        copy_out = float(min(target.memcpy_bytes_per_cycle, c.out_per_group * 2))
    else:
        copy_out = float("inf")
    scale = 1.25 if (p.ci * p.co) % 4 == 0 else 5.0 / 3.0
    out_scale = 1.25 if p.co % 4 == 0 else 5.0 / 3.0
    whole = _whole(p, move_input, move_weights)
    return Moves(whole, (scale, out_scale), (copy_in, copy_out), move_output)


def transform(
    p: Problem, c: Codelet, target: Target, outputs: np.ndarray, used: np.ndarray, in_bytes: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Cycles and bytes of moving operands into the planned layout, for splits into so many results on so many tiles."""
    found = moves(p, c, target, in_bytes)
    cycles, share, out_bytes = _cycles(found, target, outputs, used, in_bytes)
    return cycles, 2.0 * np.maximum(share, out_bytes if found.results else 0.0)


def _cycles(found: Moves, target: Target, outputs: Any, used: Any, in_bytes: int) -> Tuple[Any, Any, Any]:
    """(cycles, bytes of a tile's share of the operands, of its results); of numbers or arrays."""
    share = found.elements / used * in_bytes
    cycles = share / target.exchange_bytes_per_cycle + share * found.scale[0] / found.copy[0]
    out_bytes = outputs * 2
    if found.results:
        cycles = cycles + out_bytes / target.exchange_bytes_per_cycle
    return cycles + out_bytes * found.scale[1] / found.copy[1], share, out_bytes


class MovingRates(NamedTuple):
    """Cycles of ``transform`` of a form with a codelet: at least, by share of one of the tiles used, by result."""

    least: float
    share: float
    result: float


def moving_rates(p: Problem, c: Codelet, target: Target, in_bytes: int) -> MovingRates:
    """The least is as if all tiles had equal shares."""
    found = moves(p, c, target, in_bytes)
    outputs = float(p.groups) * p.batch * p.co * p.oy * p.ox / target.tiles
    least, _, _ = _cycles(found, target, outputs, float(target.tiles), in_bytes)
    share, _, _ = _cycles(found, target, 0.0, 1.0, in_bytes)
    result, _, _ = _cycles(found, target, 1.0, float("inf"), in_bytes)
    return MovingRates(least, share, result)


def _whole(p: Problem, move_input: bool, move_weights: bool) -> float:
    """Elements of the whole operands, after expansion, that a transform has to write."""
    total = 0.0
    if move_input:
        total += float(p.groups) * p.batch * p.ci * p.iy * p.ix
    if move_weights:
        total += float(p.groups) * p.ci * p.co * p.ky * p.kx
    return total

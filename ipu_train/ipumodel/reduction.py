"""Reductions over tiles: each tile sums what it holds, then partials are gathered and summed in stages.

The stages are those of Graphcore's public poplibs code (``lib/popops/reduction/ReductionPlan.cpp``): straight to the
outputs where few tiles hold partials of one, else through about the square root of their number. Only what a stage
costs beside its bytes is fitted.
"""

import math
from typing import List, Optional

from . import constants as k
from .costs import OpCost
from .target import Target

# poplibs' planner: more stages where more than so many partials of an output are left, outputs in pieces of eight.
_MANY_PARTIALS = 64
_PIECE = 8
_PARTIAL_BYTES = 4
# Load, accumulate and loop for each eight bytes on one of six workers, which take turns.
_CYCLES_PER_VECTOR = 3.0


def gathered(holders: float, tiles: int, all_tiles: int) -> List[int]:
    """Partials of one output that each stage after the tiles' own brings together (``calculateNextStep``).

    Args:
        holders: tiles that hold a partial of the same output.
        tiles: tiles that hold any.
        all_tiles: of the chip.
    """
    left, found = math.ceil(holders), []
    few = left < 2 * math.sqrt(all_tiles) and tiles > all_tiles * 3 / 4
    while left > _MANY_PARTIALS and not few:
        pieces = math.ceil(math.sqrt(left))
        found.append(math.ceil(left / pieces))
        left = pieces
    return found + [left] if left > 1 else found


def reduce_cost(
    inputs: int,
    outputs: int,
    inner: int,
    target: Target,
    element_bytes: int = 2,
    strided: bool = False,
    tiles: Optional[int] = None,
) -> OpCost:
    """:class:`OpCost` of reducing ``inputs`` elements to ``outputs``.

    ``inner`` is how many neighbouring outputs lie together on a tile (they are summed side by side);
    ``strided`` says that more than one dimension, or squares, are summed.
    """
    all_tiles = min(tiles or target.tiles, target.tiles)
    tiles = min(all_tiles, max(1, inputs))
    on_tile = math.ceil(inputs / tiles)
    # Tiles that end up with a partial of the same output.
    holders = max(
        1.0, min(float(tiles), tiles * max(1, min(inner, outputs)) / max(1, outputs), inputs / outputs)
    )
    stages = gathered(holders, tiles, all_tiles)
    columns = max(_PIECE, math.ceil(outputs / all_tiles))
    received = float(sum(stages) * columns * _PARTIAL_BYTES)
    compute = _CYCLES_PER_VECTOR * (
        math.ceil(on_tile * element_bytes / target.load_bytes_per_cycle)
        + received / target.load_bytes_per_cycle
    )
    steps = k.REDUCE_STEP_CYCLES * (1 + len(stages))
    program = (k.REDUCE_PROGRAM_BYTES + (k.REDUCE_STRIDED_BYTES if strided else 0.0)) * target.tiles
    partials = outputs * holders * _PARTIAL_BYTES if holders > 1 else 0.0
    return OpCost(
        cycles={
            "compute": compute,
            "exchange": received / target.exchange_bytes_per_cycle + steps / 2,
            "rearrange": 0.0,
            "sync": steps / 2,
        },
        temporary_bytes=partials,
        vertex_state_bytes=program * 0.4,
        exchange_code_bytes=program * 0.3,
        control_code_bytes=program * 0.3,
        codelets=frozenset({"reduce"}),
        tiles=tiles,
        flops=float(inputs),
    )

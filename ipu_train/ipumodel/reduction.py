"""Reductions over tiles: each tile sums what it holds, then partials are gathered and summed in stages.

Structure of Graphcore's public poplibs code (``lib/popops/reduction``); the step constants are fitted.
"""

import math
from typing import Optional

from . import constants as k
from .costs import OpCost
from .target import Target


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
    tiles = min(tiles or target.tiles, target.tiles, max(1, inputs))
    on_tile = math.ceil(inputs / tiles)
    vectors = math.ceil(on_tile * element_bytes / target.load_bytes_per_cycle)
    # Tiles that end up with a partial of the same output.
    holders = max(
        1.0, min(float(tiles), tiles * max(1, min(inner, outputs)) / max(1, outputs), inputs / outputs)
    )
    compute = k.REDUCE_VECTOR_CYCLES * vectors
    stages = k.REDUCE_STAGE_CYCLES * math.log2(holders) if holders > 1 else 0.0
    step = k.REDUCE_STEP_CYCLES if holders > 1 else k.REDUCE_STEP_CYCLES / 4
    program = (k.REDUCE_PROGRAM_BYTES + (k.REDUCE_STRIDED_BYTES if strided else 0.0)) * target.tiles
    partials = outputs * holders * 4.0 if holders > 1 else 0.0
    return OpCost(
        cycles={
            "compute": compute + stages / 2,
            "exchange": stages / 2 + step / 2,
            "rearrange": 0.0,
            "sync": step / 2,
        },
        temporary_bytes=partials,
        vertex_state_bytes=program * 0.4,
        exchange_code_bytes=program * 0.3,
        control_code_bytes=program * 0.3,
        codelets=frozenset({"reduce"}),
        tiles=tiles,
        flops=float(inputs),
    )

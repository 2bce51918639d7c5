"""Pooling on an IPU: cycles and bytes of a forward and a backward pass.

Channels lie in groups of eight halves; each output group reads its window tap by tap (structure of
Graphcore's public poplibs code, ``lib/popnn/PoolPlan.cpp``). The step constants are fitted, see
``constants.py``.
"""

import math
from typing import Sequence

from . import constants as k
from .costs import OpCost
from .target import Target

_GROUP = 8


def pool_cost(
    batch: int,
    channels: int,
    field: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    out_field: Sequence[int],
    target: Target,
    element_bytes: int = 2,
    passes: int = 1,
    grouped: bool = True,
) -> OpCost:
    """:class:`OpCost` of pooling [batch, channels, *field] (elements) into ``out_field``; ``passes`` 2 in
    training.
    """
    inputs = batch * channels * math.prod(field)
    outputs = batch * channels * math.prod(out_field)
    taps = math.prod(kernel)
    vectors = math.ceil(outputs / _GROUP / target.tiles)
    windows = vectors * _GROUP * taps * element_bytes * target.tiles
    cycles = passes * k.POOL_TAP_CYCLES * vectors * taps * element_bytes / 2
    moving = passes * (k.POOL_STEP_CYCLES + (0 if grouped else k.POOL_REGROUP_CYCLES))
    operands = passes * (inputs + outputs) * element_bytes
    return OpCost(
        cycles={"compute": cycles, "exchange": moving / 2, "rearrange": moving / 2, "sync": 0.0},
        temporary_bytes=(k.POOL_TENSOR_SHARE - 1) * operands + k.POOL_WINDOW_SHARE * windows,
        vertex_state_bytes=k.POOL_PROGRAM_BYTES * target.tiles * passes / 2 * 0.5,
        control_code_bytes=k.POOL_PROGRAM_BYTES * target.tiles * passes / 2 * 0.5,
        codelets=frozenset({"pool"}),
        tiles=min(target.tiles, math.ceil(outputs / _GROUP)),
        flops=float(passes * outputs * taps),
    )

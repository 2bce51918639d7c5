"""Bringing partial sums together over tiles, for many splits at once."""

from typing import Tuple

import numpy as np

from ..target import Target
from . import codelets
from .forms import Codelet


def reduction(
    c: Codelet,
    partials: np.ndarray,
    outputs: np.ndarray,
    depth: np.ndarray,
    target: Target,
    out_half: bool,
    planned: bool = True,
) -> Tuple[np.ndarray, np.ndarray]:
    """Cycles of (bringing partial results together, summing them), or of casting where there is nothing to sum.

    Args:
        planned: as the planner counts: every partial result travels, also where no sum is made of it. In truth a tile
            keeps its own.
    """
    size = 2 if c.half_partials else 4
    element = size / target.exchange_bytes_per_cycle
    left = outputs * depth
    exchange = partials * element if planned else np.zeros_like(partials)
    summing = np.zeros_like(partials)
    stages = codelets.reduction_stages(depth)
    later = [
        stages[1] * stages[2] <= 1,
        stages[2] <= 1,
        np.True_,
    ]  # whether nothing is left to be summed after each
    for i, stage in enumerate(stages):
        if i and not (stage > 1).any():
            break
        if not planned:
            exchange = exchange + np.ceil(left / stage) * (stage - 1) * element
        elif i:
            exchange = exchange + np.where(stage > 1, left * element, 0.0)
        left = np.ceil(left / stage)
        # Partial sums of less than a sixteenth of a tile's memory are placed in one piece (``ConvReducePlan.hpp``).
        received = np.ceil((stage - 1) * left * size / target.memory_element_bytes)
        one_block = received * target.memory_element_bytes < target.bytes_per_tile / 16
        cycles = codelets.reduce_partials(
            left, stage, c.half_partials, np.where(later[i], out_half, c.half_partials), one_block
        )
        summing = summing + (cycles if i == 0 else np.where(stage > 1, cycles, 0.0))
    return exchange, summing

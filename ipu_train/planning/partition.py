"""Cutting a sequence into consecutive parts so that the worst part is as good as can be: exact, for any costs.

Dynamic programming over the cut points: the best worst part of the first j items in k parts follows from the best of
the first i items in k - 1 parts, for every i < j. No assumption on the costs is needed, not even that longer parts cost
more, since the worst part is a maximum over parts that do not know of each other.
"""

from typing import NamedTuple, Optional, Tuple

import numpy as np


class Partition(NamedTuple):
    """``cuts`` are the items at which the second and further parts begin; the worst part's two costs."""

    cuts: Tuple[int, ...]
    cycles: float
    bytes: float


def balance(cycles: np.ndarray, sizes: np.ndarray, capacity: float) -> Optional[Partition]:
    """Least worst cycles among the partitions whose parts all fit; among those, least worst bytes.

    Args:
        cycles, sizes: [parts, items + 1, items + 1]; entry (k, i, j) is what items i to j - 1 cost as part k. Only
            i < j is read: every part has at least one item.
        capacity: bytes of a part.

    Returns:
        None when no partition fits (or there are fewer items than parts).
    """
    fits = sizes <= capacity
    fastest = _least_worst(np.where(fits, cycles, np.inf))
    if fastest is None:
        return None
    limit = _worst(cycles, fastest)
    leanest = _least_worst(np.where(fits & (cycles <= limit), sizes, np.inf))
    cuts = fastest if leanest is None else leanest
    return Partition(cuts, _worst(cycles, cuts), _worst(sizes, cuts))


def leanest(cycles: np.ndarray, sizes: np.ndarray) -> Optional[Partition]:
    """Least worst bytes, then least worst cycles: what comes nearest to fitting."""
    found = balance(sizes, cycles, np.inf)
    return None if found is None else Partition(found.cuts, found.bytes, found.cycles)


def equal_count(items: int, parts: int) -> Optional[Tuple[int, ...]]:
    """Cuts into parts whose numbers of items differ by one at most; None for fewer items than parts."""
    if items < parts:
        return None
    return tuple(part * items // parts for part in range(1, parts))


def _least_worst(costs: np.ndarray) -> Optional[Tuple[int, ...]]:
    parts, items = costs.shape[0], costs.shape[1] - 1
    if items < parts:
        return None
    below = np.tril(np.ones((items + 1, items + 1), dtype=bool))  # empty and backward parts
    worst = np.where(below[0], np.inf, costs[0][0])  # of items 0 to j - 1 in one part
    came_from = []
    for part in range(1, parts):
        options = np.maximum(worst[:, None], np.where(below, np.inf, costs[part]))
        came_from.append(np.argmin(options, axis=0))
        worst = np.min(options, axis=0)
    if not np.isfinite(worst[items]):
        return None
    cuts = []
    end = items
    for choice in reversed(came_from):
        end = int(choice[end])
        cuts.append(end)
    return tuple(reversed(cuts))


def _worst(costs: np.ndarray, cuts: Tuple[int, ...]) -> float:
    bounds = (0, *cuts, costs.shape[1] - 1)
    return float(max(costs[part][bounds[part]][bounds[part + 1]] for part in range(len(bounds) - 1)))

"""The exact partition equals brute force, and is never worse than parts of equal count."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ipu_train.planning.partition import balance, equal_count, leanest


@st.composite
def problems(draw):
    """Arbitrary costs of every part, without any structure: [parts, items + 1, items + 1]."""
    items, parts = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    scale = draw(st.sampled_from([3, 10, 1000]))  # small integers make ties
    random = np.random.default_rng(seed)
    shape = (parts, items + 1, items + 1)
    cycles = random.integers(1, scale, shape).astype(float)
    sizes = random.integers(1, scale, shape).astype(float)
    return cycles, sizes, float(draw(st.integers(0, scale)))


def every_partition(cycles, sizes):
    parts, items = cycles.shape[0], cycles.shape[1] - 1
    for cuts in combinations(range(1, items), parts - 1):
        bounds = (0, *cuts, items)
        spans = [(part, bounds[part], bounds[part + 1]) for part in range(parts)]
        yield cuts, max(cycles[s] for s in spans), max(sizes[s] for s in spans)


@settings(deadline=None, max_examples=300)
@given(problems())
def test_balance_equals_brute_force(problem):
    cycles, sizes, capacity = problem
    fitting = [(c, b) for _, c, b in every_partition(cycles, sizes) if b <= capacity]
    found = balance(cycles, sizes, capacity)
    if not fitting:
        assert found is None
    else:
        assert (found.cycles, found.bytes) == min(fitting)
        assert (found.cuts, found.cycles, found.bytes) in list(every_partition(cycles, sizes))


@settings(deadline=None, max_examples=200)
@given(problems())
def test_leanest_equals_brute_force(problem):
    cycles, sizes, _ = problem
    every = [(b, c) for _, c, b in every_partition(cycles, sizes)]
    found = leanest(cycles, sizes)
    assert (found is None) == (not every)
    if every:
        assert (found.bytes, found.cycles) == min(every)


@settings(deadline=None)
@given(problems())
def test_equal_count_is_never_better(problem):
    cycles, sizes, _ = problem
    parts, items = cycles.shape[0], cycles.shape[1] - 1
    cuts = equal_count(items, parts)
    if cuts is None:
        assert items < parts
        return
    bounds = (0, *cuts, items)
    lengths = [b - a for a, b in zip(bounds, bounds[1:])]
    assert sum(lengths) == items
    assert max(lengths) - min(lengths) <= 1
    worst = max(cycles[part][bounds[part]][bounds[part + 1]] for part in range(parts))
    assert balance(cycles, sizes, np.inf).cycles <= worst

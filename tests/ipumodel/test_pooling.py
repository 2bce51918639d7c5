"""Pools are split and costed as popnn does it; the codelet's cycles are counted position by position here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipu_train.ipumodel.pooling import Pool, codelet_cycles, plan_pool, pool_cost
from ipu_train.ipumodel.target import Target

MK2 = Target.named("mk2")
small = st.integers(1, 12)


def worker_by_worker(groups, vectors, rows, width, taps, gradient):
    """Six workers with neighbouring runs of positions, one piece a row, one item of work a tap."""
    first, each, start = (7, 5, 23) if gradient else (4, 3, 13)
    longest = 0
    for worker in range(6):
        run = range(worker * rows * width // 6, (worker + 1) * rows * width // 6)
        cycles = start if len(run) else 1
        for row in {position // width for position in run}:
            length = sum(position // width == row for position in run)
            cycles += 15
            for _ in range(taps):
                cycles += 23
                for group in range(groups):
                    cycles += 2 + ((6 if gradient else 4) if group else 0)
                    cycles += vectors * (3 + first + each * (length - 1))
        longest = max(longest, cycles)
    return 13 + 6 * (longest + 29 + (4 + rows * width / 6) * groups)


@given(groups=small, vectors=st.sampled_from([1, 2, 4]), rows=small, width=small, gradient=st.booleans())
def test_workers_share_the_positions_of_a_tile(groups, vectors, rows, width, gradient):
    found = codelet_cycles(np.array([groups]), vectors, np.array([rows]), np.array([width]), 9, 1, gradient)
    assert found[0] == pytest.approx(worker_by_worker(groups, vectors, rows, width, 9, gradient))


def test_a_gradient_compares_and_takes_longer():
    pool = Pool(4, 64, (112, 112), (3, 3), (2, 2), (56, 56))
    forward, backward = (pool_cost(pool, [which], MK2).total_cycles for which in ("forward", "backward"))
    assert backward > forward
    assert pool_cost(pool, ["forward", "backward"], MK2).total_cycles == pytest.approx(forward + backward)


def test_half_as_many_tiles_take_longer_and_no_plan_uses_more_than_there_are():
    pool = Pool(1, 192, (35, 35), (3, 3), (1, 1), (35, 35))
    all_tiles = plan_pool(pool, False, 8, MK2)
    fewer = plan_pool(pool, False, 8, Target(**{**vars(MK2), "tiles": MK2.tiles // 2}))
    assert all_tiles.tiles <= MK2.tiles and fewer.tiles <= MK2.tiles // 2
    assert fewer.compute + fewer.exchange > all_tiles.compute + all_tiles.exchange

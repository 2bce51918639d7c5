import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipu_train.ipumodel.convolution import codelets


def per_position(cycles, positions):
    """Cycles that one more output position costs, far from the overheads."""
    return (cycles(2.0 * positions) - cycles(float(positions))) / positions


@pytest.mark.parametrize("half_partials, units", [(False, 8), (True, 16)])
def test_the_convolution_unit_loop_takes_four_cycles_a_position(half_partials, units):
    def cycles(n):
        return float(codelets.amp_1x1(1.0, n, 1.0, 1.0, 1.0, 1.0, units, 8, half_partials))

    # One pass of the units over one group of inputs; zeroing half partials costs two more in the first pass.
    assert per_position(cycles, 6000) == pytest.approx(4 + (2 if half_partials else 0), rel=0.01)


def test_a_kernel_costs_one_pass_for_each_tap():
    def cycles(taps):
        return float(codelets.amp_nx1(6.0, 600.0, taps, 1, 1.0, 1.0, 1.0, 1.0, 8, 1, 8, False))

    assert (cycles(9.0) - cycles(3.0)) / 6 == pytest.approx(6 * 600 * 4, rel=0.05)


@given(rows=st.integers(1, 60), width=st.integers(1, 60))
def test_six_workers_share_the_positions_without_losing_any(rows, width):
    shares = list(zip(*codelets._pieces(np.array([rows], dtype=float), np.array([width], dtype=float))))
    positions = [first[0] + whole[0] * width + last[0] for first, whole, last in shares]
    assert len(positions) == codelets.WORKERS and sum(positions) == rows * width
    assert max(positions) - min(positions) <= 1  # neighbouring runs, as even as can be
    for first, _, last in shares:
        assert 0 <= first[0] <= width and 0 <= last[0] <= width


@given(rows=st.integers(1, 60), width=st.integers(1, 60))
def test_the_slowest_worker_takes_the_most_pieces(rows, width):
    def pieces(worker):
        run = range(worker * rows * width // 6, (worker + 1) * rows * width // 6)
        return len({position // width for position in run})

    found = codelets._slowest(np.array([rows]), np.array([width]), lambda n: np.ones_like(n, dtype=float))
    assert found[0] == max(pieces(worker) for worker in range(6))


@given(outputs=st.integers(1, 5000), depth=st.integers(2, 64))
def test_reducing_more_partials_takes_longer(outputs, depth):
    few = codelets.reduce_partials(np.array([outputs]), np.array([depth]), False, True)
    more = codelets.reduce_partials(np.array([outputs]), np.array([2 * depth]), False, True)
    assert more[0] > few[0]


def test_a_lone_partial_needs_a_cast_only_where_its_width_changes():
    assert codelets.reduce_partials(np.array([64.0]), np.array([1.0]), True, True)[0] == 0
    assert codelets.reduce_partials(np.array([64.0]), np.array([1.0]), False, True)[0] > 0


@given(depth=st.integers(1, 2000))
def test_reduction_stages_cover_the_depth(depth):
    stages = [int(stage[0]) for stage in codelets.reduction_stages(np.array([depth]))]
    assert math.prod(stages) >= depth
    assert sum(stage for stage in stages if stage > 1) <= max(depth, 1)


@pytest.mark.parametrize(
    "depth, stages", [(1, [1, 1, 1]), (15, [15, 1, 1]), (16, [4, 4, 1]), (36, [6, 6, 1]), (125, [5, 5, 5])]
)
def test_deep_reductions_have_two_stages_and_very_deep_ones_three(depth, stages):
    """By hand from ``getNumReduceStages`` of poplibs' ``ConvReducePlan.cpp``: from depths of 16 and of 125 on."""
    assert [stage[0] for stage in codelets.reduction_stages(np.array([depth]))] == stages


def test_partials_in_one_block_take_two_cycles_each_and_pieces_three():
    """``getReduceCycleEstimate``: eight bytes are loaded and added in two cycles, the next pointer takes one more; the
    tile's own partials are set beforehand."""
    outputs, depth = np.array([960.0]), np.array([9.0])  # 40 vectors of four floats for each of six workers
    pieces = codelets.reduce_partials(outputs, depth, False, True, False)
    block = codelets.reduce_partials(outputs, depth, False, True, True)
    assert pieces[0] == 6 * (32 + (3 * 9 + 6) * 40)
    assert block[0] == 6 * (20 + (2 * 8 + 7) * 40) + 33
    # what is no whole number of vectors does not lie in one block
    odd = np.array([961.0])
    assert codelets.reduce_partials(odd, depth, False, True, True) == codelets.reduce_partials(
        odd, depth, False, True, False
    )


def test_many_splits_take_what_each_of_them_takes():
    generator = np.random.default_rng(0)
    rows, width = generator.integers(1, 60, 3000).astype(float), generator.integers(1, 90, 3000).astype(float)

    def row(n):
        return np.where(n < 3, 5.0 * n, 17.0 + 1.5 * n)

    together = codelets._slowest(rows, width, row)
    parts = [codelets._slowest(rows[i : i + 100], width[i : i + 100], row) for i in range(0, 3000, 100)]
    assert (together == np.concatenate(parts)).all()

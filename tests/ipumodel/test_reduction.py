"""Stages of a reduction are those of popops' planner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipu_train.ipumodel.published.layers import _outputs_of_run
from ipu_train.ipumodel.reduction import gathered, reduce_cost
from ipu_train.ipumodel.target import Target

MK2 = Target.named("mk2")


@pytest.mark.parametrize(
    "holders, tiles, of, stages",
    [
        (1, 1472, 1472, []),  # nothing to gather
        (4, 1024, 1024, [4]),
        (64, 1024, 1024, [64]),  # not more than 64 times the outputs is left: straight to them
        (70, 1472, 1472, [70]),  # most tiles hold partials, and few of one output
        (300, 1200, 1200, [17, 18]),  # about the square root
        (70, 100, 1472, [8, 9]),
    ],
)
def test_many_partials_are_gathered_in_stages(holders, tiles, of, stages):
    assert gathered(holders, tiles, of) == stages


@given(holders=st.integers(1, 1472))
def test_no_partial_is_left_out(holders):
    covered = 1
    for depth in gathered(holders, 1472, 1472):
        covered *= depth
    assert covered >= holders


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    reduced=st.sets(st.integers(0, 3), min_size=1, max_size=3),
    data=st.data(),
)
def test_a_run_of_neighbours_from_the_start_belongs_to_so_many_outputs(shape, reduced, data):
    dims = [axis for axis in reduced if axis < len(shape)]
    total = 1
    for size in shape:
        total *= size
    # Whole trailing dimensions, as tensors lie over tiles.
    run = total
    for size in shape[: data.draw(st.integers(0, len(shape)))]:
        run //= size
    touched = set()
    for flat in range(run):
        index, rest = [], flat
        for size in reversed(shape):
            index.append(rest % size)
            rest //= size
        index.reverse()
        touched.add(tuple(i for axis, i in enumerate(index) if axis not in dims))
    assert _outputs_of_run(shape, dims, run) == len(touched)


def test_more_tiles_that_hold_one_output_take_more_stages():
    few = reduce_cost(2**18, 2**11, 8, MK2, tiles=1024)
    many = reduce_cost(2**18, 32, 32, MK2, tiles=1024)
    assert many.total_cycles > few.total_cycles

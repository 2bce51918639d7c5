from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipu_train.ipumodel.convolution.evaluate import Splits, unplanned_cycles
from ipu_train.ipumodel.convolution.forms import PlanOptions, codelets_for, transformed
from ipu_train.ipumodel.convolution.params import PASSES, ConvParams, problem_of
from ipu_train.ipumodel.convolution.plan import SERIAL_SPLITS, plan_pass, plan_problem
from ipu_train.ipumodel.target import Target

MK2 = Target.named("mk2")
TINY = replace(MK2, tiles=16)


@st.composite
def layers(draw):
    """A small square convolution with padding that keeps the field."""
    field, kernel = draw(st.sampled_from([1, 7, 14])), draw(st.sampled_from([1, 3]))
    stride, pad = draw(st.sampled_from([1, 2])), kernel // 2
    return ConvParams(
        batch=draw(st.integers(1, 4)),
        groups=draw(st.sampled_from([1, 1, 4, 16])),
        in_channels=draw(st.sampled_from([1, 3, 16, 40])),
        out_channels=draw(st.sampled_from([1, 8, 20, 64])),
        field=(field, field),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding_lower=(pad, pad),
        padding_upper=(pad, pad),
    )


@settings(max_examples=40)
@given(layer=layers(), pass_=st.sampled_from(PASSES), half=st.booleans())
def test_a_plan_uses_no_more_tiles_than_there_are_and_no_fewer_cycles_than_the_arithmetic_needs(
    layer, pass_, half
):
    plan = plan_pass(layer, pass_, MK2, PlanOptions(half_partials=half))
    assert 1 <= plan.tiles <= MK2.tiles
    problem = problem_of(layer, pass_)
    real = (
        problem.groups
        * problem.batch
        * problem.oy
        * problem.ox
        * problem.ky
        * problem.kx
        * problem.ci
        * problem.co
    )
    real /= problem.dy * problem.dx
    if plan.codelet.method == "amp":
        assert plan.cycles["compute"] * plan.tiles >= 0.9 * real / (plan.codelet.units * 4)


@settings(max_examples=15)
@given(layer=layers(), pass_=st.sampled_from(PASSES))
def test_pruning_the_search_loses_nothing(layer, pass_):
    options = PlanOptions()
    problem = problem_of(layer, pass_)
    best = np.inf
    for form in transformed(problem):
        for codelet in codelets_for(form, TINY, options):
            for serial in SERIAL_SPLITS:
                if form.co % serial:
                    continue
                splits = Splits(form, codelet, TINY, options, serial)
                sizes = splits.sizes()
                small = splits.temporary(sizes) <= TINY.bytes_per_tile * 0.6
                total = np.where(small, sum(splits.cycles(sizes).values()), np.inf)
                best = min(best, float(total.min()))
    found = plan_problem(problem, TINY, options).total_cycles
    # Loops over output channels are only tried where the memory bound costs more than two per cent.
    assert best <= found + 1e-6
    assert found <= 1.021 * best


BIG = ConvParams(16, 1, 256, 256, (56, 56), (3, 3), (1, 1), (1, 1), (1, 1))


@pytest.mark.parametrize("pass_", PASSES)
def test_temporaries_keep_below_the_available_memory_where_they_can(pass_):
    tight = plan_pass(BIG, pass_, MK2, PlanOptions(available_memory_proportion=0.2))
    loose = plan_pass(BIG, pass_, MK2, PlanOptions(available_memory_proportion=1.0))
    assert tight.temporary_bytes <= 0.2 * MK2.bytes_per_tile
    assert tight.total_cycles >= loose.total_cycles


def test_an_impossible_proportion_is_soft():
    """Nothing keeps to it: it is doubled until something does, which is then within twice the least that can be."""
    none, little = (
        plan_pass(BIG, "forward", MK2, PlanOptions(available_memory_proportion=share))
        for share in (0.0, 0.05)
    )
    assert 0 < none.temporary_bytes <= 2 * little.temporary_bytes


def test_half_partials_nearly_double_a_large_convolution_on_mk2_and_not_on_mk1():
    def cycles(target, half):
        return plan_pass(BIG, "forward", target, PlanOptions(half_partials=half)).cycles["compute"]

    assert cycles(MK2, False) / cycles(MK2, True) > 1.6
    mk1 = Target.named("mk1")
    assert cycles(mk1, False) / cycles(mk1, True) < 1.2


def test_a_depthwise_convolution_does_not_run_channel_by_channel_on_the_convolution_units():
    depthwise = ConvParams(4, 512, 1, 1, (14, 14), (3, 3), (1, 1), (1, 1), (1, 1))
    assert plan_pass(depthwise, "forward", MK2).codelet.method == "slic"
    without = plan_pass(depthwise, "forward", MK2, PlanOptions(slic=False))
    assert without.total_cycles > plan_pass(depthwise, "forward", MK2).total_cycles


def test_gaps_between_dilated_rows_are_multiplied_where_several_kernel_rows_are_taken_at_once():
    strided = ConvParams(4, 128, 1, 1, (56, 56), (3, 3), (2, 2), (1, 1), (0, 0))
    plan = plan_pass(strided, "backward", MK2)
    arguments = (plan.splits, plan.serial, MK2, PlanOptions())
    assert plan.codelet.method == "amp" and plan.problem.combined == plan.codelet.in_per_group == 8
    # Twice the rows in the codelet's loop over positions, not in loading weights.
    # The planner lets partial sums travel which stay, for nothing is summed over tiles here.
    stay = plan.cycles["reduce_exchange"]
    more = unplanned_cycles(plan.problem, plan.codelet, *arguments) + stay
    assert 0.2 * plan.cycles["compute"] < more < plan.cycles["compute"]
    sixteen = replace(plan.codelet, in_per_group=16)  # one row at once: gaps are stepped over
    assert unplanned_cycles(plan.problem, sixteen, *arguments) == -stay


def test_few_input_channels_and_one_tap_are_written_as_half():
    """Sixteen channels of one tap are summed in one pass over the input: no wide partial results are needed."""
    narrow = ConvParams(4, 1, 16, 64, (56, 56), (1, 1))
    assert plan_pass(narrow, "forward", MK2).codelet.half_partials
    assert not plan_pass(replace(narrow, in_channels=32), "forward", MK2).codelet.half_partials


def test_tiles_get_pairs_of_neighbours_where_one_channel_is_computed_at_a_time():
    """poplibs' field grain of two: an odd number of results on a tile would be costly to rearrange."""
    problem = problem_of(ConvParams(4, 512, 1, 1, (14, 14), (3, 3), (1, 1), (1, 1), (1, 1)), "forward")
    codelets = {c.method: c for c in codelets_for(problem, MK2, PlanOptions())}
    assert (Splits(problem, codelets["slic"], MK2, PlanOptions()).tile["ox"] % 2 == 0).all()
    assert (Splits(problem, codelets["amp"], MK2, PlanOptions()).tile["ox"] % 2 == 1).any()

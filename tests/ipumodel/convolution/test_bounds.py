"""What spares the search time changes no plan: bounds from below, and plans of looser bounds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipu_train.ipumodel.convolution import plan as plans
from ipu_train.ipumodel.convolution.evaluate import Splits, _least_compute
from ipu_train.ipumodel.convolution.forms import PlanOptions, codelets_for, transformed
from ipu_train.ipumodel.convolution.params import PASSES, ConvParams, problem_of
from ipu_train.ipumodel.target import Target

TARGET = Target.named("mk2")
SHARES = (0.6, 0.1, 0.02)

layers = st.builds(
    ConvParams,
    batch=st.integers(1, 9),
    groups=st.sampled_from([1, 1, 2, 8]),
    in_channels=st.sampled_from([1, 3, 16, 24, 64, 130]),
    out_channels=st.sampled_from([1, 4, 16, 40, 96]),
    field=st.tuples(st.integers(7, 30), st.integers(7, 30)),
    kernel=st.sampled_from([(1, 1), (3, 3), (7, 7), (1, 3)]),
    stride=st.sampled_from([(1, 1), (2, 2)]),
    padding_lower=st.sampled_from([(0, 0), (1, 1)]),
    padding_upper=st.just((0, 0)),
)
options = st.builds(PlanOptions, half_partials=st.booleans(), float_inputs=st.booleans())


@settings(max_examples=12)
@given(layers, st.sampled_from(PASSES), options)
def test_the_bound_on_cycles_is_below_the_cycles_of_every_split(layer, pass_, chosen):
    problem = plans.canonical(problem_of(layer, pass_))
    seen = 0
    for form in transformed(problem):
        for codelet in codelets_for(form, TARGET, chosen):
            splits = Splits(form, codelet, TARGET, chosen)
            least = _least_compute(form, codelet, splits.tile, TARGET, chosen)
            if least is not None:
                seen += 1
                assert (least <= splits.compute).all()
                limit = float(np.median(splits.compute))
                within = Splits(form, codelet, TARGET, chosen).within(limit)
                assert np.array_equal(within.compute, splits.compute[splits.compute <= limit])
    assert seen


@settings(max_examples=8)
@given(layers, st.sampled_from(PASSES), options)
def test_plans_within_tighter_bounds_are_those_that_a_search_finds(layer, pass_, chosen):
    problem = plans.canonical(problem_of(layer, pass_))
    asked = [replace(chosen, available_memory_proportion=share) for share in SHARES]
    plans._of_looser_bounds.clear()
    expected = []
    for one in asked:
        expected.append(plans.plan_problem(problem, TARGET, one))
        assert not plans._of_looser_bounds
    for one, plan in zip(asked, expected):
        found = plans.plan_problem(problem, TARGET, one)
        assert replace(found, least_bound=0.0) == replace(plan, least_bound=0.0)
        plans._remember(problem, TARGET, one, found)


def test_most_plans_are_taken_over(monkeypatch):
    problem = plans.canonical(problem_of(ConvParams(4, 1, 64, 64, (56, 56), (1, 1)), "forward"))
    plans._of_looser_bounds.clear()
    loose = PlanOptions()
    plan = plans.plan_problem(problem, TARGET, loose)
    plans._remember(problem, TARGET, loose, plan)
    monkeypatch.setattr(plans._Search, "within", lambda *_: pytest.fail("searched again"))
    assert plans.plan_problem(problem, TARGET, replace(loose, available_memory_proportion=0.2)) is plan

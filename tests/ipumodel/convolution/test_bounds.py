"""What spares the search time changes no plan: bounds from below, and plans of looser bounds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipu_train.ipumodel.convolution import plan as plans
from ipu_train.ipumodel.convolution.evaluate import Splits, evaluate
from ipu_train.ipumodel.convolution.forms import PlanOptions
from ipu_train.ipumodel.convolution.params import PASSES, ConvParams, problem_of
from ipu_train.ipumodel.convolution.shortlist import Shortlist
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
@given(layers, st.sampled_from(PASSES), options, st.sampled_from([1, 2, 4]))
def test_the_short_list_has_every_split_that_is_fast_enough(layer, pass_, chosen, serial):
    problem = plans.canonical(problem_of(layer, pass_))
    search = plans._Search(problem, TARGET, chosen)
    pairs = [pair for pair in search.pairs if pair.codelet.method == "amp" and pair.form.co % serial == 0]
    if not pairs:
        return
    every = [Splits(pair.form, pair.codelet, TARGET, chosen, serial) for pair in pairs]
    costs = [evaluate(splits, splits.sizes(), splits.temporary(splits.sizes())) for splits in every]
    limit = float(np.quantile(np.concatenate([cost.total for cost in costs]), 0.2))
    short = Shortlist(pairs, TARGET, chosen, serial).within(limit)
    for index, (pair, splits, cost) in enumerate(zip(pairs, every, costs)):
        here = np.flatnonzero(short.pair == index)
        rows = np.stack(short.columns, axis=1)[here]
        # in the order of all splits: equally good ones are told apart by it
        where = {tuple(row): i for i, row in enumerate(np.stack(splits.columns, axis=1))}
        at = [where[tuple(row)] for row in rows]
        assert at == sorted(at)
        assert set(np.flatnonzero(cost.total <= limit)) <= set(at)
        assert (short.cycles[here] <= cost.total[at]).all()
        assert (short.temporary[here] <= cost.temporary[at]).all()
        fast = Splits.within(pair.form, pair.codelet, TARGET, chosen, serial, limit)
        compute = splits.compute[splits.compute <= limit]
        assert np.array_equal(compute, [] if fast is None else fast.compute)


@settings(max_examples=8)
@given(layers, st.sampled_from(PASSES), options, st.sampled_from(SHARES))
def test_a_search_finds_what_trying_all_splits_finds(layer, pass_, chosen, share):
    """Of equally fast plans the one with fewest temporary bytes, of these the first form and split."""
    problem = plans.canonical(problem_of(layer, pass_))
    search = plans._Search(problem, TARGET, chosen)
    bound = share * TARGET.bytes_per_tile
    best = None
    for pair in search.pairs:
        splits = Splits(pair.form, pair.codelet, TARGET, chosen)
        costs = evaluate(splits, splits.sizes(), splits.temporary(splits.sizes()))
        for at in np.flatnonzero(costs.temporary <= bound):
            key = (costs.total[at], int(costs.temporary[at]))
            if best is None or key < best[0]:
                best = key, pair, tuple(int(column[at]) for column in costs.splits)
    found, fewest = search._whole(bound)
    assert (found is None) == (best is None)
    if best is not None:
        assert (found.cycles, found.temporary) == best[0]
        assert search.pairs[found.pair] == best[1]
        assert tuple(int(column[found.at]) for column in found.found.splits) == best[2]
        assert fewest <= found.cycles


@settings(max_examples=8)
@given(layers, st.sampled_from(PASSES), options)
def test_plans_within_tighter_bounds_are_those_that_a_search_finds(layer, pass_, chosen):
    problem = plans.canonical(problem_of(layer, pass_))
    asked = [replace(chosen, available_memory_proportion=share) for share in SHARES]
    plans._of_looser_bounds.clear()
    plans._smallest.clear()
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
    plans._smallest.clear()
    loose = PlanOptions()
    plan = plans.plan_problem(problem, TARGET, loose)
    plans._remember(problem, TARGET, loose, plan)
    monkeypatch.setattr(plans._Search, "within", lambda *_: pytest.fail("searched again"))
    assert plans.plan_problem(problem, TARGET, replace(loose, available_memory_proportion=0.2)) is plan

"""Recipes resolve to what is recorded: nobody changes a value of a training without seeing it."""

import pytest

from ipu_train import config

from .recorded import recorded, resolved

RECORDED = recorded()
UPDATE = "if this is meant: python -m tests.configs.recorded"


def test_every_recipe_is_recorded():
    assert sorted(RECORDED) == config.builtin_names(), UPDATE


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_it_resolves_to_the_recorded_values(name):
    found, expected = resolved(config.load(name)), RECORDED[name]
    changed = {key: (expected.get(key), found.get(key)) for key in {*found, *expected}}
    assert {key: pair for key, pair in changed.items() if pair[0] != pair[1]} == {}, UPDATE

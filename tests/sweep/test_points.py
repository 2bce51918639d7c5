"""Points of a sweep: the arithmetic of the global batch, norms with what belongs to them, settings."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipu_train import config
from ipu_train.sweep.errors import SweepError
from ipu_train.sweep.points import (
    at_micro_batch,
    change_norm,
    grid,
    norm_of,
    parse_settings,
    points,
)

TEXT = """
model: {name: resnet8, norm: group, norm_groups: 4, proxy_norm_eps: 0.1}
data: {name: cifar10}
training: {micro_batch_size: 8, gradient_accumulation: 4, replicas: 2}
"""
BASE = config.load_text(TEXT, Path("base.yaml"))


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 40), replicas=st.integers(1, 4), whole=st.integers(1, 400))
def test_the_global_batch_is_kept_exactly_where_it_can_be(size, replicas, whole):
    base = BASE.changed([f"training.replicas={replicas}"])
    resolved, note = at_micro_batch(base, size, whole)
    training = resolved.config.training
    assert (training.micro_batch_size, training.replicas) == (size, replicas)
    made = training.micro_batch_size * training.gradient_accumulation * training.replicas
    possible = whole % (size * replicas) == 0
    assert (made == whole) == possible
    assert bool(note) == (not possible)
    # nothing nearer can be made
    others = [size * replicas * n for n in range(1, whole // (size * replicas) + 3)]
    assert abs(made - whole) == min(abs(other - whole) for other in others)


def test_points_are_the_product_in_order():
    sweep = grid(BASE, ["batch", "group+pn"], [2, 4], parse_settings(["device.partials=half,float"]))
    found = [(p.settings["device.partials"], p.norm, p.micro_batch_size) for p in points(sweep)[0]]
    assert found == [(s, n, m) for s in ("half", "float") for n in ("batch", "group+pn") for m in (2, 4)]
    for point in points(sweep)[0]:
        assert point.resolved.config.device.partials == point.settings["device.partials"]
        assert norm_of(point.resolved) == point.norm
        assert point.resolved.config.global_batch_size == 64


def test_a_setting_that_changes_replicas_leaves_the_global_batch():
    sweep = grid(BASE, ["group"], [4], parse_settings(["training.replicas=1,2,4"]))
    assert {p.resolved.config.global_batch_size for p in points(sweep)[0]} == {64}


@pytest.mark.parametrize(
    "norm", ["batch", "layer", "layer+pn", "instance", "none", "frn", "group", "batch+pn"]
)
def test_a_norm_takes_with_it_what_only_it_reads(norm):
    model = change_norm(BASE, norm).config.model
    assert model.norm == norm.partition("+")[0]
    assert model.proxy_norm == norm.endswith("+pn")
    assert model.norm_groups == (4 if model.norm == "group" else None)
    assert model.proxy_norm_eps == (0.1 if model.proxy_norm else 0.03)


def test_the_own_norm_is_left_as_it_is():
    assert norm_of(BASE) == "group+pn"
    assert change_norm(BASE, "group+pn") is BASE


def test_proxy_norm_needs_a_norm():
    with pytest.raises(config.ConfigError, match="needs a norm"):
        change_norm(BASE, "none+pn")


def test_defaults_are_powers_of_two_that_the_global_batch_holds():
    assert grid(BASE).micro_batch_sizes == [1, 2, 4, 8, 16, 32]
    assert grid(BASE, global_batch_size=16).micro_batch_sizes == [1, 2, 4, 8]
    assert grid(BASE).norms == ["batch", "group", "group+pn"]


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: grid(BASE, ["grup"]), "did you mean group"),
        (lambda: grid(BASE, None, [0, 1]), "at least 1"),
        (lambda: grid(BASE, None, None, (), -3), "--global-batch-size"),
        (lambda: grid(BASE, settings=parse_settings(["model.norm=batch,layer"])), "use --norms"),
        (lambda: parse_settings(["device.partials"]), "is not of the form"),
        (lambda: parse_settings(["device.partials=half,"]), "is not of the form"),
        (lambda: parse_settings(["a.b=1", "a.b=2"]), "given twice"),
        (lambda: points(grid(BASE, ["batch"], [3, 5])), "can make a global batch of 64"),
    ],
)
def test_bad_input_is_said(call, said):
    with pytest.raises(SweepError, match=said):
        call()


def test_commas_in_brackets_do_not_separate():
    assert parse_settings(["device.pipeline_splits=[a,b],[c]"])[0].values == ("[a,b]", "[c]")


def test_a_micro_batch_that_the_configuration_refuses_is_left_out_with_its_reason():
    base = BASE.changed(["training.mixup_alpha=0.2"])
    found, left_out = points(grid(base, ["group", "layer"], [1, 2]))
    assert [(p.norm, p.micro_batch_size) for p in found] == [("group", 2), ("layer", 2)]
    (reason,) = left_out
    assert reason.startswith("micro-batch 1: training.mixup_alpha")
    with pytest.raises(config.ConfigError, match="mixup_alpha"):
        points(grid(base, ["group"], [1]))

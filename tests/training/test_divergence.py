"""A run that comes to NaN: it stops, leaves updates out, or goes back; NaN is never saved."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ipu_train import config, trainer
from ipu_train.training import checkpoint
from ipu_train.training.divergence import Diverged

from .test_training_run import RECIPE, by_hand, lines, without_speed

MORE = ["training.epochs=1", "checkpoint.every_steps=2", "checkpoint.keep=9"]


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def run(recipe, folder, *overrides, resume=False):
    return trainer.train(config.load(recipe, [*MORE, *overrides, f"run_dir={folder}"]), resume=resume)


@pytest.fixture()
def poisoned(monkeypatch):
    """What an overflow does in chosen calls: weights that are not finite, and with "loss" a loss that is not."""
    calls = []
    original = trainer._call

    def call(run, batch, rate):
        calls.append(len(calls) + 1)
        if calls[-1] in poison:
            with torch.no_grad():
                result = original(run, batch, rate)
                run.training_model.copyWeightsToHost()
                next(run.network.parameters()).fill_(float("nan"))
                run.training_model.copyWeightsToDevice()
            return result[0] * float("nan") if poison[calls[-1]] == "loss" else result[0], result[1]
        return original(run, batch, rate)

    poison = {}
    monkeypatch.setattr(trainer, "_call", call)
    return poison


def tensors(folder):
    newest = checkpoint.newest(folder / "checkpoints")
    return load_file(str(newest / "weights.safetensors")), json.loads((newest / "state.json").read_text())


def assert_all_finite(folder):
    for path in checkpoint.list_checkpoints(folder / "checkpoints"):
        for name, value in load_file(str(path / "weights.safetensors")).items():
            assert value.isfinite().all(), (path.name, name)


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_it_stops_with_its_own_status_and_keeps_the_last_good_checkpoint(recipe, tmp_path, poisoned, what):
    poisoned.update({6: what})
    with pytest.raises(
        Diverged, match=r"not finite at step 6.*last good checkpoint is .*step_00000004"
    ) as raised:
        run(recipe, tmp_path / "run")
    assert raised.value.exit_status == 4
    assert_all_finite(tmp_path / "run")
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")] == [
        "step_00000002",
        "step_00000004",
    ]
    assert lines(tmp_path / "run")[-1]["loss"] is None


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_skip_leaves_the_update_out_and_counts_it(recipe, tmp_path, poisoned, what):
    """A run whose third update is left out: momentum and weights after it are those after the second."""
    states = {}
    original = trainer.Keeper.accepts

    def accepts(self, loss, position):
        good = original(self, loss, position)
        states[position.step] = self._capture(position)
        return good

    trainer.Keeper.accepts = accepts
    try:
        poisoned.update({3: what})
        run(recipe, tmp_path / "run", "training.on_divergence=skip")
    finally:
        trainer.Keeper.accepts = original
    for part in ("weights", "optimizer"):
        before, after = getattr(states[2], part), getattr(states[3], part)
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert any(not torch.equal(after[name], getattr(states[4], part)[name]) for name in after)
    assert_all_finite(tmp_path / "run")
    assert [line.get("undone_updates", 0) for line in lines(tmp_path / "run")[:6]] == [0, 0, 1, 0, 0, 0]
    assert tensors(tmp_path / "run")[1]["undone"] == {"in_a_row": 0, "total": 1}


def test_what_is_left_out_after_an_epoch_leaves_its_average_in(recipe, tmp_path, poisoned):
    """The first update of the second epoch is left out: the average of the first epoch's weights is still there."""
    more = ["training.epochs=2", "training.on_divergence=skip", "averaging.name=mean"]
    poisoned.update({7: "loss"})
    run(recipe, tmp_path / "run", *more)
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert int(load_file(str(newest / "optimizer.safetensors"))["average/count"]) == 2


def test_skipping_for_ever_is_no_training(recipe, tmp_path, poisoned):
    poisoned.update(dict.fromkeys(range(3, 20), "loss"))
    with pytest.raises(Diverged, match="skipped 2 times in a row"):
        run(recipe, tmp_path / "run", "training.on_divergence=skip", "training.divergence_limit=2")


def test_rollback_returns_to_the_checkpoint_and_goes_on_behind_these_images(
    recipe, tmp_path, poisoned, capsys
):
    poisoned.update({4: "loss"})
    run(recipe, tmp_path / "run", "training.on_divergence=rollback")
    assert "back to the weights of step_00000002" in capsys.readouterr().err
    assert_all_finite(tmp_path / "run")
    assert tensors(tmp_path / "run")[1]["step"] == 6
    steps = [line["step"] for line in lines(tmp_path / "run") if line["split"] == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]
    _, expected = by_hand(
        recipe, epochs=1, left_out=(3, 4)
    )  # the images of the third and fourth update are passed
    for name, value in tensors(tmp_path / "run")[0].items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5)


def test_rollback_without_a_checkpoint_stops(recipe, tmp_path, poisoned):
    poisoned.update({1: "loss"})
    with pytest.raises(Diverged, match="There is no checkpoint from before"):
        run(recipe, tmp_path / "run", "training.on_divergence=rollback")


def test_skip_changes_nothing_in_a_run_that_does_not_diverge(recipe, tmp_path):
    run(recipe, tmp_path / "stop")
    run(recipe, tmp_path / "skip", "training.on_divergence=skip")
    expected, found = tensors(tmp_path / "stop")[0], tensors(tmp_path / "skip")[0]
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert without_speed(lines(tmp_path / "stop")) == without_speed(lines(tmp_path / "skip"))


# -- float16 that overflows by itself: gradients times the loss scaling exceed 65504 ------------------------------

HALF = ("training.precision=16.16", "optimizer.loss_scaling=16777216", "schedule.warmup_epochs=0")
LOWERED = (
    "optimizer.loss_scaling_epochs=[0.5]",
    "optimizer.loss_scaling_factor=9.5367431640625e-07",
)  # 2^-20


def undone(folder):
    return [line.get("undone_updates", 0) for line in lines(folder) if line["split"] == "train"]


def initial_weights(recipe, tmp_path):
    """Those of a run whose learning rate is nothing."""
    run(recipe, tmp_path / "initial", "optimizer.learning_rate=1e-30", "optimizer.weight_decay=0", HALF[0])
    return tensors(tmp_path / "initial")[0]


def test_an_overflow_of_half_stops_the_run_before_anything_of_it_is_saved(recipe, tmp_path):
    with pytest.raises(Diverged, match="There is no checkpoint from before") as raised:
        run(recipe, tmp_path / "run", *HALF)
    assert raised.value.exit_status == 4
    assert checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints") == []


def test_skip_waits_for_a_loss_scaling_that_does_not_overflow(recipe, tmp_path):
    """Three updates at a scaling of 2^24 leave no trace, three at 16 train; the count is in the metrics."""
    at_three = []
    original = trainer.Keeper.accepts

    def accepts(self, loss, position):
        good = original(self, loss, position)
        if position.step == 3:
            at_three.append(self._capture(position).weights)
        return good

    trainer.Keeper.accepts = accepts
    try:
        run(recipe, tmp_path / "run", *HALF, *LOWERED, "training.on_divergence=skip")
    finally:
        trainer.Keeper.accepts = original
    before = initial_weights(recipe, tmp_path)
    assert all(torch.equal(at_three[0][name], before[name]) for name in before)
    assert undone(tmp_path / "run") == [1, 1, 1, 0, 0, 0]
    weights, state = tensors(tmp_path / "run")
    assert state["undone"] == {"in_a_row": 0, "total": 3}
    assert any(not torch.equal(weights[name], before[name]) for name in before)
    assert_all_finite(tmp_path / "run")


def test_skip_is_limited_where_every_update_overflows(recipe, tmp_path):
    with pytest.raises(Diverged, match="skipped 2 times in a row"):
        run(recipe, tmp_path / "run", *HALF, "training.on_divergence=skip", "training.divergence_limit=2")
    assert_all_finite(tmp_path / "run")


def test_skip_goes_on_exactly_after_a_stop_between_two_overflows(recipe, tmp_path):
    settings = [*HALF, *LOWERED, "training.on_divergence=skip", "checkpoint.every_steps=1"]
    run(recipe, tmp_path / "whole", *settings)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    for path in checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")[2:]:
        shutil.rmtree(path)
    run(recipe, tmp_path / "run", *settings, resume=True)
    expected, found = tensors(tmp_path / "whole"), tensors(tmp_path / "run")
    assert all(torch.equal(expected[0][name], found[0][name]) for name in expected[0])
    assert found[1]["undone"] == expected[1]["undone"] == {"in_a_row": 0, "total": 3}
    assert without_speed(lines(tmp_path / "whole")) == without_speed(lines(tmp_path / "run"))


def test_automatic_loss_scaling_comes_down_through_skipped_updates(recipe, tmp_path):
    """The device halves its scaling at each overflow, and what it has learned is not undone with the update."""
    run(
        recipe,
        tmp_path / "run",
        *HALF[::2],
        "optimizer.loss_scaling=262144",
        "optimizer.automatic_loss_scaling=true",
        "training.on_divergence=skip",
        "training.epochs=3",
    )
    counts = undone(tmp_path / "run")
    assert counts[0] == 1 and counts[-1] == 0
    assert_all_finite(tmp_path / "run")


def test_rollback_ends_where_going_back_does_not_help(recipe, tmp_path, capsys):
    """The scaling rises for good after three updates: each way back leads to the same overflow."""
    raised = ("optimizer.loss_scaling_epochs=[0.5]", "optimizer.loss_scaling_factor=16777216")
    with pytest.raises(Diverged, match="rolled back 2 times in a row"):
        run(
            recipe,
            tmp_path / "run",
            HALF[0],
            *raised,
            "training.epochs=3",
            "training.on_divergence=rollback",
            "training.divergence_limit=2",
        )
    assert "back to the weights of step_00000002" in capsys.readouterr().err
    assert_all_finite(tmp_path / "run")

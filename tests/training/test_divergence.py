"""A run that comes to NaN: it stops, leaves updates out, or goes back; NaN is never saved."""

import json

import pytest
import torch
from safetensors.torch import load_file

from ipu_train import config, trainer
from ipu_train.training import checkpoint
from ipu_train.training.divergence import Diverged

from .test_training_run import RECIPE, lines, without_speed

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
    """Makes the images of chosen calls NaN on their way to the loss: loss and gradients of these calls are NaN."""
    calls = []
    original = trainer._call

    def call(run, batch, rate):
        calls.append(len(calls) + 1)
        if calls[-1] in poison:
            with torch.no_grad():  # what an overflow does: the device's weights are not finite after the call
                result = original(run, batch, rate)
                run.training_model.copyWeightsToHost()
                next(run.network.parameters()).fill_(float("nan"))
                run.training_model.copyWeightsToDevice()
            return result[0] * float("nan") if poison[calls[-1]] == "loss" else result[0], result[1]
        return original(run, batch, rate)

    poison = {}
    monkeypatch.setattr(trainer, "_call", call)
    poison_calls = poison.update
    poison_calls({})
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

"""Taking a run up again: from what, in which folder, and what is said about it."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from ipu_train import config, trainer
from ipu_train.training import checkpoint, run_folder

from .test_training_run import RECIPE, final_weights, lines, run, without_speed

MORE = ("training.epochs=1", "checkpoint.every_steps=2", "checkpoint.keep=9", "schedule.name=constant")


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.replace(", warmup_epochs: 1", ""))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.replace(", warmup_epochs: 1", ""))
    run(recipe, folder / "run", *MORE)
    return folder / "run"


@pytest.fixture()
def finished(trained, tmp_path):
    """A run of its own for each test: three checkpoints, steps 2, 4 and 6."""
    return shutil.copytree(trained, tmp_path / "run")


def checkpoints(folder):
    return [path.name for path in checkpoint.list_checkpoints(folder / "checkpoints")]


def assert_same_run(folder, other):
    assert without_speed(lines(folder)) == without_speed(lines(other))
    expected, found = final_weights(folder), final_weights(other)
    assert all(expected[name].equal(found[name]) for name in expected)


@pytest.mark.parametrize("damage", ["weights.safetensors", "SHA256SUMS"])
def test_the_newest_sound_checkpoint_is_taken_and_the_others_are_named(
    recipe, finished, tmp_path, capsys, damage
):
    expected = shutil.copytree(finished, tmp_path / "expected")
    for name in ("step_00000004", "step_00000006"):
        path = finished / "checkpoints" / name / damage
        path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    run(recipe, finished, *MORE, resume=True)
    said = capsys.readouterr().err
    assert "Resumed at step 2: exact" in said
    for name in ("step_00000004", "step_00000006"):
        assert f"{name}: {damage} is damaged" in said
    assert_same_run(expected, finished)
    assert checkpoints(finished) == ["step_00000002", "step_00000004", "step_00000006"]


def test_when_all_are_damaged_nothing_begins_and_each_is_named(recipe, finished):
    before = lines(finished)
    for path in (finished / "checkpoints").glob("*/state.json"):
        path.write_text("{}")
    for resume in (True, "auto"):
        with pytest.raises(
            checkpoint.CheckpointError, match=r"(?s)No checkpoint.*step_00000006.*step_00000002"
        ):
            run(recipe, finished, *MORE, resume=resume)
    assert lines(finished) == before


@pytest.mark.parametrize(
    "change, message",
    [
        ("training.seed=4", r"another configuration: training\.seed: 4 -> 3"),
        ("optimizer.name=adam", "another configuration: optimizer"),
    ],
)
def test_a_checkpoint_of_another_run_is_not_taken(recipe, finished, tmp_path, capsys, change, message):
    more = [] if "adam" not in change else ["optimizer.momentum=null"]
    run(recipe, tmp_path / "other", *MORE, change, *more)
    shutil.rmtree(finished / "checkpoints" / "step_00000006")
    shutil.copytree(
        tmp_path / "other" / "checkpoints" / "step_00000006", finished / "checkpoints" / "step_00000006"
    )
    capsys.readouterr()
    run(recipe, finished, *MORE, resume=True)
    said = capsys.readouterr().err
    assert "Resumed at step 4: exact" in said
    assert re.search(message, said)


@pytest.mark.parametrize(
    "change",
    [{"step": -5}, {"step": "6"}, {"epoch": None}, {"call": 99}, {"loss_scaling": 0}, {"more": 1}, "list"],
)
def test_a_state_that_is_no_state_is_not_taken(recipe, finished, capsys, change):
    """Checksums are right: somebody wrote it so."""
    newest = checkpoint.newest(finished / "checkpoints")
    state = json.loads((newest / "state.json").read_text())
    text = "[]" if change == "list" else json.dumps({**state, **change})
    (newest / "state.json").write_text(text)
    (newest / "SHA256SUMS").write_bytes(checkpoint._sums(newest))
    capsys.readouterr()
    run(recipe, finished, *MORE, resume=True)
    said = capsys.readouterr().err
    assert "Skipped: " in said and "Resumed at step 4: exact" in said


def test_auto_begins_where_there_is_nothing_and_goes_on_where_there_is(recipe, tmp_path):
    run(recipe, tmp_path / "whole", *MORE)
    run(recipe, tmp_path / "run", *MORE, resume="auto")
    for name in ("step_00000004", "step_00000006"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / name)
    run(recipe, tmp_path / "run", *MORE, "checkpoint.resume=auto")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_run_that_is_done_says_so_and_one_that_is_not_does_not(recipe, finished, capsys):
    done = "all 1 epochs are done, nothing is left to train"
    run(recipe, finished, *MORE, resume=True)
    assert f"Resumed at step 6: exact; {done}" in capsys.readouterr().err
    shutil.rmtree(finished / "checkpoints" / "step_00000006")
    run(recipe, finished, *MORE, resume=True)
    assert "are done" not in capsys.readouterr().err


def test_a_chosen_checkpoint_is_gone_on_from_in_its_run(recipe, finished, tmp_path, capsys):
    expected = shutil.copytree(finished, tmp_path / "expected")
    run(recipe, finished, *MORE, f"checkpoint.resume={finished / 'checkpoints' / 'step_00000002'}")
    said = capsys.readouterr().err
    assert "Resumed at step 2: exact" in said
    assert "step_00000004, step_00000006 will be replaced" in said
    assert_same_run(expected, finished)


def test_with_another_run_dir_the_run_branches_off(recipe, finished, tmp_path):
    chosen = finished / "checkpoints" / "step_00000004"
    before = sorted(path.name for path in finished.rglob("*"))
    run(recipe, tmp_path / "branch", *MORE, f"checkpoint.resume={chosen}")
    assert_same_run(finished, tmp_path / "branch")
    assert checkpoints(tmp_path / "branch") == ["step_00000004", "step_00000006"]
    assert before == sorted(path.name for path in finished.rglob("*"))
    # and it can be taken up by itself
    shutil.rmtree(tmp_path / "branch" / "checkpoints" / "step_00000006")
    trainer.train(config.load(tmp_path / "branch" / "config.yaml"), resume=True)
    assert_same_run(finished, tmp_path / "branch")


def test_a_longer_run_goes_on_where_the_schedule_permits(recipe, finished, tmp_path, capsys):
    run(recipe, tmp_path / "whole", *MORE[1:], "training.epochs=2")
    capsys.readouterr()
    run(recipe, finished, *MORE[1:], "training.epochs=2", resume=True)
    assert "training.epochs: 1 -> 2" in capsys.readouterr().err
    assert_same_run(tmp_path / "whole", finished)
    assert config.load(finished / "config.yaml").config.training.epochs == 2


def test_checkpoints_are_all_that_a_run_needs_to_go_on(recipe, finished, tmp_path):
    """As README.md says: a copy of that folder alone will do."""
    copy = tmp_path / "copy"
    shutil.copytree(finished / "checkpoints", copy / "checkpoints")
    shutil.rmtree(copy / "checkpoints" / "step_00000006")
    with pytest.raises(
        checkpoint.CheckpointError, match="is of another configuration: optimizer.learning_rate"
    ):
        run(recipe, copy, *MORE, "optimizer.learning_rate=0.3", resume=True)
    assert not (copy / "config.yaml").exists()
    run(recipe, copy, *MORE, resume=True)
    assert_same_run(finished, copy)
    expected = config.load(finished / "config.yaml", [f"run_dir={copy}"])
    assert config.load(copy / "config.yaml").config == expected.config


def test_a_longer_run_is_refused_where_the_schedule_would_change(recipe, tmp_path):
    run(recipe, tmp_path / "run", "training.epochs=1")
    with pytest.raises(
        run_folder.RunFolderError, match=r"training\.epochs: 1 -> 2 \(the learning rate of schedule cosine"
    ):
        run(recipe, tmp_path / "run", "training.epochs=2", resume=True)


def test_what_changes_the_rounding_only_is_named(recipe, finished, capsys):
    for name in ("step_00000004", "step_00000006"):
        shutil.rmtree(finished / "checkpoints" / name)
    spread = ("training.gradient_accumulation=4", "training.replicas=1")
    capsys.readouterr()
    run(recipe, finished, *MORE, *spread, "device.fuse_micro_batches=off", resume=True)
    said = capsys.readouterr().err
    assert "same recipe, not bit-exact, because" in said
    for reason in ("training.replicas: 2 -> 1", "device.fuse_micro_batches: 'auto' -> 'off'"):
        assert reason in said


def test_another_torch_is_named(recipe, finished, capsys):
    newest = checkpoint.newest(finished / "checkpoints")
    state = json.loads((newest / "state.json").read_text())
    state["environment"]["torch"] = "1.0"
    (newest / "state.json").write_text(json.dumps(state))
    (newest / "SHA256SUMS").write_bytes(checkpoint._sums(newest))
    run(recipe, finished, *MORE, resume=True)
    assert "not bit-exact, because torch: 1.0 -> " in capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(recipe, finished, tmp_path):
    """By a living process, whose number and host are named; of a dead one the folder is taken over."""
    hold = (
        "import sys, time; from pathlib import Path; from ipu_train.training.run_lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(finished)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    before = sorted(str(path) for path in finished.rglob("*"))
    for resume in (True, "auto", False):
        with pytest.raises(ValueError, match=rf"in use: process {holder.pid} on "):
            run(recipe, finished, *MORE, resume=resume)
    with pytest.raises(ValueError, match="in use"):
        run(recipe, finished, *MORE, f"checkpoint.resume={finished}", resume=True)
    assert before == sorted(str(path) for path in finished.rglob("*"))
    holder.kill()
    holder.wait()
    assert (finished / "run.lock").exists()
    run(recipe, finished, *MORE, resume=True)
    assert not (finished / "run.lock").exists()


def test_a_start_that_is_refused_leaves_nothing(recipe, tmp_path):
    with pytest.raises(ValueError, match="must be greater"):
        run(recipe, tmp_path / "deep" / "run", "device.pipeline_splits=[layer2.0]")
    assert not (tmp_path / "deep").exists()
    run(recipe, tmp_path / "deep" / "run", *MORE)


def test_planted_links_are_replaced_and_not_followed(recipe, tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    folder.mkdir()
    for name in ("plan.json", "metrics.jsonl", "metrics.jsonl.tmp", "config.yaml", "curves.png", "wandb_id"):
        (folder / name).symlink_to(victim)
    run(recipe, folder, *MORE, "logging.plots=true")
    assert victim.read_text() == "precious"
    for name in ("plan.json", "metrics.jsonl", "config.yaml"):
        assert not (folder / name).is_symlink()


def test_a_planted_lock_is_not_followed(recipe, tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    folder.mkdir()
    (folder / "run.lock").symlink_to(victim)
    with pytest.raises(ValueError, match="Cannot make the run folder"):
        run(recipe, folder, *MORE)
    assert victim.read_text() == "precious"


def test_a_run_folder_deleted_under_the_run_is_there_again(recipe, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    expected = tmp_path / "expected"
    run(recipe, expected, *MORE)
    original = trainer._means
    calls = []

    def means(*args):
        calls.append(1)
        if len(calls) == 2:  # no checkpoint is being written
            shutil.rmtree(folder)
        return original(*args)

    monkeypatch.setattr(trainer, "_means", means)
    capsys.readouterr()
    run(recipe, folder, *MORE)
    assert capsys.readouterr().err.count("has deleted or replaced") == 1
    assert_same_run(expected, folder)
    assert (folder / "config.yaml").read_text() == (expected / "config.yaml").read_text().replace(
        "expected", "run"
    )


def test_the_configuration_in_a_run_folder_goes_on_with_that_run(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = trainer.train(config.load(recipe, list(MORE)))
    shutil.rmtree(checkpoint.newest(outcome.folder.checkpoints))
    again = trainer.train(config.load(outcome.folder.config), resume=True)
    assert again.folder.path.resolve() == outcome.folder.path.resolve()
    assert len(os.listdir(tmp_path / "runs" / "tiny")) == 1


def test_litter_of_killed_processes_goes_with_the_next_start(recipe, finished):
    (finished / "checkpoints" / ".step_00000009.77.partial").mkdir()
    (finished / ".metrics.jsonl.x.tmp").write_text("")
    run(recipe, finished, *MORE, resume=True)
    assert [*finished.glob(".*"), *(finished / "checkpoints").glob(".*"), *finished.glob("run.lock")] == []

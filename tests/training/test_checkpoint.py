"""Checkpoints are complete or absent, and hold what they were given."""

import json

import pytest
import torch

from ipu_train.training import checkpoint
from ipu_train.training.checkpoint import Checkpoint, CheckpointError


def example(step=3):
    return Checkpoint(
        {"w": torch.randn(2, 3), "half": torch.randn(4).half()},
        {"ipu_state/Accl1___w": torch.randn(2, 3), "host_random_state": torch.get_rng_state()},
        {"step": step, "epoch": 1, "call": 2, "device_random_state": [2**62 + 1, 5]},
    )


def test_what_is_loaded_is_what_was_saved(tmp_path):
    saved = example()
    loaded = checkpoint.load(checkpoint.save(tmp_path, saved, keep=3))
    for part in ("weights", "optimizer"):
        before, after = getattr(saved, part), getattr(loaded, part)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before)
    assert all(loaded.state[key] == value for key, value in saved.state.items())


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 20, 3, 100):
        checkpoint.save(tmp_path, example(step), keep=2)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["step_00000020", "step_00000100"]
    assert checkpoint.newest(tmp_path).name == "step_00000100"


def test_saving_the_same_step_again_replaces_it(tmp_path):
    checkpoint.save(tmp_path, example(), keep=2)
    again = example()
    checkpoint.save(tmp_path, again, keep=2)
    assert torch.equal(checkpoint.load(checkpoint.newest(tmp_path)).weights["w"], again.weights["w"])


def test_a_full_disk_leaves_the_older_checkpoint_and_no_rubbish(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, example(1), keep=1)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left on device.*Earlier checkpoints are intact"):
        checkpoint.save(tmp_path, example(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    checkpoint.load(checkpoint.newest(tmp_path))


def test_a_folder_that_was_being_written_is_no_checkpoint(tmp_path):
    (tmp_path / ".step_00000009.1.partial").mkdir()
    (tmp_path / "step_00000009").mkdir()  # without state.json
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("damage", ["truncate", "delete", "garbage"])
def test_a_damaged_file_is_named(tmp_path, damage):
    folder = checkpoint.save(tmp_path, example(), keep=1)
    path = folder / "weights.safetensors"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:40])
    elif damage == "delete":
        path.unlink()
    else:
        (folder / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="Cannot read the checkpoint"):
        checkpoint.load(folder)


def test_another_format_is_refused(tmp_path):
    folder = checkpoint.save(tmp_path, example(), keep=1)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(dict(state, format=99)))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load(folder)


def test_nothing_is_pickled(tmp_path):
    folder = checkpoint.save(tmp_path, example(), keep=1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]

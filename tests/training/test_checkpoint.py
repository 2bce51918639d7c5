"""Checkpoints are complete or absent, and hold what they were given."""

import json
import os
import shutil
import subprocess

import pytest
import torch

from ipu_train.training import checkpoint, checkpoint_folder
from ipu_train.training.checkpoint import Checkpoint, CheckpointError


def example(step=3):
    return Checkpoint(
        {"w": torch.randn(2, 3), "half": torch.randn(4).half()},
        {"ipu_state/Accl1___w": torch.randn(2, 3), "host_random_state": torch.get_rng_state()},
        {"step": step, "epoch": 1, "call": 2, "device_random_state": [2**62 + 1, 5]},
        "model: {name: resnet8}\n",
        b'{"step": 1}\n',
    )


def test_what_is_loaded_is_what_was_saved(tmp_path):
    saved = example()
    loaded = checkpoint.load(checkpoint.save(tmp_path, saved, keep=3))
    for part in ("weights", "optimizer"):
        before, after = getattr(saved, part), getattr(loaded, part)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before)
    assert all(loaded.state[key] == value for key, value in saved.state.items())
    assert (loaded.config, loaded.metrics) == (saved.config, saved.metrics)


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_who_may_read_the_files_is_what_the_umask_says(tmp_path, mask, mode):
    """safetensors 0.8 makes private files, whatever it says."""
    before = os.umask(mask)
    try:
        folder = checkpoint.save(tmp_path, example(1), keep=1)
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == dict.fromkeys(
        (*checkpoint.FILES, "SHA256SUMS"), oct(mode)
    )


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 3, 20, 100):
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
    said = r"step_00000002: No space left on device\. Earlier checkpoints are intact"
    with pytest.raises(CheckpointError, match=said):
        checkpoint.save(tmp_path, example(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    checkpoint.load(checkpoint.newest(tmp_path))


def test_a_folder_that_was_being_written_is_no_checkpoint(tmp_path):
    (tmp_path / ".step_00000009.1.partial").mkdir()
    (tmp_path / "step_00000009").mkdir()  # without state.json
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("name", [*checkpoint.FILES, "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "delete", "folder"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    folder = checkpoint.save(tmp_path, example(), keep=1)
    path = folder / name
    data = path.read_bytes()
    if damage in ("truncate", "flip", "empty"):
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"truncate": data[:middle], "flip": flipped, "empty": b""}[damage])
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    with pytest.raises(CheckpointError, match=f"Cannot read the checkpoint {folder}: .*{name}"):
        checkpoint.load(folder)


def test_files_of_two_checkpoints_are_no_checkpoint(tmp_path):
    one, two = (checkpoint.save(tmp_path, example(step), keep=2) for step in (1, 2))
    shutil.copy(one / "optimizer.safetensors", two / "optimizer.safetensors")
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors is damaged"):
        checkpoint.load(two)
    (path, _), skipped = checkpoint.newest_sound(tmp_path)
    assert path == one
    assert len(skipped) == 1 and str(two) in skipped[0]


def test_the_checksums_are_those_of_sha256sum(tmp_path):
    folder = checkpoint.save(tmp_path, example(), keep=1)
    check = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=str(folder), capture_output=True, text=True
    )
    assert check.returncode == 0
    assert check.stdout.count(": OK") == len(checkpoint.FILES)


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path):
    for step, accuracy in ((1, 0.2), (2, 0.9), (3, 0.4), (4, None), (5, 0.5)):
        saved = example(step)
        saved.state["validation_accuracy"] = accuracy
        checkpoint.save(tmp_path, saved, keep=2)
    kept = [path.name for path in checkpoint.list_checkpoints(tmp_path)]
    assert kept == ["step_00000002", "step_00000004", "step_00000005"]
    assert checkpoint_folder.best(tmp_path).name == "step_00000002"


def test_checkpoints_of_a_future_that_was_given_up_go(tmp_path):
    for step in (2, 4, 6):
        checkpoint.save(tmp_path, example(step), keep=9)
    checkpoint.save(tmp_path, example(3), keep=9)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["step_00000002", "step_00000003"]


def test_other_names_are_no_checkpoints(tmp_path):
    saved = checkpoint.save(tmp_path, example(7), keep=1)
    for name in ("step_abc", "step_9", "step_00000009.bak", "step_000000x9"):
        shutil.copytree(saved, tmp_path / name)
    assert checkpoint.list_checkpoints(tmp_path) == [saved]


def test_what_killed_processes_left_is_tidied(tmp_path):
    checkpoint.save(tmp_path, example(1), keep=9)
    two = checkpoint.save(tmp_path, example(2), keep=9)
    two.rename(tmp_path / ".step_00000002.77.replaced")  # killed before the new one had the name
    (tmp_path / ".step_00000003.77.partial").mkdir()
    shutil.copytree(tmp_path / "step_00000001", tmp_path / ".step_00000001.77.replaced")
    shutil.copytree(tmp_path / "step_00000001", tmp_path / ".step_00000004.77.deleted")
    checkpoint_folder.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000001", "step_00000002"]
    checkpoint.load(two)


def test_another_format_is_refused(tmp_path):
    folder = checkpoint.save(tmp_path, example(), keep=1)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(dict(state, format=99)))
    sums = subprocess.run(["sha256sum", *checkpoint.FILES], cwd=str(folder), capture_output=True).stdout
    (folder / "SHA256SUMS").write_bytes(sums)
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load(folder)


def test_nothing_is_pickled(tmp_path):
    folder = checkpoint.save(tmp_path, example(), keep=1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "config.yaml",
        "metrics.jsonl",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]

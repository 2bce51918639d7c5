"""`ipu-train average`: checkpoints to one file of weights."""

import os
import shlex

import pytest
import torch
from safetensors.torch import load_file

from ipu_train.cli import main
from ipu_train.training import checkpoint
from ipu_train.training.checkpoint import Checkpoint


@pytest.fixture()
def run_folder(tmp_path):
    """A run folder with three checkpoints whose weight is 1, 2 and 4."""
    for step, value in ((1, 1.0), (2, 2.0), (3, 4.0)):
        state = {"w": torch.full((2,), value), "n": torch.tensor(step)}
        checkpoint.save(tmp_path / "run" / "checkpoints", Checkpoint(state, {}, {"step": step}), keep=9)
    return tmp_path / "run"


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--kind", "mean"], 7 / 3),
        (["--decay", "0.5"], 0.25 * 1 + 0.25 * 2 + 0.5 * 4),
        ([], 0.97 * (0.97 * 1 + 0.03 * 2) + 0.03 * 4),
    ],
)
def test_it_averages_the_checkpoints_of_a_run(run_folder, tmp_path, capsys, arguments, expected):
    out = tmp_path / "the average.safetensors"
    assert main(["average", str(run_folder), *arguments, "--out", str(out)]) == 0
    found = load_file(str(out))
    torch.testing.assert_close(found["w"], torch.full((2,), expected))
    assert found["n"] == 3
    told = capsys.readouterr().out
    assert "3 checkpoints, step_00000001 to step_00000003" in told
    assert shlex.split(told)[-1] == f"model.weights={out}"  # as a shell reads it


def test_it_takes_single_checkpoints_in_the_order_given(run_folder, tmp_path):
    out = tmp_path / "average.safetensors"
    two = [str(run_folder / "checkpoints" / f"step_0000000{step}") for step in (1, 3)]
    assert main(["average", *two, "--kind", "mean", "--out", str(out)]) == 0
    assert load_file(str(out))["w"].tolist() == [2.5, 2.5]


def test_others_may_read_the_file_where_the_umask_lets_them(run_folder, tmp_path):
    out = tmp_path / "average.safetensors"
    before = os.umask(0o022)
    try:
        assert main(["average", str(run_folder), "--out", str(out)]) == 0
    finally:
        os.umask(before)
    assert oct(out.stat().st_mode & 0o777) == oct(0o644)


def test_what_cannot_be_averaged_is_one_message(run_folder, tmp_path, capsys):
    out = ["--out", str(tmp_path / "x.safetensors")]
    assert main(["average", str(tmp_path / "nowhere"), *out]) == 2
    assert "No checkpoint in" in capsys.readouterr().err
    other = checkpoint.save(tmp_path / "other", Checkpoint({"v": torch.ones(1)}, {}, {"step": 1}), keep=1)
    assert main(["average", str(run_folder), str(other), *out]) == 2
    assert "cannot be averaged: the states to average hold different names" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_one_message(run_folder, tmp_path, capsys):
    assert main(["average", str(run_folder), "--out", str(tmp_path / "nowhere" / "x.safetensors")]) == 2
    assert "x.safetensors: must be a file in a folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--kind", "mean", "--decay", "0.5", "--out", "x.safetensors"], "a mean has none"),
        (["--out", "x.pth"], "must end in .safetensors, got x.pth"),
        (["--decay", "1", "--out", "x.safetensors"], "must be a number above 0 and below 1, got 1"),
    ],
)
def test_settings_that_would_be_ignored_or_mislead_are_refused(run_folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["average", str(run_folder), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_weights_of_a_checkpoint_are_not_overwritten(run_folder, capsys):
    weights = run_folder / "checkpoints" / "step_00000001" / "weights.safetensors"
    before = weights.read_bytes()
    assert main(["average", str(run_folder), "--out", str(weights)]) == 2
    assert "is inside a checkpoint" in capsys.readouterr().err
    assert weights.read_bytes() == before

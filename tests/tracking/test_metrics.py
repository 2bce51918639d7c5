"""metrics.jsonl: one JSON object a line, safe from kills, and clean after a resume."""

import json
import math
import os
import resource
import shutil

import pytest

from ipu_train.config import LoggingConfig
from ipu_train.tracking import MetricsError, MetricsFile, Tracker, read_metrics


def steps(path):
    return [record["step"] for record in read_metrics(path)]


def test_each_line_is_on_disk_once_written(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(3):
        file.write(split="train", step=step, loss=0.1 * step)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()  # the file is still open
        assert json.loads(lines[-1]) == {"split": "train", "step": step, "loss": 0.1 * step}
        assert len(lines) == step + 1


def test_numbers_come_back_exactly_and_what_is_no_number_is_null(tmp_path):
    file = MetricsFile(tmp_path / "m")
    file.write(a=0.1 + 0.2, b=math.nan, c=math.inf, d=1e-300)
    assert read_metrics(tmp_path / "m") == [{"a": 0.1 + 0.2, "b": None, "c": None, "d": 1e-300}]


def test_resuming_goes_on_after_the_lines_of_the_checkpoint(tmp_path):
    path = tmp_path / "m"
    file = MetricsFile(path)
    for step in (10, 20):
        file.write(step=step)
    saved = file.content()
    for step in (30, 40):
        file.write(step=step)
    file.close()
    resumed = MetricsFile(path, saved)
    assert steps(path) == [10, 20]
    resumed.write(step=30)
    assert steps(path) == [10, 20, 30]


def test_a_torn_last_line_is_passed_over(tmp_path):
    path = tmp_path / "m"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert steps(path) == [1]


@pytest.mark.parametrize("gone", ["file", "folder", "replaced"])
def test_a_file_that_somebody_deletes_comes_back_whole(tmp_path, gone):
    path = tmp_path / "run" / "m"
    path.parent.mkdir()
    file = MetricsFile(path)
    file.write(step=1)
    assert not file.ensure_in_place()
    if gone == "folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if gone == "replaced":
        path.write_text("other")
    assert file.ensure_in_place()
    file.write(step=2)
    assert steps(path) == [1, 2]


def test_what_the_disk_refuses_is_one_message_and_no_line_before_it_is_lost(tmp_path):
    """A limit on the size of files, which the operating system refuses to pass as it does a full disk."""
    path = tmp_path / "m"
    file = MetricsFile(path)
    file.write(step=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(MetricsError) as caught:
            file.write(step=2, loss=0.5)
        file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value).startswith(f"{path}: cannot be written: File too large. ")
    assert "--resume" in str(caught.value)
    assert steps(path) == [1]


def test_a_link_under_its_name_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "m").symlink_to(victim)
    (tmp_path / "m.tmp").symlink_to(victim)
    MetricsFile(tmp_path / "m").write(step=1)
    assert victim.read_text() == "precious"
    assert steps(tmp_path / "m") == [1]


def test_a_new_run_begins_an_empty_file(tmp_path):
    (tmp_path / "m").write_text('{"step": 1}\n')
    MetricsFile(tmp_path / "m")
    assert steps(tmp_path / "m") == []


def test_a_crash_while_dropping_lines_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_text('{"step": 1}\n{"step": 2}\n')

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        MetricsFile(path, b'{"step": 1}\n')
    assert steps(path) == [1, 2]


@pytest.mark.parametrize("content, place", [('{"step": 1}\nhello\n', ":2:"), ("[1]\n", ":1:")])
def test_lines_that_are_no_records_are_named(tmp_path, content, place):
    path = tmp_path / "m"
    path.write_text(content)
    with pytest.raises(MetricsError, match=f"{path}{place} is not a JSON object"):
        read_metrics(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MetricsError, match="cannot be read: No such file"):
        read_metrics(tmp_path / "m")


def test_the_tracker_writes_the_contracts_keys(tmp_path):
    with Tracker(tmp_path, LoggingConfig(), {}) as tracker:
        tracker.train(1, 10, 0.5, 0.75, 0.1, 1000.0)
        tracker.validation(1, 20, 0.4, 0.8)
        train, validation = tracker.records()
        saved = tracker.content()
    keys = {"split", "epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second"}
    assert set(train) == keys and set(validation) <= keys
    assert (train["split"], validation["split"]) == ("train", "validation")
    with Tracker(tmp_path, LoggingConfig(), {}, beginning=saved) as tracker:
        assert tracker.records() == [train, validation]


def test_tensorboard_shows_a_run_once_that_ended_before_its_first_checkpoint_and_began_again(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for losses in ((0.5, 0.4), (0.3,)):
        with Tracker(tmp_path, LoggingConfig(tensorboard=True), {}) as tracker:
            for step, loss in enumerate(losses, start=1):
                tracker.train(1, step, loss, 0.75, 0.1, 1000.0)
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in found] == [(1, pytest.approx(0.3))]

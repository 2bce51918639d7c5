"""Progress bar, table of results and picture."""

import builtins
import json
import sys

import pytest
from PIL import Image

from ipu_train.tracking import Progress, epoch_line, epoch_words, plot_run, results, table, tell
from ipu_train.tracking.plot import points, smooth, steps_per_epoch
from ipu_train.tracking.table import rate

RECORDS = [
    {"split": "train", "epoch": 1, "step": 10, "loss": 2.0, "accuracy": 0.25, "images_per_second": 1234.5},
    {"split": "validation", "epoch": 1, "step": 12, "loss": 1.5, "accuracy": 0.5},
    {"split": "train", "epoch": 2, "step": 20, "loss": None, "accuracy": 0.5},
    {"split": "validation", "epoch": 2, "step": 24, "loss": 1.0, "accuracy": 0.875},
    {
        "split": "train",
        "epoch": 3,
        "step": 30,
        "loss": 0.125,
        "accuracy": 0.96875,
        "images_per_second": 2000.0,
    },
    {"split": "validation", "epoch": 3, "step": 36, "loss": 1.25, "accuracy": 0.75},
]


def test_the_bar_shows_epoch_loss_accuracy_speed_and_time_left(capsys):
    with Progress(images=400, epochs=2, done=100, show=True) as progress:
        progress.update(100, epoch=1, loss=1.23456, accuracy=0.5)
        tell("a word in between")
        progress.update(200, epoch=2, loss=0.5)
    shown = capsys.readouterr().err
    assert "epoch 1/2  50%|" in shown and "epoch 2/2 100%|" in shown
    assert "loss 1.2346, accuracy 50.00%" in shown and "images/s" in shown and "left" in shown
    assert "a word in between\n" in shown


@pytest.mark.parametrize("show, terminal, visible", [
    ("auto", True, True), ("auto", False, False), (True, False, True), (False, True, False),
])  # fmt: skip
def test_the_bar_is_for_terminals_unless_told_otherwise(monkeypatch, capsys, show, terminal, visible):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with Progress(10, 1, show=show) as progress:
        progress.update(10, 1, 0.5, 0.5)
        assert progress.visible is visible
    assert bool(capsys.readouterr().err) is visible


def test_a_table_lines_up():
    assert table(["name", "n"], [["a", 1], ["long name", 22]]) == (
        "name        n\n---------  --\na           1\nlong name  22"
    )


def test_a_table_s_rows_are_lines_whatever_a_file_is_called():
    assert table(["name"], [["a\nb"], ["caf\udce9"], ["é犬"]]) == "name\n---------\na\\nb\ncaf\\udce9\né犬"


def test_results_are_the_last_and_the_best():
    lines = results(RECORDS).splitlines()
    assert lines[0].split() == ["epoch", "step", "loss", "accuracy", "images/s"]
    assert lines[2].split() == ["train", "3", "30", "0.1250", "96.88%", "2,000"]
    assert lines[3].split() == ["validation", "3", "36", "1.2500", "75.00%", "-"]
    assert lines[4].split() == ["best", "validation", "2", "24", "1.0000", "87.50%", "-"]


def test_results_of_a_run_that_was_stopped_at_once():
    assert len(results([]).splitlines()) == 2
    assert len(results(RECORDS[:1]).splitlines()) == 3


def test_columns_are_those_of_a_terminal():
    """A class of two Chinese characters takes as much room as four letters, an accent of its own none."""
    rows = table(["class", "n"], [["\u7ea2\u677e", 1], ["pine", 2], ["ce\u0301dre", 3]]).splitlines()[2:]
    assert rows == ["\u7ea2\u677e   1", "pine   2", "ce\u0301dre  3"]


@pytest.mark.parametrize("value, text", [(12345.6, "12,346"), (10, "10"), (4.26, "4.3"), (0.031, "0.031")])
def test_slow_trainings_have_a_rate(value, text):
    assert rate(value) == text


def test_an_epoch_in_one_line():
    assert epoch_line(RECORDS[0], 3) == "epoch 1/3  train  loss 2.0000  accuracy 25.00%  images/s 1,234"


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


def test_without_a_bar_an_epoch_is_a_line_and_a_long_one_a_line_a_minute(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(epoch_words, "time", clock)
    words = epoch_words.EpochWords(epochs=2)
    words.add(0.25, steps=1, images=100, loss=3.0, accuracy=0.1, seconds=1.0)
    clock.now = 61.0
    words.add(0.5, steps=1, images=100, loss=2.0, accuracy=0.2, seconds=1.0)
    words.add(1.0, steps=2, images=200, loss=1.0, accuracy=0.3, seconds=2.0)
    words.end_epoch(1)
    words.end_epoch(2)  # all weight updates were undone
    assert capsys.readouterr().err.splitlines() == [
        "epoch 0.5/2  train  loss 2.5000  accuracy 15.00%  images/s 100",
        "epoch 1/2  train  loss 1.7500  accuracy 22.50%  images/s 100",
    ]
    silent = epoch_words.EpochWords(epochs=2, silent=True)
    silent.add(1.0, steps=1, images=100, loss=3.0, accuracy=0.1, seconds=1.0)
    silent.end_epoch(1)
    assert capsys.readouterr().err == ""


def _axes(run_dir, records, monkeypatch):
    """The two axes of the picture of a run."""
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **more: (drawn.append(self), save(self, *args, **more))
    )
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    plot_run(run_dir)
    return drawn[-1].axes


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("loss, accuracy", [(2.3026, 0.1), (0.0, 1.0)])
def test_a_flat_or_short_run_shows_every_value_within_the_axes(tmp_path, monkeypatch, count, loss, accuracy):
    records = [
        {"split": split, "epoch": e, "step": 10 * e, "loss": loss, "accuracy": accuracy}
        for e in range(1, count + 1)
        for split in ("train", "validation")
    ]
    for axes, value in zip(_axes(tmp_path, records, monkeypatch), (loss, accuracy)):
        train, validation = axes.lines
        for line in (train, validation):
            assert list(line.get_ydata()) == [value] * count
            assert line.get_marker() == "o"  # one value makes no line
            assert not line.get_clip_on()  # a line on the edge has its whole width
        assert train.get_linewidth() > validation.get_linewidth()  # both show where they coincide
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left <= 1 and count < right and bottom <= value <= top and bottom < top
        assert axes.get_legend() is not None


def test_a_run_that_branched_off_late_begins_where_it_begins(tmp_path, monkeypatch):
    late = [{**record, "epoch": record["epoch"] + 50, "step": record["step"] + 600} for record in RECORDS]
    for axes in _axes(tmp_path, late, monkeypatch):
        assert 50 < axes.get_xlim()[0] < 51
    for axes in _axes(tmp_path, RECORDS, monkeypatch):
        assert axes.get_xlim()[0] == 0


def test_curves_leave_out_what_is_no_number_and_count_in_epochs():
    assert points(RECORDS, "train", "loss") == ([10, 30], [2.0, 0.125])
    assert steps_per_epoch(RECORDS) == 12
    assert steps_per_epoch(RECORDS[:1]) is None


def test_smoothing_is_a_centred_mean_that_keeps_the_ends():
    assert smooth([0, 3, 6, 3, 0], 3) == [0, 3, 4, 3, 0]
    assert smooth([1, 2], 1) == [1, 2]
    line = [2.0 * i for i in range(50)]
    assert smooth(line, 9) == pytest.approx(line)


def write(folder, records):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1], RECORDS[1:2], RECORDS * 100])
def test_a_picture_with_both_curves_is_made(tmp_path, records):
    write(tmp_path, records)
    path = plot_run(tmp_path)
    assert path == tmp_path / "curves.png"
    with Image.open(path) as image:
        assert image.width >= 1000
        colours = {colour for _, colour in image.convert("RGB").getcolors(maxcolors=2**24)}
    splits = {record["split"] for record in records}
    assert ((0x00, 0x72, 0xB2) in colours) == ("train" in splits)
    assert ((0xD5, 0x5E, 0x00) in colours) == ("validation" in splits)


def test_a_run_named_like_a_broken_formula_is_drawn(tmp_path):
    write(tmp_path, RECORDS)
    assert plot_run(tmp_path, title="$x_{^$ of caf\udce9") is not None


def test_nothing_to_draw_makes_no_picture(tmp_path):
    write(tmp_path, [])
    assert plot_run(tmp_path) is None and not (tmp_path / "curves.png").exists()


def test_without_matplotlib_there_is_a_hint_and_no_failure(tmp_path, monkeypatch, capsys):
    write(tmp_path, RECORDS)
    real = builtins.__import__

    def refuse(name, *args, **keys):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **keys)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert plot_run(tmp_path) is None
    assert "install ipu-train[plots]" in capsys.readouterr().err

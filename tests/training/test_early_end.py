"""Runs that end early, what the best checkpoint is, and what short runs leave behind."""

import csv
import json

import pytest

import ipu_train.training.validation
from ipu_train import config, trainer
from ipu_train.tracking import read_metrics
from ipu_train.training import checkpoint_folder

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 32, image_size: 8, num_classes: 4}
training: {epochs: 9, micro_batch_size: 8, seed: 3}
averaging: {name: mean}
checkpoint: {keep: 1}
logging: {progress: false, plots: false}
device: {threads: 1}
"""


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture()
def measures(monkeypatch):
    """Validations give the figures of a list, one after the other, in the place of what they measure."""
    figures = []
    measure = ipu_train.training.validation.validate

    def told(*arguments):
        return {**measure(*arguments), **figures.pop(0)}

    monkeypatch.setattr(trainer, "validate", told)
    return figures


def run(recipe, *overrides, resume=False):
    folder = recipe.parent / "run"
    trainer.train(config.load(recipe, [f"run_dir={folder}", *overrides]), resume=resume)
    return folder


def validations(folder):
    return [line["epoch"] for line in read_metrics(folder / "metrics.jsonl") if line["split"] == "validation"]


def test_a_run_ends_when_nothing_has_been_better_for_long_enough(recipe, measures, capsys):
    measures += [{"accuracy": a} for a in (0.3, 0.5, 0.5, 0.4, 0.9)]
    folder = run(recipe, "validation.patience=2")
    assert validations(folder) == [1, 2, 3, 4]
    said = capsys.readouterr()
    assert "accuracy has not improved in 2 validations" in said.err
    assert "50.00%" in next(line for line in said.out.splitlines() if line.startswith("best"))
    kept = [path.name for path in checkpoint_folder.list_checkpoints(folder / "checkpoints")]
    assert kept == ["step_00000008", "step_00000016"]  # the best and the last
    run(recipe, "validation.patience=2", resume=True)  # there is nothing left to do
    assert validations(folder) == [1, 2, 3, 4]
    assert "accuracy has not improved in 2 validations" in capsys.readouterr().err  # and it says why


def test_patience_outlasts_an_interruption(recipe, measures):
    measures += [{"loss": loss} for loss in (1.0, 2.0, 2.0, 2.0)]
    more = ("validation.metric=loss", "validation.patience=3", "schedule.name=constant")
    folder = run(recipe, *more, "training.epochs=2")
    run(recipe, *more, "training.epochs=9", resume=True)
    assert validations(folder) == [1, 2, 3, 4]


def test_a_figure_that_begins_later_is_waited_for(recipe, measures):
    measures += [{}] * 9
    folder = run(
        recipe, "averaging.start_epoch=5", "validation.metric=averaged_accuracy", "validation.patience=1",
        "training.epochs=6",
    )  # fmt: skip
    assert validations(folder) == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_no_number_is_neither_the_best_nor_a_reason_to_refuse_the_checkpoint(recipe, measures):
    nan = float("nan")
    measures += [{"loss": loss} for loss in (nan, 0.5, 0.1, nan, nan)]
    more = ("validation.metric=loss", "validation.patience=2", "schedule.name=constant")
    folder = run(recipe, *more, "training.epochs=4")
    assert checkpoint_folder.best(folder / "checkpoints").name == "step_00000012"
    run(recipe, *more, "training.epochs=9", resume=True)  # from the fourth epoch: its validation is no number
    assert validations(folder) == [1, 2, 3, 4, 5]  # two validations without one end the run


@pytest.mark.parametrize(
    "metric, values, best",
    [
        ("accuracy", (0.2, 0.7, 0.4), 2),
        ("loss", (0.2, 0.7, 0.4), 1),
        ("top5", (0.2, 0.7, 0.7), 2),
        ("averaged_loss", (0.6, 0.5, 0.4), 3),
    ],
)
def test_the_best_checkpoint_is_kept_by_any_metric(recipe, measures, metric, values, best):
    measures += [{metric: value} for value in values]
    folder = run(recipe, "training.epochs=3", f"validation.metric={metric}")
    assert checkpoint_folder.best(folder / "checkpoints").name == f"step_{4 * best:08d}"


def test_runs_shorter_than_every_steps_have_training_lines_all_the_same(recipe):
    folder = run(recipe, "training.epochs=2", "logging.every_steps=100", "logging.csv=true")
    records = read_metrics(folder / "metrics.jsonl")
    assert [(r["split"], r["epoch"], r["step"]) for r in records] == [
        ("train", 1, 4),
        ("validation", 1, 4),
        ("train", 2, 8),
        ("validation", 2, 8),
    ]
    every = run(recipe, "training.epochs=2", "logging.every_steps=4", f"run_dir={recipe.parent / 'every'}")
    same = [r for r in read_metrics(recipe.parent / "every" / "metrics.jsonl") if r["split"] == "train"]
    assert [r["loss"] for r in same] == [r["loss"] for r in records if r["split"] == "train"]
    assert every == recipe.parent / "run"
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [float(row["loss"]) for row in rows] == [record["loss"] for record in records]
    assert [row["top5"] for row in rows][::2] == ["", ""]


def test_tensorboard_has_every_figure_once_after_an_interruption(recipe):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    more = ("logging.tensorboard=true", "logging.every_steps=2", "schedule.name=constant")
    run(recipe, *more, "training.epochs=1")
    folder = run(recipe, *more, "training.epochs=2", resume=True)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for split in ("train", "validation"):
        records = [r for r in read_metrics(folder / "metrics.jsonl") if r["split"] == split]
        found = events.Scalars(f"{split}/loss")
        assert [(event.step, event.value) for event in found] == [
            (r["step"], pytest.approx(r["loss"], rel=1e-6)) for r in records
        ]


def test_a_run_keeps_its_name_when_it_goes_on_from_its_own_configuration(recipe):
    folder = run(recipe, "training.epochs=1")
    again = config.load(folder / "config.yaml")
    assert again.name == "tiny"
    assert again.changed(["training.epochs=2"]).name == "tiny"
    assert config.load(recipe).name == "tiny"


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["validation.metric=averaged_loss", "averaging.name=none"], "averaging.name is none"),
        (["validation.every_epochs=0", "validation.patience=2"], "no validation"),
        (["validation.metric=f1"], "must be one of accuracy, top5, loss"),
    ],
)
def test_what_cannot_be_judged_is_refused(recipe, overrides, message):
    with pytest.raises(config.ConfigError, match=message):
        config.load(recipe, overrides)


def test_the_state_of_a_checkpoint_says_what_was_validated(recipe):
    folder = run(recipe, "training.epochs=1")
    state = json.loads((checkpoint_folder.newest(folder / "checkpoints") / "state.json").read_text())
    line = read_metrics(folder / "metrics.jsonl")[-1]
    assert state["metric"] == "accuracy"
    assert state["validation"] == {key: line[key] for key in state["validation"]}
    assert {"loss", "accuracy", "top5", "averaged_loss"} <= set(state["validation"])

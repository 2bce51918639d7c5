"""`ipu-train evaluate` against the run's own validation, plain torch and scikit-learn."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from ipu_train import config, trainer
from ipu_train.cli import main
from ipu_train.inference import picture
from ipu_train.inference.evaluation import Evaluation
from ipu_train.tracking import read_metrics
from ipu_train.training import checkpoint

from ..photographs import CLASSES, by_hand


def evaluate(tmp_path, *arguments):
    path = tmp_path / "figures.json"
    assert main(["evaluate", *map(str, arguments), "--json", str(path)]) == 0
    return json.loads(path.read_text())


def validations(run):
    return [line for line in read_metrics(run / "metrics.jsonl") if line["split"] == "validation"]


@pytest.mark.parametrize("which, prefix", [("last", ""), ("averaged", "averaged_")])
def test_it_gives_the_figures_of_the_run_s_last_validation_to_the_last_digit(
    trained_run, tmp_path, which, prefix
):
    found = evaluate(tmp_path, "--run", trained_run, "--weights", which)
    expected = validations(trained_run)[-1]
    for key in ("loss", "accuracy", "top5"):
        assert found[key] == expected[prefix + key]
    assert found["images"] == 21


def test_every_image_counts_once_as_in_plain_torch_and_scikit_learn(trained_run, images, tmp_path):
    """21 images in calls of 6, and in calls of 5 x 1."""
    labels, logits = by_hand(trained_run, images / "val")
    taken = logits.argmax(1).numpy()
    more = ["validation.micro_batch_size=5", "validation.device_iterations=1"]
    for overrides in ([], more):
        found = evaluate(tmp_path, "--run", trained_run, *overrides)
        assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-6)
        assert found["accuracy"] == pytest.approx((taken == labels.numpy()).mean(), abs=1e-12)
        rows = found["per_class"]
        assert [row["class"] for row in rows] == list(CLASSES)
        assert [row["images"] for row in rows] == [7, 7, 7]
        recalls = recall_score(labels, taken, average=None)
        assert [row["accuracy"] for row in rows] == pytest.approx(list(recalls))
        precisions = precision_score(labels, taken, average=None, zero_division=np.nan)
        expected = [None if np.isnan(value) else pytest.approx(value) for value in precisions]
        assert [row["precision"] for row in rows] == expected
        assert sum(row["images"] for row in found["confusion"]) == (taken != labels.numpy()).sum()


def test_images_that_are_skipped_are_not_counted(trained_run, images, tmp_path, capsys):
    shutil.copytree(images, tmp_path / "data")
    own = [path for path in sorted((tmp_path / "data" / "val").rglob("*")) if path.is_file()]
    own[0].write_bytes(b"no image")
    keys = [f"data.path={tmp_path / 'data'}", "data.on_error=skip"]
    found = evaluate(tmp_path, "--run", trained_run, *keys)
    assert found["images"] == sum(row["images"] for row in found["per_class"]) == len(own) - 1 == 20
    assert f"{len(own) - 1} images  loss" in capsys.readouterr().out
    for path in own[1:]:
        path.unlink()
    for folder in (tmp_path / "data" / "val").iterdir():
        if folder != own[0].parent:
            folder.rmdir()
    assert main(["evaluate", "--run", str(trained_run), *keys]) == 2
    assert "none of the 1 images can be used" in capsys.readouterr().err


def test_the_confusion_matrix_is_drawn_and_written(trained_run, images, tmp_path):
    labels, logits = by_hand(trained_run, images / "val")
    assert main(["evaluate", "--run", str(trained_run), "--confusion", str(tmp_path / "c.png")]) == 0
    assert Image.open(tmp_path / "c.png").width > 300
    assert main(["evaluate", "--run", str(trained_run), "--confusion", str(tmp_path / "c.csv")]) == 0
    head, *rows = csv.reader((tmp_path / "c.csv").open())
    assert head == ["class", *CLASSES]
    expected = confusion_matrix(labels, logits.argmax(1))
    assert [[int(cell) for cell in row[1:]] for row in rows] == expected.tolist()


@pytest.mark.parametrize("form", ["png", "svg", "csv"])
def test_classes_of_any_name_are_drawn_and_written(tmp_path, form):
    """Neither formulas of matplotlib's, one of them broken, nor bytes that are no text stop it."""
    names = ["cost $5", "$x_{^$", "$a$", "caf\udce9", "two\nlines"]
    found = Evaluation(1.0, 1.0, 1.0, 5, np.eye(5, dtype=np.int64), names, 1.0)
    picture.write(found, tmp_path / f"c.{form}", "a $network_{^$")
    if form == "png":
        assert Image.open(tmp_path / "c.png").width > 300
    else:
        text = (tmp_path / f"c.{form}").read_text(encoding="utf-8")
        assert ("<!-- $x_{^$ -->" if form == "svg" else "$x_{^$") in text and r"caf\udce9" in text


def test_best_and_last_are_different_checkpoints_where_the_run_got_worse(trained_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    first, last = checkpoint.list_checkpoints(run / "checkpoints")
    both = [checkpoint.load(path) for path in (first, last)]
    for saved, accuracy in zip(both, (0.9, 0.1)):
        saved.state["validation"] = {"accuracy": accuracy}
        checkpoint.save(run / "checkpoints", saved, keep=9)
    of_best, of_last = (evaluate(tmp_path, "--run", run, "--weights", w) for w in ("best", "last"))
    assert of_best == evaluate(tmp_path, "--checkpoint", first)
    assert of_best == evaluate(tmp_path, "--run", run, "--checkpoint", "best")
    assert of_last == evaluate(tmp_path, "--checkpoint", last / "weights.safetensors")
    assert of_best["loss"] == validations(trained_run)[0]["loss"]


def test_a_folder_with_some_of_the_classes_needs_neither_the_training_images_nor_their_order(
    trained_run, images, tmp_path
):
    only = tmp_path / "only"
    shutil.copytree(images / "val" / "cedar", only / "cedar")
    found = evaluate(tmp_path, "--run", trained_run, "--data", only, "data.path=nowhere")
    labels, logits = by_hand(trained_run, images / "val")
    taken = logits.argmax(1)[labels == 2]
    assert found["images"] == 7
    assert found["accuracy"] == pytest.approx((taken == 2).double().mean().item())
    assert found["per_class"][2]["images"] == 7


def test_another_source_of_the_same_classes_takes_the_place_of_the_run_s_own(tmp_path):
    recipe = "model: {name: resnet8, options: {width: 0.25}}\ndata: {name: digits, image_size: 8}\n"
    recipe += "training: {epochs: 1, micro_batch_size: 256}\nlogging: {progress: false, plots: false}\n"
    (tmp_path / "digits.yaml").write_text(recipe)
    trainer.train(config.load(tmp_path / "digits.yaml", [f"run_dir={tmp_path / 'run'}"]))
    of_run = evaluate(tmp_path, "--run", tmp_path / "run")
    more = ("data.name=digits", "data.validation_fraction=0.5")
    found = evaluate(tmp_path, "--run", tmp_path / "run", *more)
    assert (of_run["images"], found["images"]) == (359, 898)  # of each class a half, rounded


def test_a_file_of_weights_is_evaluated_with_a_configuration(trained_run, tmp_path):
    weights = tmp_path / "mine #2: last.safetensors"  # which YAML would cut off at the #
    shutil.copy(checkpoint.newest(trained_run / "checkpoints") / "weights.safetensors", weights)
    recipe = trained_run.parent / "trees.yaml"
    found = evaluate(tmp_path, "--checkpoint", weights, "--config", recipe)
    assert found == evaluate(tmp_path, "--run", trained_run)


@pytest.mark.parametrize("name", ["run #1.safetensors", "a: b.safetensors", "[x] .safetensors"])
def test_files_of_weights_may_have_any_name(trained_run, tmp_path, name):
    shutil.copy(checkpoint.newest(trained_run / "checkpoints") / "weights.safetensors", tmp_path / name)
    recipe = trained_run.parent / "trees.yaml"
    assert evaluate(tmp_path, "--checkpoint", tmp_path / name, "--config", recipe)["images"] == 21


def test_a_loss_that_is_no_number_is_null(trained_run, tmp_path):
    weights = load_file(str(checkpoint.newest(trained_run / "checkpoints") / "weights.safetensors"))
    weights["fc.weight"][0, 0] = float("inf")
    save_file(weights, str(tmp_path / "mine.safetensors"))
    recipe = trained_run.parent / "trees.yaml"
    evaluate(tmp_path, "--checkpoint", tmp_path / "mine.safetensors", "--config", recipe)
    text = (tmp_path / "figures.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["loss"] is None


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_run_that_replaces_its_checkpoints_while_they_are_read_is_read_again(
    trained_run, tmp_path, monkeypatch, which
):
    """The training goes on in another process: the folder that was chosen is gone when it is opened."""
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    for path in checkpoint.list_checkpoints(run / "checkpoints")[:-1]:
        shutil.rmtree(path)
    load = checkpoint.load

    def replaced(folder):
        if folder.name != "step_00000999":
            folder.rename(folder.with_name("step_00000999"))
        return load(folder)

    monkeypatch.setattr(checkpoint, "load", replaced)
    assert evaluate(tmp_path, "--run", run, "--weights", which)["images"] == 21


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--run", "nowhere"], "nowhere: there is no such folder"),
        ([], "name a run with --run DIR"),
        (["--run", "{run}", "--checkpoint", "x"], "not both"),
        (["--checkpoint", "nowhere.safetensors"], "there is no such checkpoint or file"),
        (["--checkpoint", "{run}/config.yaml"], "is no file of weights"),
        (["--checkpoint", "{weights}"], "add --config X"),
        (["--checkpoint", "{last}", "--config", "quickstart"], "has its own configuration"),
        (["--checkpoint", "{run}", "--config", "quickstart"], "has its own configuration"),
        (["--checkpoint", "{last}/weights.safetensors", "--weights", "best"], "is one checkpoint"),
        (["--run", "{run}", "--data", "{images}"], "train: the training images have no class of this name"),
        (["--run", "{run}", "--confusion", "x.txt"], "its name must end in one of"),
        (["--run", "{run}", "--json", "nowhere/x.json"], "there is no folder"),
        (
            ["--run", "{run}", "--json", "/proc/x.json"],
            "--json /proc/x.json: nothing can be written in /proc",
        ),
        (["--run", "{run}", "--confusion", "/proc/x.png"], "nothing can be written in /proc"),
        (
            ["--run", "{run}", "data.name=digits"],
            "other classes than the model was trained on",
        ),
        (
            ["--run", "{run}", "model.options.width=0.5"],
            "not of the network that its configuration builds: conv1.weight has shape (4, 3, 3, 3) there and (8, ",
        ),
        (
            ["--run", "{run}", "model.name=resnet14"],
            "not of the network that its configuration builds: they lack 21 tensors, such as layer1.1.",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_message(trained_run, images, tmp_path, capsys, arguments, message):
    weights = tmp_path / "mine.safetensors"
    shutil.copy(checkpoint.newest(trained_run / "checkpoints") / "weights.safetensors", weights)
    last = checkpoint.newest(trained_run / "checkpoints")
    words = [a.format(run=trained_run, images=images, weights=weights, last=last) for a in arguments]
    assert main(["evaluate", *words]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors

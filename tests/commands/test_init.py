"""``ipu-train init``: answers become a configuration that loads, passes the early checks and runs."""

import builtins
import shlex
import sys

import pytest

from ipu_train import cli, config, early_checks
from ipu_train.commands import init


def run(*arguments):
    return cli.main(["init", *arguments])


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)


def folder(path, classes, images):
    for label in range(classes):
        (path / "train" / f"class{label}").mkdir(parents=True)
        for number in range(images):
            (path / "train" / f"class{label}" / f"{number}.png").write_bytes(b"")
    return path


def written(path="run.yaml"):
    resolved = config.load(path)
    early_checks.check(resolved)
    return resolved.config


def test_without_answers_it_is_the_quick_start():
    assert run() == 0
    ours, quick = written(), config.load("quickstart").config
    assert (ours.model, ours.optimizer, ours.training) == (quick.model, quick.optimizer, quick.training)
    assert ours.device.target == "emulator"


def test_a_folder_gives_its_classes_and_a_batch_that_it_fills(tmp_path):
    folder(tmp_path / "photos", 3, 40)
    assert run("--data", "photos", "--model", "resnet18", "--norm", "group") == 0
    ours = written()
    assert (ours.data.name, ours.data.path, ours.data.image_size) == ("imagefolder", "photos", 224)
    assert ours.model.num_classes is None
    assert ours.global_batch_size * 8 <= 96 < 120


def test_few_images_make_small_batches_at_a_rate_that_belongs_to_them(tmp_path):
    folder(tmp_path / "photos", 3, 8)
    assert run("--data", "photos", "--model", "resnet8") == 0
    ours, recipe = written(), config.load("quickstart").config
    assert ours.global_batch_size < recipe.global_batch_size
    per_image = recipe.optimizer.learning_rate / recipe.global_batch_size
    optimizer = ours.optimizer
    assert optimizer.learning_rate / optimizer.learning_rate_batch_size == pytest.approx(per_image)


@pytest.mark.parametrize("machine, replicas", [("pod4", 1), ("pod16", 4), ("pod64", 16), ("8", 2)])
def test_a_machine_is_filled_with_replicas_at_the_recipes_global_batch(machine, replicas):
    assert run("--data", "imagenet", "--classes", "1000", "--machine", machine) == 0
    ours = config.load("run.yaml").config
    assert ours.model.name == "resnet50" and ours.training.replicas == replicas
    assert ours.global_batch_size == 1024
    assert ours.training.gradient_accumulation >= 2 * ours.ipus_per_replica - 1 or machine == "pod64"


@pytest.mark.parametrize("norm", ["batch", "layer+pn", "instance", "none", "frn", "evonorm_s0"])
@pytest.mark.parametrize("model", ["resnet8", "resnet20v2", "resnext50_32x4d", "efficientnet_b1_g16"])
def test_any_network_and_norm_make_a_configuration(model, norm):
    assert run("--data", "cifar10", "--model", model, "--norm", norm) == 0
    ours = written().model
    assert (ours.name, ours.norm, ours.proxy_norm) == (model, norm.partition("+")[0], norm.endswith("+pn"))


def test_five_questions_are_asked_at_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    asked, answers = [], iter(["cifar100", "", "resnet20", "layer+pn", "pod4"])
    monkeypatch.setattr(builtins, "input", lambda question: asked.append(question) or next(answers))
    assert run("--output", "mine.yaml") == 0
    assert len(asked) == 5 and "[100]" in asked[1]
    ours = config.load("mine.yaml").config
    assert (ours.data.name, ours.model.name, ours.model.norm) == ("cifar100", "resnet20", "layer")


def test_answers_that_end_too_early_write_nothing(monkeypatch, capsys, tmp_path):
    def ended(question):
        raise EOFError

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(builtins, "input", ended)
    assert run() == 2
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "nowhere"], "say how many classes it has with --classes N"),
        (["--model", "renset50"], "did you mean resnet50?"),
        (["--norm", "grop"], "did you mean group?"),
        (["--norm", "none+pn"], "no such norm"),
        (["--machine", "many"], "must be emulator, pod4, pod16, pod64, or a whole number"),
        (["--classes", "3"], "digits has 10 classes"),
        (["--data", "imagenet", "--classes", "9", "--machine", "2"], "a replica of resnet50 takes 4 IPUs"),
        (["--output", "no/run.yaml"], "must be a file in a folder that exists"),
    ],
)
def test_answers_that_cannot_be_are_refused(arguments, message, capsys, tmp_path):
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(capsys):
    assert run() == 0 and run() == 2
    assert "is there already" in capsys.readouterr().err
    assert run("--force", "--norm", "batch") == 0
    assert written().model.norm == "batch"


def test_folders_without_classes_are_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run("--data", "empty") == 2
    assert "holds 0 class folders" in capsys.readouterr().err


def test_options_are_those_of_the_parser():
    assert {a.dest for a in init.parser()._actions} >= {
        "data",
        "classes",
        "model",
        "norm",
        "machine",
        "output",
    }


def test_what_to_type_next_can_be_typed_in_a_folder_with_a_space(tmp_path, capsys):
    (tmp_path / "my runs").mkdir()
    assert run("--output", "my runs/run.yaml") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    head = (tmp_path / "my runs" / "run.yaml").read_text().splitlines()[1]
    for line in (last, head.partition("# Command: ")[2]):
        assert shlex.split(line) == ["ipu-train", "--config", "my runs/run.yaml"]

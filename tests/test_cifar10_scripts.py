"""The scripts that train CIFAR-10 many times: a run that is done counts for what it was made with, and nothing else."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from ipu_train import config

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture
def script(monkeypatch):
    """A script as a module; it starts no training."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.setattr(module.subprocess, "run", lambda *args, **options: pytest.fail("trains"))
        return module

    return load


def done(folder, recipe, settings, epochs, accuracy=0.5):
    """A finished run, as far as the scripts read it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.load(recipe, [*settings, f"run_dir={folder}"]).dump())
    line = {"split": "validation", "epoch": epochs, "step": 1, "loss": 1.0, "accuracy": accuracy}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")


class Options:
    """Of a command line."""

    model, epochs, image_size, seed, data, settings = "resnet20v2", 4, 16, 0, "images", ()
    global_batch_size, validate_every, save_every, keep, regularisation = 128, 1, 195, 3, "none"
    replicas, images, variant = 2, "images", None

    def __init__(self, runs, **others):
        self.runs, self.results = str(runs), str(runs / "results")
        self.__dict__.update(others)


def test_a_trial_counts_at_its_own_image_size_only(script, tmp_path):
    tuning, trial = script("cifar10_tuning"), (0.1, 5e-4, None)
    options = Options(tmp_path)
    folder = tmp_path / "resnet20v2_batch_lr0.1_wd0.0005_e4_s0"
    done(folder, tuning.RECIPES["resnet20v2"]["batch"], tuning.settings_of(options, *trial), 4)
    assert tuning.run_trial(options, "batch", *trial)["accuracy"] == 0.5
    with pytest.raises(SystemExit, match="other settings .*image_size: 16 -> 32.*choose another --runs"):
        tuning.run_trial(Options(tmp_path, image_size=32), "batch", *trial)


def test_more_trials_than_there_are_are_refused(script, monkeypatch, capsys):
    tuning = script("cifar10_tuning")
    monkeypatch.setattr(sys, "argv", ["cifar10_tuning.py", "--data", "images", "--trials", "9"])
    with pytest.raises(SystemExit) as refused:
        tuning.main()
    assert refused.value.code == 2 and "--trials must be 1 to 8, not 9" in capsys.readouterr().err


def test_finalists_are_compared_at_the_length_of_the_trainings(script, tmp_path, monkeypatch):
    tuning = script("cifar10_tuning")
    options = Options(tmp_path, epochs=30)
    for (rate, size), accuracy in zip(tuning.FINALISTS["group+pn"], (0.75, 0.875)):
        folder = tmp_path / f"resnet20v2_group+pn_lr{rate:g}_wd0.0005_g{size}_e30_s0"
        settings = tuning.settings_of(options, rate, tuning.DECAY, size)
        done(folder, tuning.RECIPES["resnet20v2"]["group+pn"], settings, 30, accuracy)
    call = "cifar10_tuning.py --data images --epochs 30 --image-size 16 --finalists --norms group+pn --runs"
    monkeypatch.setattr(sys, "argv", [*call.split(), str(tmp_path), "--out", str(tmp_path / "finalists.md")])
    tuning.main()
    written = (tmp_path / "finalists.md").read_text()
    best, everything = written.split("## All trials")
    assert "2 trials for each norm" in best and "87.50" in best and "75.00" not in best
    assert "75.00" in everything and "87.50" in everything


def test_only_the_default_model_has_finalists(script, monkeypatch, capsys):
    tuning = script("cifar10_tuning")
    call = "cifar10_tuning.py --data images --finalists --model efficientnet_cifar_g16"
    monkeypatch.setattr(sys, "argv", call.split())
    with pytest.raises(SystemExit) as refused:
        tuning.main()
    assert refused.value.code == 2 and "not of efficientnet_cifar_g16" in capsys.readouterr().err


def test_a_training_is_recorded_as_it_was_made(script, tmp_path):
    trainings, cell = script("cifar10_trainings"), ("group", 64, 0)
    options = Options(tmp_path)
    name = trainings.name_of(options, *cell)
    done(tmp_path / name, trainings.recipe_of(options, "group"), trainings.settings_of(options, *cell), 4)
    other = Options(tmp_path, settings=["optimizer.learning_rate=0.7"])
    with pytest.raises(SystemExit, match="optimizer.learning_rate: .* -> 0.7"):
        trainings.train(other, *cell)
    assert not (tmp_path / "results").exists()
    trainings.train(options, *cell)
    assert json.loads((tmp_path / "results" / f"{name}.json").read_text())["accuracy"] == 0.5


def test_a_variant_of_a_recipe_is_recorded_under_a_name_of_its_own(script, tmp_path):
    trainings, cell = script("cifar10_trainings"), ("group", 64, 0)
    options = Options(tmp_path, variant="slow", settings=["optimizer.learning_rate=0.1"])
    name = "resnet20v2_group_b64_p16_e4_slow_s0"
    done(tmp_path / name, trainings.recipe_of(options, "group"), trainings.settings_of(options, *cell), 4)
    trainings.train(options, *cell)
    assert json.loads((tmp_path / "results" / f"{name}.json").read_text())["variant"] == "slow"


def test_a_cell_of_the_table_is_of_its_global_batch(script, tmp_path):
    norms, options = script("cifar10_norms"), Options(tmp_path)
    settings = norms.settings_of(options, "group", 8, 0)
    done(norms.folder_of(options, "resnet20", "group", 8, 0), norms.RECIPES["resnet20"], settings, 4)
    cell = (0, "resnet20", 8, "group")
    assert norms.train(options, cell, float("inf")) is False
    with pytest.raises(SystemExit, match="gradient_accumulation: 8 -> 16"):
        norms.train(Options(tmp_path, global_batch_size=256), cell, float("inf"))


def test_a_cell_of_the_table_is_of_its_number_of_images(script, tmp_path):
    norms, options = script("cifar10_norms"), Options(tmp_path, images=str(tmp_path / "images_500_100"))
    settings = norms.settings_of(options, "group", 8, 0)
    done(norms.folder_of(options, "resnet20", "group", 8, 0), norms.RECIPES["resnet20"], settings, 4)
    cell = (0, "resnet20", 8, "group")
    assert norms.train(options, cell, float("inf")) is False
    moved = Options(tmp_path, images="elsewhere/images_500_100")
    assert norms.train(moved, cell, float("inf")) is False
    for images in ("elsewhere/images_50_100", "cifar10"):
        with pytest.raises(SystemExit, match="images_500_100, not .*choose another --runs"):
            norms.train(Options(tmp_path, images=images), cell, float("inf"))

"""What can be known without torch is refused without torch, with the place where it is written."""

import os
import subprocess
import sys

import pytest

from ipu_train import cli, early_checks, trainer
from ipu_train.config import ConfigError, load
from ipu_train.training import run_folder


def refusal(*overrides):
    with pytest.raises(ConfigError) as caught:
        early_checks.check(load("quickstart", overrides))
        early_checks.check_weights(load("quickstart", overrides))
    return str(caught.value)


FOLDER = ("data.name=imagefolder",)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            (*FOLDER, "data.path=nowhere"),
            'override "data.path=nowhere": data.path: nowhere: there is no such folder',
        ),
        ((*FOLDER, "data.path=file"), "data.path: file: is a file"),
        ((*FOLDER, "data.path=.", "data.train_split=no"), "data.train_split: no: there is no such folder"),
        (("run_dir=file",), "run_dir: file: is a file; name a folder"),
        (("run_dir=file/a/b",), "so no folder can be made in it"),
        ((*FOLDER, "data.path=empty"), "data.path: empty: holds no class folders"),
        ((*FOLDER, "data.path=shards"), "what lies there is read with data.name=webdataset"),
        ((*FOLDER, "data.path=pack"), "what lies there is read with data.name=packed"),
        (("data.name=packed", "data.path=empty"), "data.path: empty: holds no pack.json"),
        (("data.name=webdataset", "data.path=empty"), "data.path: empty: holds no shards (*.tar)"),
        (("run_dir=/proc/x",), "run_dir: /proc/x: nothing can be written in /proc"),
        (("model.weights=empty",), "model.weights: no checkpoint in the folder empty"),
        (("model.weights=file",), "model.weights: file: is no file of weights"),
        (("model.weights=half.safetensors",), "is no safetensors file, or only the beginning of one"),
        (("model.weights=no.pth",), "model.weights: no.pth: there is no such file or folder"),
        (("data.name=cifar10", "data.path=file"), "data.path: file: is a file"),
        (("run_dir=~no-body/x",), "run_dir: ~no-body/x: no home folder is known for ~no-body; name a folder"),
        (("device.profile=~no-body/x",), "device.profile: ~no-body/x: no home folder is known for ~no-body"),
        (("data.name=cifar10", "data.path=~no-body"), "data.path: ~no-body: no home folder is known"),
        ((*FOLDER, "data.path=~no-body/x"), "data.path: ~no-body/x: there is no such folder"),
        (("model.weights=~no-body/x.pth",), "model.weights: ~no-body/x.pth: there is no such file or folder"),
        (
            ("training.gradient_accumulation=200",),
            "training.gradient_accumulation: the 1,797 images do not fill",
        ),
        (
            ("data.name=cifar10", "training.device_iterations=2000"),
            "training.device_iterations: the 50,000 images",
        ),
    ],
)
def test_what_cannot_be_used_is_named(overrides, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "train-000000.tar").write_bytes(b"")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "pack.json").write_text("{}")
    (tmp_path / "half.safetensors").write_bytes(b"\xff\0\0\0\0\0\0\0{")
    assert message in refusal(*overrides)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    assert "nothing can be written in" in refusal(f"run_dir={tmp_path / 'shut' / 'run'}")


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("data.image_size=4000",), "data.image_size: 1,797 images of 4000 x 4000 pixels take 29 GB"),
        (
            ("data.name=generated", "data.num_classes=90000", "data.image_size=1000"),
            "data.num_classes: 90,000 classes",
        ),
        (
            ("data.name=synthetic", "data.image_size=1000", "validation.micro_batch_size=60000"),
            "validation.micro_batch_size: one call of the device takes 120,000 images",
        ),
    ],
)
def test_sizes_beyond_the_machine_are_refused(overrides, message, monkeypatch):
    monkeypatch.setattr(early_checks, "machine_memory", lambda: 16 * 10**9)
    assert message in refusal(*overrides)


def test_recipes_pass_where_their_data_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet" / "train" / "n01440764").mkdir(parents=True)
    for name in ("quickstart", "resnet50_gn_pn", "cifar10_resnet20_bn", "efficientnet_b5_gn"):
        early_checks.check(load(name))


@pytest.mark.parametrize(
    "override",
    [
        "run_dir=/dev/null",
        "model.weights=no.pth",
        "model.norm=grop",
        "data.workers=100000",
        "model.options.widht=2",
    ],
)
def test_a_refusal_imports_neither_torch_nor_numpy(override):
    code = (
        "import sys; from ipu_train.cli import main\n"
        f"status = main(['--config', 'quickstart', {override!r}])\n"
        "assert status == 2, status\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "override, message",
    [
        ("model.options.width=1000", "it must be at most 64"),
        ("model.options.width=1e300", "it must be at most 64"),
        ("model.options.zero_init=3", "zero_init must be true or false; got 3"),
        ("model.norm_groups=7", "into 7 groups"),
        ("model.options.width=0.001", "at least one channel"),
        ("model.options.widht=2", "did you mean"),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_its_weights_are_made(override, message, capsys):
    assert cli.main(["config", "--config", "quickstart", override]) == 2
    assert message in capsys.readouterr().err


def test_a_network_beyond_any_memory_is_refused_before_its_weights_are_made(capsys):
    large = ["model.name=resnext101_32x4d", "model.norm_groups=null", "model.options.width=64"]
    assert cli.main(["config", "--config", "quickstart", *large]) == 2
    assert "parameters; make it smaller" in capsys.readouterr().err


def test_a_run_that_goes_on_does_not_ask_for_the_weights_that_it_began_with(tmp_path, monkeypatch, capsys):
    """They are in its checkpoint, times many updates; the file may have gone since."""
    monkeypatch.chdir(tmp_path)
    begun = load("quickstart", ["run_dir=run", "model.weights=gone.pth"])
    with run_folder.Claim(run_folder.place(begun), begun) as claim:
        claim.has_begun = True
        saved = claim.folder.checkpoints / "step_00000002"
        saved.mkdir()
        (saved / "state.json").write_text("{}")
    taken_up = []
    monkeypatch.setattr(
        trainer, "train_in", lambda *of, resume: taken_up.append(resume) or trainer.Outcome(0, None, 0.0)
    )
    words = ["--config", "run/config.yaml"]
    assert cli.main([*words, "--resume"]) == cli.main([*words, "checkpoint.resume=run"]) == 0
    assert taken_up == [True, False]
    assert cli.main([*words, "run_dir=another"]) == 2
    assert "model.weights: gone.pth: there is no such file or folder" in capsys.readouterr().err
    assert len(taken_up) == 2

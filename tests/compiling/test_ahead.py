"""``ipu-train compile``: what is compiled is what a training runs, and what cannot be is said."""

from pathlib import Path

import pytest
import torch

import ipu_train.emulator as poptorch
from ipu_train import cli, device
from ipu_train.commands.compile import nothing_new
from ipu_train.compiling.ahead import OfflineInstance
from ipu_train.config import load_text
from ipu_train.processes.alone import ALONE

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
training: {micro_batch_size: 2, replicas: 4, epochs: 1}
device: {threads: 1}
"""


@pytest.fixture()
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def compile_(recipe, *arguments):
    return cli.main(["compile", "--config", str(recipe), *arguments])


def test_on_the_emulator_everything_up_to_the_compiler_is_checked_and_nothing_written(recipe, capsys):
    assert compile_(recipe, "--instances", "2") == 0
    told = capsys.readouterr().out
    assert "training program captured and checked" in told and "validation program captured" in told
    assert "nothing was written: the emulator has no executables" in told
    assert [path.name for path in recipe.parent.iterdir()] == ["tiny.yaml"]


def test_what_poptorch_refuses_is_told_without_ipus(recipe, capsys):
    assert compile_(recipe, "device.pipeline_splits=[layer2]") == 2
    assert "PopTorch cannot compile the training program" in capsys.readouterr().err


def test_images_need_not_be_here(recipe, capsys):
    data = ["data.name=imagefolder", "data.path=nowhere", "data.image_size=32", "data.length=null"]
    data += ["data.num_classes=null", "data.augment=none", "validation.every_epochs=0"]
    assert compile_(recipe, *data, "model.num_classes=5") == 0
    told = capsys.readouterr().out
    assert "the images are not here" in told and "compiled for 5 classes" in told


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--instances", "3"], "4 replicas (training.replicas) cannot be shared out among 3 instances"),
        (["--instances", "0"], "--instances must be at least 1"),
        (["device.target=ipu_model", "device.threads=null"], "nothing can be compiled ahead for it"),
        (
            ["--instances", "2", "model.norm=sync_batch", "model.norm_groups=null", "model.proxy_norm=false"],
            "makes 4 replicas share their statistics, and a process has 2 of the 4",
        ),
        (["--instances", "4", "device.replicated_tensor_sharding=true"], "each process has one"),
    ],
)
def test_bad_input_is_one_message_and_exit_status_2(recipe, arguments, message, capsys):
    assert compile_(recipe, *arguments) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_a_gpu_that_is_not_there_is_told_as_a_training_tells_it(recipe, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compile_(recipe, "device.compute=cuda") == 2
    assert "torch finds no CUDA device that it can use" in capsys.readouterr().err


def test_the_options_are_those_of_the_training_but_for_the_target():
    """The executable cache knows a program by its options; the target, and who of several asks, are no part of it."""
    cfg = load_text(RECIPE, Path("x.yaml"), ["device.prefetch_depth=2", "training.replicas=2"]).config
    for make in (
        lambda process: device.training_options(poptorch, cfg, False, processes=process),
        lambda process: device.validation_options(poptorch, cfg, process),
    ):
        ahead, run = make(OfflineInstance(1, 2)).toDict(), make(ALONE).toDict()
        assert ahead.pop("ipu_version") == 2
        assert ahead.pop("connection_type") == poptorch.ConnectionType.Never
        run.pop("connection_type")
        assert ahead == run


def test_an_instance_of_several_has_its_share_of_the_replicas():
    options = OfflineInstance(4, 2).options(poptorch, 1, 16)
    assert options.replication_factor == 4
    assert (options.Distributed.numProcesses, options.Distributed.processId) == (4, 0)


@pytest.mark.parametrize("known, said", [(2, "the programs were there"), (0, "wrote no executable")])
def test_a_cache_without_new_files_is_not_said_to_hold_the_programs_unless_it_does(known, said):
    assert said in nothing_new("cache", known)

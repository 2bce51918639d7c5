"""Synchronised batch norm over replicas is batch norm over their micro-batches together."""

import json

import pytest
import torch
from safetensors.torch import load_file

from ipu_train import config, device, trainer
from ipu_train.data import open_data
from ipu_train.training import checkpoint
from ipu_train.training.assembly import assemble

RECIPE = """
model: {name: resnet8, norm: batch, options: {width: 0.25}}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
optimizer: {momentum: 0.9}
training: {epochs: 2, micro_batch_size: 8, gradient_accumulation: 2, replicas: 1, seed: 1}
logging: {every_steps: 1, progress: false, plots: false}
device: {threads: 1}
"""


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def run(recipe, folder, *overrides):
    trainer.train(config.load(recipe, [*overrides, f"run_dir={folder}"]))
    state = load_file(str(checkpoint.newest(folder / "checkpoints") / "weights.safetensors"))
    return state, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def synchronised(micro_batch_size, replicas, *more):
    sizes = [f"training.micro_batch_size={micro_batch_size}", f"training.replicas={replicas}"]
    return ["model.norm=sync_batch", *sizes, *more]


def assert_alike(one, other, names=lambda name: True):
    for name, value in one.items():
        if names(name) and value.is_floating_point():
            torch.testing.assert_close(other[name], value, rtol=0, atol=2e-5, msg=name)


def test_all_replicas_together_train_as_one_batch(recipe, tmp_path):
    whole, metrics = run(recipe, tmp_path / "whole")
    split, others = run(recipe, tmp_path / "split", *synchronised(2, 4))
    assert_alike(whole, split)
    for a, b in zip(metrics, others):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-4)
    alone, _ = run(recipe, tmp_path / "alone", *synchronised(2, 4), "model.norm=batch")
    assert (alone["conv1.weight"] - whole["conv1.weight"]).abs().max() > 1e-3


def test_groups_of_replicas_train_as_that_many_replicas(recipe, tmp_path):
    fewer, _ = run(recipe, tmp_path / "fewer", "training.micro_batch_size=4", "training.replicas=2")
    grouped, _ = run(recipe, tmp_path / "grouped", *synchronised(2, 4, "model.norm_replicas=2"))
    assert_alike(fewer, grouped, lambda name: "running" not in name)


def test_evonorm_b0_trains_on_replicas_as_it_does_on_as_many_micro_batches(recipe, tmp_path):
    """Each replica has its own batch variance, as each micro-batch has; only the running averages differ."""
    evonorm = ["model.norm=evonorm_b0", "training.micro_batch_size=4"]
    one, _ = run(recipe, tmp_path / "one", *evonorm, "training.gradient_accumulation=4")
    two, _ = run(recipe, tmp_path / "two", *evonorm, "training.replicas=2")
    assert_alike(one, two, lambda name: "running" not in name)
    assert (two["norm1.running_var"] - 1).abs().max() > 0.1


def test_groups_must_divide_the_replicas(recipe):
    with pytest.raises(config.ConfigError, match=r"model\.norm_replicas: is 3 and must divide 4 replicas"):
        config.load(recipe, synchronised(2, 4, "model.norm_replicas=3"))


def test_hardware_refuses_it_and_says_why(recipe, monkeypatch):
    resolved = config.load(recipe, synchronised(2, 4))
    poptorch, _ = device.choose(resolved.config)
    monkeypatch.setattr(device, "is_emulated", lambda poptorch: False)
    source = open_data(resolved.config.data, 1)
    with pytest.raises(
        config.ConfigError, match=r"model\.norm: sync_batch runs on the embedded emulator only"
    ):
        assemble(resolved, poptorch, source)

"""Runs cut anywhere and resumed equal uninterrupted ones, whatever is drawn, scaled or averaged."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ipu_train import config, trainer
from ipu_train.training import checkpoint

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
optimizer: {momentum: 0.9, weight_decay: 1e-3}
training: {epochs: 2, micro_batch_size: 4, gradient_accumulation: 2, replicas: 2, seed: 3}
checkpoint: {every_steps: 1, keep: 99}
logging: {progress: false, plots: false, every_steps: 1}
device: {threads: 1}
"""
MIXED = ["training.mixup_alpha=0.3", "training.cutmix_lambda=0.7"]
CASES = {
    "mixup and CutMix": MIXED,
    "stepped loss scaling": ["optimizer.loss_scaling=4", "optimizer.loss_scaling_epochs=[0.5, 1.25]"],
    "automatic loss scaling": ["optimizer.automatic_loss_scaling=true", "training.precision=16.32"],
    "weight standardisation": ["model.options.weight_standardisation=true", "averaging.name=mean"],
    "synchronised batch norm": ["model.norm=sync_batch", "model.norm_groups=null", *MIXED],
    "part of the network": ["model.train_only=[layer2, layer3, fc]", "optimizer.name=rmsprop"],
}


def run(folder, recipe, overrides, resume=False):
    trainer.train(config.load(recipe, [*overrides, f"run_dir={folder}"]), resume=resume)
    return load_file(str(checkpoint.newest(folder / "checkpoints") / "weights.safetensors"))


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_the_uninterrupted_one(case, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    whole = run(tmp_path / "whole", recipe, CASES[case])
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for path in checkpoint.list_checkpoints(tmp_path / "cut" / "checkpoints")[3:]:
        shutil.rmtree(path)
    resumed = run(tmp_path / "cut", recipe, CASES[case], resume=True)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
    pairs = [checkpoint.list_checkpoints(tmp_path / run / "checkpoints") for run in ("whole", "cut")]
    assert [path.name for path in pairs[0]] == [path.name for path in pairs[1]]
    for paths in zip(*pairs):
        one, other = (load_file(str(path / "optimizer.safetensors")) for path in paths)
        for name, value in one.items():
            assert torch.equal(other[name], value), (paths[0].name, name)


def test_checkpoints_have_the_hyper_parameters_that_the_device_was_told(tmp_path):
    """Also those after a validation, for which the training program gives up the device and comes back."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    run(tmp_path / "run", recipe, CASES["stepped loss scaling"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["learning_rate"] for line in lines if line["split"] == "train"}
    for step in range(1, 9):
        path = tmp_path / "run" / "checkpoints" / f"step_{step:08d}"
        sent = load_file(str(path / "optimizer.safetensors"))
        scaling = 4 * 2 ** sum(step > at for at in (2, 5))  # four steps an epoch
        assert sent["ipu_param/lossScaling_FLOAT"].item() == scaling
        rate = sent["ipu_param/scaledLearningRate2___specific___network.conv1.weight"].item() * scaling
        assert rate == pytest.approx(rates[step])
    assert len(set(rates.values())) == 8


class TestCheckpointsOfEarlierVersions:
    """They had SGD's velocity without the loss scaling, float16 state as float32, and other hyper-parameters."""

    SCALED = [
        "optimizer.loss_scaling=16",
        "optimizer.velocity_accum_type=float16",
        "training.precision=16.32",
    ]

    @staticmethod
    def as_before(tensors):
        before = {name: value for name, value in tensors.items() if not name.startswith("ipu_param/")}
        before["ipu_param/lossScaling_FLOAT"] = torch.tensor(16.0)
        for name, value in tensors.items():
            if name.startswith("ipu_state/Accl1___"):
                assert value.dtype == torch.float16
                before[name] = value.float() / 16
                weight = name.split("___")[1]
                before[f"ipu_param/scaledLearningRate0___specific___{weight}"] = torch.ones(())
        assert len(before) < len(tensors)  # four hyper-parameters a weight at present, one then
        return before

    def test_they_are_taken_up_as_if_they_were_of_this_one(self, tmp_path, monkeypatch, capsys):
        recipe = tmp_path / "tiny.yaml"
        recipe.write_text(RECIPE)
        whole = run(tmp_path / "whole", recipe, self.SCALED)
        shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        for path in checkpoint.list_checkpoints(tmp_path / "cut" / "checkpoints")[3:]:
            shutil.rmtree(path)
        loading = checkpoint.load
        converted = []

        def load(folder):
            saved = loading(folder)
            converted.append(self.as_before(saved.optimizer))
            return saved._replace(optimizer=converted[-1])

        monkeypatch.setattr(checkpoint, "load", load)
        resumed = run(tmp_path / "cut", recipe, self.SCALED, resume=True)
        assert converted
        said = capsys.readouterr().err
        assert "not bit-exact, because SGD's velocity is scaled as the loss is" in said
        for name, value in whole.items():
            assert torch.equal(resumed[name], value), name

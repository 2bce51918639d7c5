"""What the host does of a weight update: Proxy Norm's statistics once for each update, and LARS."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ipu_train import config, emulator, trainer
from ipu_train.data import EpochSampler, open_data
from ipu_train.emulator.device.optimizer import ModelOptimizer
from ipu_train.models import build, weight_decay_exempt
from ipu_train.training import checkpoint

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, proxy_norm: true, options: {width: 0.5, zero_init: false}}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
optimizer: {learning_rate: 0.1}
schedule: {name: cosine, warmup_epochs: 1}
training: {epochs: 2, micro_batch_size: 4, gradient_accumulation: 2, replicas: 2, label_smoothing: 0.1, seed: 3}
logging: {every_steps: 1, progress: false, plots: false}
device: {threads: 1}
"""
OPTIMIZERS = {
    "sgd": ["optimizer.weight_decay=0.1"],
    "momentum": ["optimizer.momentum=0.9", "optimizer.nesterov=true", "optimizer.weight_decay=0.01"],
    "combined": ["optimizer.momentum=0.9", "optimizer.use_combined_accum=true"],
    "rmsprop": [
        "optimizer.name=rmsprop", "optimizer.learning_rate=0.01", "optimizer.momentum=0.9", "optimizer.alpha=0.9",
        "optimizer.eps=1e-3", "optimizer.use_tf_variant=true", "optimizer.weight_decay=0.01",
    ],
    "rmsprop of torch": ["optimizer.name=rmsprop", "optimizer.learning_rate=0.003", "optimizer.eps=1e-3"],
    "adamw": ["optimizer.name=adamw", "optimizer.learning_rate=0.003", "optimizer.eps=1e-4"],
}  # fmt: skip
PER_UPDATE = "model.proxy_norm_statistics=per_update"


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def run(recipe, folder, *overrides, resume=False):
    return trainer.train(config.load(recipe, [*overrides, f"run_dir={folder}"]), resume=resume)


def records(folder, split="train"):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in found if record["split"] == split]


def final_weights(folder):
    return load_file(str(checkpoint.newest(folder / "checkpoints") / "weights.safetensors"))


def assert_same_training(one, other, tolerance):
    for a, b in zip(records(one), records(other)):
        assert b["loss"] == pytest.approx(a["loss"], abs=tolerance)
    for a, b in zip(records(one, "validation"), records(other, "validation")):
        assert b["loss"] == pytest.approx(a["loss"], abs=tolerance)
    weights, others = final_weights(one), final_weights(other)
    assert set(weights) == set(others)
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_statistics_once_per_update_train_identically(recipe, tmp_path, optimizer):
    run(recipe, tmp_path / "each", *OPTIMIZERS[optimizer])
    run(recipe, tmp_path / "once", *OPTIMIZERS[optimizer], PER_UPDATE)
    assert_same_training(tmp_path / "each", tmp_path / "once", 2e-5)


@pytest.mark.parametrize("shape", [(16, 1, 1), (2, 8, 1), (2, 1, 8)])
def test_they_do_so_for_every_accumulation_and_replication(recipe, tmp_path, shape):
    names = ("micro_batch_size", "gradient_accumulation", "replicas")
    overrides = [f"training.{name}={value}" for name, value in zip(names, shape)]
    overrides += [*OPTIMIZERS["momentum"], "optimizer.loss_scaling=128", "device.fuse_micro_batches=off"]
    run(recipe, tmp_path / "each", *overrides)
    run(recipe, tmp_path / "once", *overrides, PER_UPDATE)
    assert_same_training(tmp_path / "each", tmp_path / "once", 2e-5)


def test_held_statistics_are_not_counted_among_the_network_s_parameters(recipe, tmp_path, capsys):
    network = build("resnet8", num_classes=4, norm="group", norm_groups=4, proxy_norm=True, width=0.5)
    run(recipe, tmp_path / "run", PER_UPDATE, "training.epochs=1")
    assert f" {sum(p.numel() for p in network.parameters()):,} parameters" in capsys.readouterr().err


def test_proxy_parameters_move_and_decay(recipe, tmp_path):
    run(recipe, tmp_path / "free", PER_UPDATE)
    run(recipe, tmp_path / "decayed", PER_UPDATE, "optimizer.weight_decay=1")
    free, decayed = final_weights(tmp_path / "free"), final_weights(tmp_path / "decayed")
    for name in (n for n in free if n.endswith(("proxy_beta", "proxy_gamma"))):
        assert free[name].abs().max() > 1e-5
        assert decayed[name].norm() < free[name].norm()


@pytest.mark.parametrize(
    "overrides", [[PER_UPDATE, *OPTIMIZERS["rmsprop"]], ["optimizer.name=lars", PER_UPDATE]]
)
def test_a_resumed_run_equals_the_uninterrupted_one(recipe, tmp_path, overrides, monkeypatch):
    overrides = [*overrides, "checkpoint.every_steps=1", "checkpoint.keep=99"]
    run(recipe, tmp_path / "whole", *overrides)
    run(recipe, tmp_path / "cut", *overrides)
    for path in checkpoint.list_checkpoints(tmp_path / "cut" / "checkpoints")[3:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    run(recipe, tmp_path / "cut", *overrides, resume=True)
    for name, value in final_weights(tmp_path / "whole").items():
        assert torch.equal(final_weights(tmp_path / "cut")[name], value), name


def test_averages_and_half_precision_go_with_it(recipe, tmp_path):
    overrides = ["training.precision=16.32", "averaging.name=exponential", *OPTIMIZERS["momentum"]]
    run(recipe, tmp_path / "each", *overrides)
    run(recipe, tmp_path / "once", *overrides, PER_UPDATE)
    for a, b in zip(records(tmp_path / "each", "validation"), records(tmp_path / "once", "validation")):
        assert b["averaged_loss"] == pytest.approx(a["averaged_loss"], abs=3e-3)  # float16 activations


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["training.device_iterations=2"], "model.proxy_norm_statistics: per_update updates Proxy Norm's"),
        (["optimizer.name=lamb"], "lamb does not let the host read gradients"),
        (["optimizer.max_grad_norm=1"], "remove max_grad_norm"),
        (["training.precision=16.16"], "choose training.precision 16.32 or 32.32"),
        (["optimizer.name=lars", "training.device_iterations=2"], "optimizer.name: lars updates the weights"),
    ],
)
def test_what_it_cannot_do_is_refused(recipe, overrides, message):
    with pytest.raises(config.ConfigError, match=message):
        config.load(recipe, [PER_UPDATE, *overrides])


def lars_by_hand(recipe):
    """The final weights of the recipe under LARS, as algorithm 1 of You et al. 2017 writes it."""
    cfg = config.load(recipe).config
    source = open_data(cfg.data, cfg.training.seed)
    torch.manual_seed(cfg.training.seed)
    network = build(
        "resnet8", num_classes=4, norm="group", norm_groups=4, width=0.5, zero_init=False
    ).double()
    mean, std = (torch.tensor(v).view(1, -1, 1, 1).double() for v in (source.mean, source.std))
    sampler, velocity = EpochSampler(64, 3, 16), {}
    for epoch in range(2):
        sampler.set_position(epoch, 0)
        keys = list(sampler)
        for at in range(0, 64, 16):
            images, labels = source.train.batch(keys[at : at + 16])
            logits = network((images.double() / 255 - mean) / std)
            network.zero_grad()
            F.cross_entropy(logits, labels, label_smoothing=0.1).backward()
            with torch.no_grad():
                for name, w in network.named_parameters():
                    decay = 0.0 if weight_decay_exempt(name, w) else 1e-3
                    local = 0.1
                    if decay and w.norm() > 0:
                        local *= 0.05 * w.norm() / (w.grad.norm() + decay * w.norm())
                    step = local * (w.grad + decay * w)
                    velocity[name] = 0.9 * velocity.get(name, 0) + step
                    w -= velocity[name]
    return network.state_dict()


def test_lars_is_the_papers_algorithm(recipe, tmp_path):
    overrides = [
        "optimizer.name=lars", "optimizer.learning_rate=0.1", "optimizer.weight_decay=1e-3",
        "optimizer.trust_coefficient=0.05", "schedule.name=constant", "schedule.warmup_epochs=0",
    ]  # fmt: skip
    run(recipe, tmp_path / "run", *overrides)
    expected = lars_by_hand(recipe)
    for name, value in final_weights(tmp_path / "run").items():
        torch.testing.assert_close(value.double(), expected[name], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    "overrides, state_reads",
    [
        (["optimizer.name=lars"], 0),
        ([PER_UPDATE], 0),
        ([PER_UPDATE, "optimizer.momentum=0.9"], 8),
    ],
    ids=["lars", "without momentum", "momentum"],
)
def test_optimizer_state_is_read_back_only_where_there_is_some(
    recipe, tmp_path, monkeypatch, overrides, state_reads
):
    """PopTorch reads the optimizer's state before it writes weights: a transfer of everything in each update."""
    reads = []
    executor = emulator.PoplarExecutor
    read, detach = ModelOptimizer._read_state, executor.detachFromDevice

    def counted(self):
        reads.append(self)
        read(self)

    def uncounted(self):  # detaching brings everything home, once an epoch
        before = list(reads)
        detach(self)
        reads[:] = before

    monkeypatch.setattr(ModelOptimizer, "_read_state", counted)
    monkeypatch.setattr(executor, "detachFromDevice", uncounted)
    run(recipe, tmp_path / "run", *overrides)
    assert len(records(tmp_path / "run")) == 8
    assert len(reads) == state_reads

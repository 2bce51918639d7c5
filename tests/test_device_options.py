"""What the keys of the section device become in PopTorch's options, and what a run with them computes."""

import json
from pathlib import Path

import pytest

import ipu_train.emulator as poptorch
from ipu_train import cli, config, device
from ipu_train.config import load_text

BASE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 32, image_size: 8, num_classes: 4}
optimizer: {learning_rate: 0.1}
training: {epochs: 1, micro_batch_size: 2, gradient_accumulation: 2, replicas: 2, device_iterations: 4}
validation: {every_epochs: 0}
logging: {every_steps: 1, progress: false, plots: false}
device: {threads: 1}
"""


def options(*overrides, validation=False):
    cfg = load_text(BASE, Path("x.yaml"), overrides).config
    if validation:
        return device.validation_options(poptorch, cfg)
    return device.training_options(poptorch, cfg, fuse_micro_batches=False)


def test_each_key_makes_the_call_that_poptorch_has_for_it():
    found = options(
        "device.prefetch_depth=3",
        "device.activation_offload=true",
        "device.weight_offload=true",
        "device.fp_exceptions=true",
        "device.sync_pattern=replica_and_ladder",
        "device.output_mode=every_n",
        "device.output_every=2",
        "device.session_options.enableStableNorm=true",
        "device.engine_options.opt.internalExchangeOptimisationTarget=memory",
        "training.precision=16.32",
        "training.stochastic_rounding=true",
        "device.deterministic_workers=true",
    )
    popart = found._Popart.options
    assert popart["defaultPrefetchBufferingDepth"] == 3
    assert popart["enableStableNorm"] is True
    assert popart["engineOptions"] == {
        "opt.internalExchangeOptimisationTarget": "memory",
        "target.deterministicWorkers": "true",
    }
    assert found.TensorLocations.location_activation == {"onChip": 0}
    assert found.TensorLocations.location_weight == {"onChip": 0}
    assert found.Precision.floating_point_exceptions
    assert found.sync_pattern == poptorch.SyncPattern.ReplicaAndLadder
    assert (found.output_mode, found.output_return_period) == (poptorch.OutputMode.EveryN, 2)


def test_io_tiles_need_the_strategy_that_overlaps_and_are_the_training_programs_alone():
    found = options("device.io_tiles=64")
    assert isinstance(found._execution_strategy, poptorch.ShardedExecution)
    assert found.TensorLocations.num_io_tiles == 64
    assert options("device.io_tiles=64", validation=True).TensorLocations.num_io_tiles == 0


def test_replicas_that_round_at_random_round_alike():
    halves = ("training.precision=16.32", "training.stochastic_rounding=true")
    assert options(*halves)._Popart.options["engineOptions"] == {"target.deterministicWorkers": "portable"}
    assert "engineOptions" not in options(*halves, "training.replicas=1")._Popart.options
    assert "engineOptions" not in options()._Popart.options


def test_outputs_of_every_mode_are_asked_for():
    for mode, name in (("sum", "Sum"), ("all", "All"), ("final", "Final")):
        assert options(f"device.output_mode={mode}").output_mode == getattr(poptorch.OutputMode, name)


@pytest.fixture()
def train(tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(BASE)

    def run(name, *overrides):
        folder = tmp_path / name
        status = cli.main(["--config", str(path), f"run_dir={folder}", *overrides])
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return status, folder, [line["loss"] for line in lines], capsys.readouterr().err

    return run


def weights_of(folder):
    return next((folder / "checkpoints").rglob("weights.safetensors")).read_bytes()


def test_overlapped_transfers_and_ways_of_returning_losses_change_no_training(train):
    _, plain, losses, _ = train("plain")
    for name in ("io_tiles=32", "output_mode=all"):  # every micro-batch counts
        status, folder, found, _ = train(name, f"device.{name}")
        assert status == 0
        assert found == pytest.approx(losses, rel=1e-6)
        assert weights_of(folder) == weights_of(plain)


def test_losses_of_some_micro_batches_are_means_of_those(train):
    """A learning rate of nothing leaves the weights alone: two calls of one update give what one call of two mixes."""
    still = ["optimizer.learning_rate=1e-30", "training.gradient_accumulation=1", "data.length=8"]
    _, _, apart, _ = train("apart", *still, "training.device_iterations=1")
    assert len(apart) == 2
    _, _, both, _ = train("both", *still, "training.device_iterations=2")
    assert both == pytest.approx([sum(apart) / 2])
    for mode in (["final"], ["every_n", "device.output_every=2"]):
        chosen = [f"device.output_mode={mode[0]}", *mode[1:]]
        _, _, last, _ = train(mode[0], *still, "training.device_iterations=2", *chosen)
        assert last == pytest.approx([apart[1]]) and apart[1] != apart[0]


def test_made_up_data_leaves_no_checkpoint_and_says_so(train):
    status, folder, _, told = train("noise", "device.synthetic_data=true")
    assert status == 0
    assert not list((folder / "checkpoints").rglob("weights.safetensors"))
    assert "images/s is all that means anything here" in told


def test_an_exception_of_the_device_ends_the_run_as_a_divergence(train, capsys):
    status, _, losses, told = train(
        "overflow", "device.fp_exceptions=true", "training.precision=16.16", "optimizer.loss_scaling=1e9"
    )
    assert status == 4
    assert losses[-1] is None
    assert "The device stopped" in told and "Traceback" not in told


def test_recipes_take_them(tmp_path):
    resolved = config.load(
        "resnet50_gn_pn", ["device.sync_pattern=single_pipeline", "device.prefetch_depth=3"]
    )
    assert resolved.config.device.sync_pattern == "single_pipeline"

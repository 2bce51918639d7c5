"""A whole run through the trainer: what it computes, what it leaves behind, and that stopping loses nothing."""

import copy
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import ipu_train.trainer as trainer
from ipu_train import config
from ipu_train.data import EpochSampler, open_data
from ipu_train.models import build, weight_decay_exempt
from ipu_train.training import checkpoint

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, proxy_norm: true, options: {width: 0.25}}
data: {name: generated, length: 96, image_size: 8, num_classes: 4}
optimizer: {learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-3}
schedule: {name: cosine, warmup_epochs: 1}
training: {epochs: 2, micro_batch_size: 4, gradient_accumulation: 2, replicas: 2, label_smoothing: 0.1, seed: 3}
logging: {every_steps: 1, progress: false, plots: false}
device: {threads: 1}
"""


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def run(recipe, folder, *overrides, resume=False):
    return trainer.train(config.load(recipe, [*overrides, f"run_dir={folder}"]), resume=resume)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def final_weights(folder):
    return load_file(str(checkpoint.newest(folder / "checkpoints") / "weights.safetensors"))


def by_hand(recipe, epochs=2, left_out=()):
    """The same run as a loop in plain torch: losses of every step and the final weights.

    The weight updates ``left_out`` (from 1) are not made, as if their images had never come.
    """
    cfg = config.load(recipe).config
    source = open_data(cfg.data, cfg.training.seed)
    torch.manual_seed(cfg.training.seed)
    network = build(
        "resnet8", num_classes=4, norm="group", norm_groups=4, proxy_norm=True, width=0.25, in_channels=3
    )
    decaying = [p for n, p in network.named_parameters() if not weight_decay_exempt(n, p)]
    exempt = [p for n, p in network.named_parameters() if weight_decay_exempt(n, p)]
    optimizer = torch.optim.SGD(
        [{"params": decaying, "weight_decay": 1e-3}, {"params": exempt}], lr=0.1, momentum=0.9
    )
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (source.mean, source.std))
    sampler, losses, step = EpochSampler(96, 3, 16), [], 0
    for epoch in range(epochs):
        sampler.set_position(epoch, 0)
        keys = list(sampler)
        for at in range(0, 96, 16):
            warmup = (step + 1) / 6 if step < 6 else 1.0
            cosine = 0.5 * (1 + math.cos(math.pi * max(0, step - 6) / 6))
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * warmup * cosine
            images, labels = source.train.batch(keys[at : at + 16])
            logits = network((images.float() / 255 - mean) / std)
            loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            step += 1
            if step not in left_out:
                optimizer.step()
            losses.append(loss.item())
    return losses, network.state_dict()


def test_the_run_is_the_loop_a_person_would_write(recipe, tmp_path):
    outcome = run(recipe, tmp_path / "run")
    assert outcome.status == 0
    losses, weights = by_hand(recipe)
    training = [m for m in lines(tmp_path / "run") if m["split"] == "train"]
    assert [m["step"] for m in training] == list(range(1, 13))
    for line, loss in zip(training, losses):
        assert line["loss"] == pytest.approx(loss, abs=1e-4)
    for name, value in final_weights(tmp_path / "run").items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-4)


def test_micro_batches_one_by_one_train_as_fused_ones_do(recipe, tmp_path):
    run(recipe, tmp_path / "run", "device.fuse_micro_batches=off", "training.epochs=1")
    losses, _ = by_hand(recipe)
    warm = [m["loss"] for m in lines(tmp_path / "run") if m["split"] == "train"]
    assert warm == pytest.approx(losses[:6], abs=1e-4)


def test_the_run_folder_holds_what_the_contract_says(recipe, tmp_path):
    outcome = run(recipe, tmp_path / "run")
    for line in lines(tmp_path / "run"):
        assert line["split"] in ("train", "validation")
        assert {"epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second"} <= set(line)
        assert 0 <= line["accuracy"] <= 1
    validation = [m for m in lines(tmp_path / "run") if m["split"] == "validation"]
    assert [m["epoch"] for m in validation] == [1, 2]
    assert validation[-1]["accuracy"] == outcome.accuracy
    saved = config.load(tmp_path / "run" / "config.yaml").config
    assert saved == config.load(recipe, [f"run_dir={tmp_path / 'run'}"]).config


def test_validation_counts_every_image_once(recipe, tmp_path):
    """The validation set does not fill its last call; accuracy and loss are still those of a plain loop."""
    folder = tmp_path / "run"
    outcome = run(recipe, folder, "training.epochs=1", "validation.micro_batch_size=5")
    cfg = config.load(recipe).config
    source = open_data(cfg.data, cfg.training.seed)
    assert len(source.validation) % 10 != 0
    network = build("resnet8", num_classes=4, norm="group", norm_groups=4, proxy_norm=True, width=0.25)
    network.load_state_dict(final_weights(folder))
    images, labels = source.validation.batch(list(range(len(source.validation))))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (source.mean, source.std))
    with torch.no_grad():
        logits = network.eval()((images.float() / 255 - mean) / std)
    assert outcome.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    line = [m for m in lines(folder) if m["split"] == "validation"][-1]
    assert line["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)


class StopAfter:
    """Sends the process a signal after so many training calls, as Ctrl-C would come at any moment."""

    def __init__(self, monkeypatch, calls, number=signal.SIGINT):
        self.left = calls
        original = trainer._means

        def means(*args):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), number)
            return original(*args)

        monkeypatch.setattr(trainer, "_means", means)


def without_speed(records):
    return [{k: v for k, v in record.items() if k != "images_per_second"} for record in records]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a whole run with these overrides, made once."""
    folders = {}

    def whole(overrides):
        if overrides not in folders:
            folder = tmp_path_factory.mktemp("whole")
            (folder / "tiny.yaml").write_text(RECIPE)
            run(folder / "tiny.yaml", folder / "run", *overrides)
            folders[overrides] = folder / "run"
        return folders[overrides]

    return whole


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        (
            "device.fuse_micro_batches=off",
            "model.norm=batch",
            "model.norm_groups=null",
            "model.proxy_norm=false",
        ),
        ("model.norm=batch", "model.norm_groups=null", "model.proxy_norm=false"),
        ("training.precision=16.32", "training.stochastic_rounding=true", "optimizer.loss_scaling=128"),
        (
            "optimizer.name=adamw",
            "optimizer.momentum=null",
            "logging.every_steps=5",
            "averaging.name=exponential",
        ),
    ],
    ids=["group+pn", "batch, one by one", "batch, fused", "16.32", "adamw"],
)
@pytest.mark.parametrize("stop_after", [1, 4, 6, 9])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    recipe, tmp_path, monkeypatch, uninterrupted, overrides, stop_after
):
    whole, stopped = uninterrupted(overrides), tmp_path / "stopped"
    with monkeypatch.context() as patch:
        StopAfter(patch, stop_after)
        assert run(recipe, stopped, *overrides).status == 130
    assert run(recipe, stopped, *overrides, resume=True).status == 0
    for part in ("weights", "optimizer"):
        expected = load_file(str(checkpoint.newest(whole / "checkpoints") / f"{part}.safetensors"))
        got = load_file(str(checkpoint.newest(stopped / "checkpoints") / f"{part}.safetensors"))
        assert expected.keys() == got.keys()
        for name in expected:
            assert torch.equal(expected[name], got[name]), name
    assert without_speed(lines(whole)) == without_speed(lines(stopped))


def test_checkpoints_between_epochs_are_points_to_resume_from(recipe, tmp_path):
    whole, crashed = tmp_path / "whole", tmp_path / "crashed"
    run(recipe, whole, "checkpoint.every_steps=4", "checkpoint.keep=10")
    names = [path.name for path in checkpoint.list_checkpoints(whole / "checkpoints")]
    assert names == ["step_00000004", "step_00000006", "step_00000008", "step_00000012"]
    run(recipe, crashed, "checkpoint.every_steps=4", "checkpoint.keep=10")
    for path in checkpoint.list_checkpoints(crashed / "checkpoints")[1:]:  # as if killed after step 5
        shutil.rmtree(path)
    run(recipe, crashed, "checkpoint.every_steps=4", "checkpoint.keep=10", resume=True)
    for name, value in final_weights(whole).items():
        assert torch.equal(value, final_weights(crashed)[name]), name
    assert without_speed(lines(whole)) == without_speed(lines(crashed))


def test_a_multiple_of_every_steps_is_saved_at_the_end_of_an_epoch_too(recipe, tmp_path):
    run(
        recipe,
        tmp_path / "run",
        "checkpoint.every_steps=3",
        "checkpoint.every_epochs=0",
        "checkpoint.keep=10",
    )
    names = [path.name for path in checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert names == ["step_00000003", "step_00000006", "step_00000009", "step_00000012"]  # six to an epoch


def test_resuming_a_finished_run_changes_nothing(recipe, tmp_path):
    folder = tmp_path / "run"
    run(recipe, folder)
    before = final_weights(folder), lines(folder)
    assert run(recipe, folder, resume=True).status == 0
    assert before[1] == lines(folder)
    assert all(torch.equal(before[0][name], value) for name, value in final_weights(folder).items())


def test_a_second_run_does_not_overwrite_the_first(recipe, tmp_path):
    run(recipe, tmp_path / "run", "training.epochs=1")
    with pytest.raises(ValueError, match="holds a run already"):
        run(recipe, tmp_path / "run", "training.epochs=1")


@pytest.mark.parametrize("resume", [False, True, "auto"])
def test_a_run_that_ended_before_its_first_checkpoint_begins_again(recipe, tmp_path, resume):
    run(recipe, tmp_path / "run", "training.epochs=1")
    expected = without_speed(lines(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    run(recipe, tmp_path / "run", "training.epochs=1", resume=resume)
    assert without_speed(lines(tmp_path / "run")) == expected


def test_resume_refuses_a_configuration_that_computes_something_else(recipe, tmp_path):
    run(recipe, tmp_path / "run", "training.epochs=1")
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate: 0\.1 -> 0\.3"):
        run(recipe, tmp_path / "run", "training.epochs=1", "optimizer.learning_rate=0.3", resume=True)


def test_nothing_to_resume_is_said(recipe, tmp_path):
    with pytest.raises(
        ValueError, match=r"Nothing to resume.*without --resume \(or always with --resume auto\)"
    ):
        run(recipe, tmp_path / "run", resume=True)
    with pytest.raises(
        ValueError, match=r"without checkpoint.resume \(or always with checkpoint.resume=auto\)"
    ):
        run(recipe, tmp_path / "run", "checkpoint.resume=latest")


def test_too_few_images_for_one_call_name_the_factors(recipe, tmp_path):
    with pytest.raises(ValueError, match=r"do not fill one call.*gradient_accumulation 50"):
        run(recipe, tmp_path / "run", "training.gradient_accumulation=50")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("target", ["ipu", "ipu_model"])
def test_hardware_without_the_sdk_is_refused(recipe, tmp_path, target):
    with pytest.raises(ValueError, match="poptorch is not installed"):
        run(recipe, tmp_path / "run", f"device.target={target}", "device.threads=null")


def test_a_pipeline_is_the_same_training(recipe, tmp_path):
    more = ("training.gradient_accumulation=4", "training.replicas=1", "training.epochs=1")
    run(recipe, tmp_path / "one", *more)
    run(recipe, tmp_path / "two", *more, "device.pipeline_splits=[layer2.0]")
    for name, value in final_weights(tmp_path / "one").items():
        torch.testing.assert_close(value, final_weights(tmp_path / "two")[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["device.pipeline_splits=[layer9]"], "layer9, and no operation .* runs in .*Did you mean layer"),
        (["device.pipeline_splits=[conv1]"], "device.pipeline_splits: names conv1, where the network begins"),
        (["device.pipeline_splits=[layer3.0, layer2.0]"], "in the order of execution"),
        (["device.pipeline_splits=[layer2.0]"], r"gradientAccumulation must be greater.*\(3\)"),
        (["model.name=resnet21"], r"tiny\.yaml|override.*resnet2"),
        (["model.norm_groups=7"], "7"),
    ],
)
def test_what_the_device_or_the_zoo_refuses_is_one_message(recipe, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        run(recipe, tmp_path / "run", *overrides)


def test_what_cannot_be_validated_is_said_before_anything_is_trained(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ipu_train.training.program.ValidationProgram.forward", lambda self, images, labels: images.nonzero()
    )
    with pytest.raises(ValueError, match=r"cannot compile the validation program(.|\n)*nonzero"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_command_saves_and_exits_with_its_status(recipe, tmp_path, number, status):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ipu_train",
            "--config",
            str(recipe),
            "training.epochs=2000",
            f"run_dir={folder}",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").read_text():
        assert time.monotonic() < deadline, process.communicate(timeout=1)
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert "--resume" in errors
    assert checkpoint.newest(folder / "checkpoints") is not None


def test_the_initial_weights_follow_the_seed(recipe, tmp_path):
    first = trainer.assemble
    weights = []
    for seed in (1, 1, 2):
        resolved = config.load(recipe, [f"training.seed={seed}"])
        poptorch, _ = trainer.device.choose(resolved.config)
        source = open_data(resolved.config.data, seed)
        weights.append(copy.deepcopy(first(resolved, poptorch, source).network.state_dict()))
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert any(not torch.equal(weights[0][k], weights[2][k]) for k in weights[0])


@pytest.mark.parametrize("kernel", ["auto", "popart"])
def test_the_kernels_of_proxy_norm_train_as_plain_torch_does(recipe, tmp_path, kernel):
    """auto is the CPU kernel, popart the PopART operator's own source on a host Poplar."""
    from ipu_train.kernels import cpu

    if not cpu.available()[0]:
        pytest.skip(cpu.available()[1])
    more = ("training.epochs=1", "data.length=32")
    run(recipe, tmp_path / "torch", *more, "model.proxy_norm_kernel=torch")
    run(recipe, tmp_path / "kernel", *more, f"model.proxy_norm_kernel={kernel}")
    expected = [m["loss"] for m in lines(tmp_path / "torch")]
    assert [m["loss"] for m in lines(tmp_path / "kernel")] == pytest.approx(expected, abs=1e-5)

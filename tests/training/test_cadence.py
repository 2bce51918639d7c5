"""How often a run validates, saves, reports, averages and returns to the host, and what each then says."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ipu_train import Callback, config, trainer
from ipu_train.data import open_data
from ipu_train.models import build
from ipu_train.tracking import read_metrics
from ipu_train.training import checkpoint

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 2, options: {width: 0.25}}
data: {name: generated, length: 24, image_size: 8, num_classes: 4}
optimizer: {learning_rate: 0.1, momentum: 0.9}
schedule: {name: constant}
training: {epochs: 3, micro_batch_size: 2, gradient_accumulation: 2, seed: 3}
logging: {every_steps: 1, progress: false, plots: false}
checkpoint: {keep: 99, keep_best: false}
device: {threads: 1}
"""
STEPS = 6  # weight updates of an epoch


@pytest.fixture()
def run(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)

    def train(name, *overrides, callbacks=()):
        trainer.train(config.load(path, [*overrides, f"run_dir={tmp_path / name}"]), callbacks=callbacks)
        return tmp_path / name

    return train


def lines(folder, split):
    return [line for line in read_metrics(folder / "metrics.jsonl") if line["split"] == split]


def saved(folder):
    """Weights by the number of the weight update after which they were saved."""
    paths = checkpoint.list_checkpoints(folder / "checkpoints")
    return {int(path.name.partition("_")[2]): load_file(str(path / "weights.safetensors")) for path in paths}


@pytest.mark.parametrize(
    "validations, checkpoints, validated, kept",
    [(2, 2, [2, 3], [2 * STEPS, 3 * STEPS]), (0, 2, [], [2 * STEPS, 3 * STEPS]), (2, 0, [2, 3], [3 * STEPS])],
)
def test_every_so_many_epochs_and_after_the_last(run, validations, checkpoints, validated, kept):
    """Three epochs: the last one counts whether it is a multiple or not; 0 validates never and saves at the end."""
    every = f"validation.every_epochs={validations}", f"checkpoint.every_epochs={checkpoints}"
    folder = run("run", *every)
    assert [line["epoch"] for line in lines(folder, "validation")] == validated
    assert list(saved(folder)) == kept


def test_calls_of_several_weight_updates_train_as_calls_of_one(run):
    one = run("one", "training.epochs=2")
    three = run("three", "training.epochs=2", "training.device_iterations=3", "checkpoint.every_steps=4")
    single, calls = lines(one, "train"), lines(three, "train")
    assert [line["step"] for line in calls] == [3, 6, 9, 12]
    for call in calls:
        for key in ("loss", "accuracy"):
            mean = sum(line[key] for line in single[call["step"] - 3 : call["step"]]) / 3
            assert call[key] == pytest.approx(mean, abs=1e-6)
    # a call is the least that can be saved: those that reach or pass the updates 4, 8 and 12
    assert list(saved(three)) == [6, 9, 12]
    for name, value in saved(one)[12].items():
        torch.testing.assert_close(saved(three)[12][name], value, rtol=0, atol=1e-6)


def test_a_training_line_is_the_mean_since_the_one_before(run):
    schedule = ("training.epochs=2", "schedule.warmup_epochs=2")
    every, fourth = run("every", *schedule), run("fourth", *schedule, "logging.every_steps=4")
    single, means = lines(every, "train"), lines(fourth, "train")
    assert [(line["step"], line["epoch"]) for line in means] == [(4, 1), (8, 2), (12, 2)]
    for line in means:
        of_line = single[line["step"] - 4 : line["step"]]
        assert line["learning_rate"] == of_line[-1]["learning_rate"] == pytest.approx(0.1 * line["step"] / 12)
        for key in ("loss", "accuracy"):
            assert line[key] == pytest.approx(sum(one[key] for one in of_line) / 4)


def validation_loss(weights):
    """Of all validation images at once, in plain torch."""
    cfg = config.load_text(RECIPE, Path("tiny.yaml")).config
    source = open_data(cfg.data, cfg.training.seed)
    network = build("resnet8", num_classes=4, norm="group", norm_groups=2, width=0.25).eval()
    network.load_state_dict(weights)
    images, labels = source.validation.batch(list(range(len(source.validation))))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (source.mean, source.std))
    with torch.no_grad():
        return F.cross_entropy(network((images.float() / 255 - mean) / std), labels).item()


def blend(states, shares):
    return {
        name: sum(share * state[name].double() for share, state in zip(shares, states)).float()
        for name in states[0]
    }


@pytest.mark.parametrize(
    "kind, shares",
    [
        # by epoch: the shares of the weights at the ends of the epochs in the average that is validated
        (["averaging.name=mean", "averaging.start_epoch=1"], [None, (0, 1), (0, 0.5, 0.5)]),
        (
            ["averaging.name=exponential", "averaging.decay=0.25"],
            [(1,), (0.25, 0.75), (0.0625, 0.1875, 0.75)],
        ),
    ],
    ids=["mean", "exponential"],
)
def test_the_average_of_the_epochs_is_validated_beside_the_weights_in_training(run, kind, shares):
    folder = run("averaged", *kind)
    ends = list(saved(folder).values())
    assert len(ends) == 3
    for line, weights, share in zip(lines(folder, "validation"), ends, shares):
        assert line["loss"] == pytest.approx(validation_loss(weights), abs=1e-5)
        assert ("averaged_loss" in line) == (share is not None)
        if share is not None:
            assert line["averaged_loss"] == pytest.approx(validation_loss(blend(ends, share)), abs=1e-5)
            assert len(share) == 1 or share == (0, 1) or abs(line["averaged_loss"] - line["loss"]) > 1e-3
    plain = saved(run("plain"))  # averaging only watches
    assert all(torch.equal(value, ends[-1][name]) for name, value in plain[3 * STEPS].items())


class Threads(Callback):
    def __init__(self):
        self.seen = set()

    def training(self, record):
        self.seen.add(torch.get_num_threads())


def test_the_emulator_computes_with_as_many_threads_as_asked(run):
    before, threads = torch.get_num_threads(), Threads()
    torch.set_num_threads(3)
    try:
        run("run", "training.epochs=1", "device.threads=2", callbacks=[threads])
    finally:
        torch.set_num_threads(before)
    assert threads.seen == {2}

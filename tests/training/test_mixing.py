"""mixup and CutMix on the device against a picture-by-picture version, and within micro-batches when fused."""

import json

import pytest
import torch
import torch.nn.functional as F

from ipu_train import config, trainer
from ipu_train.config import TrainingConfig
from ipu_train.data.mixing import MixingDraws
from ipu_train.training.mixing import Mixing

SIDE = 8


def made(micro_batch_size, mixup_alpha, cutmix_lambda, count, seed=3):
    training = TrainingConfig(
        micro_batch_size=micro_batch_size, mixup_alpha=mixup_alpha, cutmix_lambda=cutmix_lambda
    )
    draws = MixingDraws(seed, micro_batch_size, SIDE, mixup_alpha, cutmix_lambda)
    return Mixing(training, SIDE), draws([(0, index) for index in range(count)])


def image_by_image(images, labels, coefficients, classes, cutmix):
    """The images of one micro-batch and their label distributions, as the paper's code mixes them."""
    n = len(images)
    share = coefficients[:, 0]
    one_hot = F.one_hot(labels, classes).double()
    mixed = torch.stack([share[i] * images[i] + (1 - share[i]) * images[i - 1] for i in range(n)])
    targets = torch.stack([share[i] * one_hot[i] + (1 - share[i]) * one_hot[i - 1] for i in range(n)])
    if not cutmix:
        return mixed, targets
    back = 2 if n > 2 else 1
    out, out_targets = mixed.clone(), targets.clone()
    for i in range(n):
        top, bottom, left, right = (int(v) for v in coefficients[i, 2:])
        out[i, :, top:bottom, left:right] = mixed[i - back][:, top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / SIDE**2
        out_targets[i] = kept * targets[i] + (1 - kept) * targets[i - back]
    return out, out_targets


@pytest.mark.parametrize("micro_batch_size", [2, 3, 5])
@pytest.mark.parametrize("mixup_alpha, cutmix_lambda", [(0.4, 1.0), (0.0, 0.62), (0.4, 0.62)])
def test_images_and_labels_are_mixed_as_the_paper_does(micro_batch_size, mixup_alpha, cutmix_lambda):
    generator = torch.Generator().manual_seed(0)
    micro_batches, classes = 6, 4
    count = micro_batches * micro_batch_size
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (count,), generator=generator)
    mixing, coefficients = made(micro_batch_size, mixup_alpha, cutmix_lambda, count)
    coefficients = coefficients.double()
    mixed = mixing.images(images, coefficients)
    targets = sum(
        share.unsqueeze(1) * F.one_hot(label, classes).double()
        for label, share in mixing.labels(labels, coefficients)
    )
    torch.testing.assert_close(targets.sum(1), torch.ones(count).double())
    for k in range(micro_batches):
        at = slice(k * micro_batch_size, (k + 1) * micro_batch_size)
        expected = image_by_image(images[at], labels[at], coefficients[at], classes, cutmix_lambda < 1)
        torch.testing.assert_close(mixed[at], expected[0])
        torch.testing.assert_close(targets[at], expected[1])


RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
schedule: {name: constant}
training: {epochs: 1, micro_batch_size: 4, gradient_accumulation: 2, replicas: 2, mixup_alpha: 0.5, cutmix_lambda: 0.7}
logging: {every_steps: 1, progress: false, plots: false}
device: {threads: 1}
"""


def losses(tmp_path, name, *overrides):
    path = tmp_path / "mixed.yaml"
    path.write_text(RECIPE)
    folder = tmp_path / name
    trainer.train(config.load(path, [*overrides, f"run_dir={folder}"]))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if record["split"] == "train"]


def test_fused_micro_batches_and_workers_mix_alike(tmp_path):
    fused = losses(tmp_path, "fused")
    assert losses(tmp_path, "single", "device.fuse_micro_batches=off") == pytest.approx(fused, abs=1e-5)
    assert losses(tmp_path, "workers", "data.workers=1") == pytest.approx(fused, abs=1e-5)
    plain = losses(tmp_path, "plain", "training.mixup_alpha=0", "training.cutmix_lambda=1")
    assert max(abs(a - b) for a, b in zip(fused, plain)) > 1e-3


def test_micro_batches_of_one_image_have_nothing_to_mix(tmp_path):
    with pytest.raises(config.ConfigError, match=r"training\.mixup_alpha: mixes images of one micro-batch"):
        losses(tmp_path, "one", "training.micro_batch_size=1")

"""One folder of small photographs and one short training on it, for the tests of what follows a training."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ipu_train import config, trainer
from ipu_train.models import build
from ipu_train.training import checkpoint

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = ("ash", "birch", "cedar")
RECIPE = """
model: {{name: resnet8, norm: group, norm_groups: 2, options: {{width: 0.25}}}}
data: {{name: imagefolder, path: {path}, image_size: 16, augment: none}}
optimizer: {{learning_rate: 0.05}}
training: {{epochs: 2, micro_batch_size: 4, seed: 2}}
validation: {{micro_batch_size: 3, device_iterations: 2}}
averaging: {{name: mean}}
logging: {{progress: false, plots: false}}
device: {{threads: 1, target: emulator}}
"""


def photographs(folder, per_class, seed):
    """Noise around a colour of the class, in different sizes."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            height, width = generator.integers(16, 32, 2)
            pixels = generator.normal(110, 50, (height, width, 3))
            pixels[..., label] += 40
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    photographs(folder / "train", 12, 0)
    photographs(folder / "val", 7, 1)
    return folder


@pytest.fixture(scope="session")
def trained_run(images, tmp_path_factory):
    """The folder of a run of two epochs over 36 photographs, validated with 21 in calls of 6."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "trees.yaml").write_text(RECIPE.format(path=images))
    trainer.train(config.load(folder / "trees.yaml", [f"run_dir={folder / 'run'}"]))
    return folder / "run"


def network_of(run):
    """The network of the run with its last weights, in plain torch."""
    network = build("resnet8", num_classes=3, norm="group", norm_groups=2, width=0.25)
    network.load_state_dict(load_file(str(checkpoint.newest(run / "checkpoints") / "weights.safetensors")))
    return network.eval()


def pictures(folder):
    """Labels ``[N]`` and normalised pictures ``[N, 3, 16, 16]`` of a folder, by Pillow."""
    labels, found = [], []
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    for label, name in enumerate(CLASSES):
        for path in sorted((folder / name).iterdir()):
            image = Image.open(path).convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            image = image.resize((16, 16), Image.BILINEAR, box=(left, top, left + side, top + side))
            found.append((torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - mean) / std)
            labels.append(label)
    return torch.tensor(labels), torch.stack(found)


def by_hand(run, folder):
    """Labels and logits of a folder's images in plain torch, image by image."""
    labels, images = pictures(folder)
    network = network_of(run)
    with torch.no_grad():
        return labels, torch.cat([network(image[None]) for image in images])

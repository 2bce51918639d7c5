"""One folder of small photographs and one short training on it, for all tests of this room."""

import numpy as np
import pytest
from PIL import Image

from ipu_train import config, trainer

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

"""A small recipe, and no plugins but those of the tests."""

import pytest

from ipu_train.plugins import loading

RECIPE = """
model: {name: resnet8}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
training: {epochs: 1, micro_batch_size: 8, gradient_accumulation: 2}
logging: {every_steps: 1, progress: false, plots: false}
device: {threads: 1}
"""


@pytest.fixture(autouse=True)
def no_entry_points(monkeypatch):
    monkeypatch.setattr(loading, "_asked", True)


@pytest.fixture()
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(RECIPE)
    return tmp_path / "own.yaml"

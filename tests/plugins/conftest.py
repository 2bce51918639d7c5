"""A small recipe, and registries that are afterwards as they were."""

import pytest

from ipu_train import models
from ipu_train.plugins import datasets, loading

RECIPE = """
model: {name: resnet8}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
training: {epochs: 1, micro_batch_size: 8, gradient_accumulation: 2}
logging: {every_steps: 1, progress: false, plots: false}
device: {threads: 1}
"""


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a test registers is forgotten after it."""
    before = [(registry, dict(registry)) for registry in (models.OWN, datasets.OWN, loading._loaded)]
    monkeypatch.setattr(loading, "_asked", True)
    yield
    for registry, content in before:
        registry.clear()
        registry.update(content)


@pytest.fixture()
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(RECIPE)
    return tmp_path / "own.yaml"

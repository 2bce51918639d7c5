"""A pipeline of two IPUs that plans in a second, with points around it."""

import pytest

from ipu_train import config, pages, planning
from ipu_train.sweep.variations import variations

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, proxy_norm: true, options: {width: 0.5}}
data: {name: cifar10}
optimizer: {momentum: 0.9}
training: {micro_batch_size: 8, gradient_accumulation: 8, replicas: 2}
device: {pipeline_splits: [layer2]}
"""


@pytest.fixture(scope="package")
def planned(tmp_path_factory):
    """(configuration, report, points around it)."""
    path = tmp_path_factory.mktemp("pages") / "tiny.yaml"
    path.write_text(RECIPE)
    resolved = config.load(path)
    report = planning.predict(resolved)
    return resolved, report, variations(resolved, report, jobs=1)


@pytest.fixture(scope="package")
def contents(planned):
    metrics = [
        {"split": "train", "epoch": 1, "step": 5, "loss": 2.0, "accuracy": 0.25, "learning_rate": 0.1},
        {"split": "validation", "epoch": 1, "step": 10, "loss": float("nan"), "accuracy": 0.5},
    ]
    resolved, report, points = planned
    return {**pages.run_contents(resolved, report, metrics), "points": points}

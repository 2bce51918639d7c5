"""A small configuration that plans in a fraction of a second."""

import pytest

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.5}}
data: {name: cifar10}
optimizer: {momentum: 0.9}
training: {micro_batch_size: 8, gradient_accumulation: 4, replicas: 2}
logging: {progress: false, plots: false}
"""
SWEEP = ["--norms", "batch,group,group+pn", "--micro-batch-sizes", "1,2,8,32", "--jobs", "1"]


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path

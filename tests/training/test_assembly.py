"""Where the emulator may run the micro-batches of a weight update as one batch, and where that is worth it."""

from pathlib import Path

import pytest

import ipu_train.emulator as poptorch
from ipu_train.config import load_text
from ipu_train.network import build_network
from ipu_train.training.assembly import fuses_micro_batches

RECIPE = """
model: {{name: resnet8, norm: {norm}}}
data: {{name: digits}}
training: {{micro_batch_size: {size}}}
device: {{target: emulator, compute: {compute}, fuse_micro_batches: {fuse}}}
"""


@pytest.mark.parametrize(
    "norm, size, compute, fuse, fused",
    [
        ("group", 64, "cpu", "auto", True),
        ("batch", 2, "cpu", "auto", True),
        ("batch", 4, "cpu", "auto", True),
        ("batch", 8, "cpu", "auto", False),  # copying then costs more than it saves
        ("batch", 64, "cuda", "auto", True),
        ("evonorm_b0", 2, "cuda", "auto", False),
        ("sync_batch", 2, "cuda", "auto", False),
        ("batch", 2, "cpu", "off", False),
        ("group", 2, "cpu", "off", False),
    ],
)
def test_micro_batches_are_fused_where_that_computes_the_same_in_less_time(norm, size, compute, fuse, fused):
    text = RECIPE.format(norm=norm, size=size, compute=compute, fuse=fuse)
    resolved = load_text(text, Path("recipe.yaml"))
    network = build_network(resolved, 10, 3)
    assert fuses_micro_batches(resolved.config, poptorch, network) == fused

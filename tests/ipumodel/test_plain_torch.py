"""The liveness engine alone, on eager torch: what it predicts is what torch really allocates."""

import pytest
import torch
import torchvision

from ipu_train.ipumodel.plain_torch import plain_torch_memory
from ipu_train.ipumodel.tracer import trace

from .nets import measured_memory, small_net

MODELS = [
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    pytest.param("densenet121", marks=pytest.mark.long),
    "mnasnet0_5",
    "shufflenet_v2_x1_0",
    "alexnet",
]


def compare(model, x):
    predicted = plain_torch_memory(trace(model, x, record_backward=True))
    saved, peak = measured_memory(model, x)
    assert predicted.saved_bytes == pytest.approx(saved, rel=0.02)
    assert predicted.peak_bytes == pytest.approx(peak, rel=0.02)


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_peak_bytes_equal_what_torch_allocates(name):
    torch.manual_seed(0)
    compare(getattr(torchvision.models, name)(num_classes=100), torch.randn(2, 3, 96, 96))


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_saved_bytes_of_a_small_residual_net(norm):
    torch.manual_seed(0)
    model = small_net(4, 32, norm)
    x = torch.randn(8, 3, 32, 32)
    predicted = plain_torch_memory(trace(model, x, record_backward=True))
    saved, _ = measured_memory(model, x)
    assert predicted.saved_bytes == pytest.approx(saved, rel=0.001)


def test_saved_bytes_grow_with_the_batch_and_weights_do_not():
    model = small_net()
    one, two = (
        plain_torch_memory(trace(model, torch.zeros(n, 3, 16, 16), record_backward=True)) for n in (4, 8)
    )
    assert two.saved_bytes == pytest.approx(2 * one.saved_bytes, rel=0.01)

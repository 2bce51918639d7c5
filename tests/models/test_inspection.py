import pytest
import torch
import torchvision
from torch import nn

from ipu_train import models


def test_rows_follow_the_execution_and_sum_to_the_model():
    model = models.build("resnet8", num_classes=10, in_channels=1)
    rows = models.describe(model, 8, in_channels=1)
    assert [row.name for row in rows][:6] == [
        "conv1",
        "norm1",
        "layer1.0.conv1",
        "layer1.0.norm1",
        "layer1.0.conv2",
        "layer1.0.norm2",
    ]
    assert rows[0].kind == "conv 3x3" and rows[0].shape == (16, 8, 8)
    assert rows[0].macs == 16 * 8 * 8 * 9
    assert rows[1].kind == "group norm + relu + proxy norm" and rows[1].proxy_norm
    assert rows[5].kind == "group norm" and not rows[5].proxy_norm
    assert rows[6].kind == "conv 3x3/2"
    assert rows[-1] == ("fc", "linear", (10,), 650, 640, False)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())


def test_macs_of_grouped_convolutions_count_each_group_alone():
    model = nn.Sequential(nn.Conv2d(8, 16, (3, 5), stride=2, padding=(1, 2), groups=4))
    row = models.describe(model, 10, in_channels=8)[0]
    assert row.shape == (16, 5, 5)
    assert row.macs == 16 * 5 * 5 * (8 // 4) * 15


def test_resnet50_has_the_published_number_of_macs():
    with torch.device("meta"):
        theirs, ours = torchvision.models.resnet50(), models.build("resnet50")
    assert round(sum(row.macs for row in models.describe(theirs, 224)) / 1e9, 2) == 4.09
    assert round(sum(row.macs for row in models.describe(ours, 224)) / 1e9, 2) == 4.09


def test_describing_leaves_the_model_as_it_was():
    model = models.build("resnet8", norm="batch")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    models.describe(model, 32)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_proxy_norm_after_an_addition_counts_as_proxy_norm():
    model = models.build("resnet8", norm="group", proxy_after_addition=True)
    rows = models.describe(model, 32)
    found = {row.name for row in rows if row.proxy_norm}
    assert "layer1.0.after_addition" in found
    assert len(found) == sum(type(m).__name__ == "ProxyNorm" for m in model.modules())


class Tokens(nn.Module):
    """Sixteen tokens of an image, each through the same linear layers, and back to an image."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, stride=2)
        self.linear = nn.Linear(6, 8)
        self.along = nn.Conv1d(8, 4, 3, padding=1, groups=2)
        self.back = nn.ConvTranspose2d(4, 10, 2, stride=2)

    def forward(self, x):
        x = self.linear(self.patches(x).flatten(2).transpose(1, 2))
        return self.back(self.along(x.transpose(1, 2)).unflatten(2, (4, 4)))


def test_macs_are_those_that_torch_counts_for_layers_of_any_number_of_dimensions():
    flop_counter = pytest.importorskip("torch.utils.flop_counter")
    model = Tokens()
    with flop_counter.FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 8, 8))
    rows = models.describe(model, 8)
    assert 2 * sum(row.macs for row in rows) == counter.get_total_flops()
    assert {row.name: row.macs for row in rows}["linear"] == 16 * 6 * 8

"""A folded network computes what it computed before, without anything of Proxy Norm but a scale and a shift."""

import pytest
import torch

from ipu_train import models
from ipu_train.models.convolutions import StandardisedConv2d
from ipu_train.models.proxy_norm import ProxyNorm


def away_from_the_start(network, seed=0):
    """Parameters and statistics that are not those of a fresh network, so that a mix-up shows."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if (
                tensor.dim() == 1
                and tensor.is_floating_point()
                and not name.endswith((".points", ".weights"))
            ):
                change = 0.3 * torch.rand_like(tensor)
                tensor.copy_(tensor + change if "var" in name else tensor + change - 0.15)
    return network


@pytest.mark.parametrize(
    "name, options",
    [
        ("resnet8", {"norm": "group", "norm_groups": 4}),
        ("resnet8", {"norm": "layer", "proxy_after_addition": True, "proxy_norm_expectation": "exact"}),
        ("resnet8v2", {"norm": "batch", "proxy_norm": True}),
        ("resnet8", {"norm": "instance", "weight_standardisation": True}),
        ("efficientnet_cifar", {"norm": "group", "depth": 0.3, "width": 0.2}),
        ("efficientnet_cifar", {"norm": "layer", "depth": 0.3, "width": 0.2, "delay_scale": False}),
    ],
)
def test_nothing_changes_but_the_work(name, options):
    network = away_from_the_start(models.build(name, 7, **options)).double().eval()
    plain = models.folded(network)
    assert not any(isinstance(module, (ProxyNorm, StandardisedConv2d)) for module in plain.modules())
    images = torch.randn(3, 3, 16, 16).double()
    with torch.no_grad():
        torch.testing.assert_close(plain(images), network(images), rtol=1e-9, atol=1e-9)
    assert any(isinstance(module, (ProxyNorm, StandardisedConv2d)) for module in network.modules())

"""The power terms of Labatie et al. 2021, by definition and in the random networks of its figure 2."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ipu_train import models
from ipu_train.models.norms import Norms
from ipu_train.models.power import power_decomposition, site_powers

PROXY = {"eps": 0.03, "expectation": "exact", "quantiles": 200}


def test_the_four_terms_sum_to_the_second_moment():
    y = torch.randn(7, 5, 4, 4) * torch.rand(7, 5, 1, 1) + torch.randn(7, 5, 1, 1) + 0.5
    powers = power_decomposition(y)
    assert powers.total.item() == pytest.approx(y.double().square().mean().item(), rel=1e-12)


def test_each_term_is_what_its_name_says():
    y = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 5.0]]]])  # two images, one channel: means 2, 5; stds 1, 0
    powers = power_decomposition(y)
    assert [p.item() for p in powers] == pytest.approx([3.5**2, 1.5**2, 0.5**2, 0.5**2])


def test_batch_norm_has_no_squared_mean_and_instance_norm_nothing_but_contrast():
    torch.manual_seed(0)
    x = torch.randn(16, 3, 16, 16)
    for norm in ("batch", "instance", "layer"):
        model = models.build("resnet8", norm=norm, proxy_norm=False).train()
        before = {k: v.clone() for k, v in model.named_buffers() if "running" in k}
        powers = site_powers(model, x)
        assert list(powers) == ["norm1", "layer1.0.norm1", "layer2.0.norm1", "layer3.0.norm1"]
        for name, terms in powers.items():
            assert terms.total.item() == pytest.approx(1, abs=0.02), (norm, name)
            if norm == "batch":
                assert terms.squared_mean_of_means.item() < 1e-6
            if norm == "instance":
                assert terms.squared_mean_of_stds.item() == pytest.approx(terms.total.item(), abs=0.01)
        assert norm != "batch" or any(not torch.equal(v, model.get_buffer(k)) for k, v in before.items())


class RandomNet(nn.Module):
    """conv 3x3 (periodic) - norm - affine - relu, again and again; gamma ~ N(1, s^2), beta ~ N(0, s^2)."""

    def __init__(self, norm, width, depth, proxy=None, spread=0.2):
        super().__init__()
        self.convs, self.sites = nn.ModuleList(), nn.ModuleList()
        for layer in range(depth):
            self.convs.append(nn.Conv2d(width if layer else 3, width, 3, bias=False))
            nn.init.normal_(self.convs[-1].weight, std=1 / math.sqrt(9 * width))
            site = Norms(norm, proxy=proxy, eps=1e-6).activated(width)
            gamma, beta = (
                (site.norm.weight, site.norm.bias) if proxy is None else (site.proxy.gamma, site.proxy.beta)
            )
            nn.init.normal_(gamma, 1, spread)
            nn.init.normal_(beta, 0, spread)
            self.sites.append(site)

    def forward(self, x):
        for conv, site in zip(self.convs, self.sites):
            x = site(conv(F.pad(x, (1, 1, 1, 1), mode="circular")))
        return x


def powers_by_depth(**options):
    torch.manual_seed(0)
    net = RandomNet(width=256, depth=10, **options)
    # noise images: their positions are uncorrelated, as the mean-field prediction supposes
    return list(site_powers(net, torch.randn(32, 3, 6, 6)).values())


def test_layer_norm_collapses_at_the_rate_of_mean_field_theory():
    """P1 of independent inputs obeys q' = E[phi(gu+b) phi(gv+b)] / E[phi(gu+b)^2], corr(u, v) = q."""
    powers = powers_by_depth(norm="layer")
    for depth, predicted in ((2, 0.337), (5, 0.712), (10, 0.883)):
        terms = powers[depth - 1]
        estimate = terms.squared_mean_of_means - terms.variance_of_means / 31  # finite number of images
        assert estimate.item() == pytest.approx(predicted, abs=0.05)


def test_proxy_norm_prevents_the_collapse_of_layer_norm():
    for depth, terms in enumerate(powers_by_depth(norm="layer", proxy=PROXY), start=1):
        estimate = terms.squared_mean_of_means - terms.variance_of_means / 31
        assert estimate.item() < 0.05, depth
        assert terms.total.item() == pytest.approx(1, abs=0.01)


def test_with_trivial_affine_steps_the_collapse_follows_the_arc_cosine_map():
    for depth, terms in enumerate(powers_by_depth(norm="layer", spread=0.0), start=1):
        q = 0.0
        for _ in range(depth - 1):
            # E[relu(u) relu(v)] / E[relu(u)^2] for unit Gaussians of correlation q (Cho and Saul 2009)
            q = (math.sqrt(1 - q * q) + q * (math.pi - math.acos(q))) / math.pi
        estimate = terms.squared_mean_of_means - terms.variance_of_means / 31
        assert estimate.item() == pytest.approx(q, abs=0.05), depth

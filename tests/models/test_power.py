"""The power terms of Labatie et al. 2021, by definition and as an output of a network's program."""

import copy

import pytest
import torch

from ipu_train import models
from ipu_train.models.norms import Norms
from ipu_train.models.power import (
    PowerStatistics,
    image_moments,
    normalised,
    power_decomposition,
    powers_from,
    site_powers,
)


def test_the_four_terms_sum_to_the_second_moment():
    y = torch.randn(7, 5, 4, 4) * torch.rand(7, 5, 1, 1) + torch.randn(7, 5, 1, 1) + 0.5
    powers = power_decomposition(y)
    assert powers.total.item() == pytest.approx(y.double().square().mean().item(), rel=1e-12)


def test_each_term_is_what_its_name_says():
    y = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 5.0]]]])  # two images, one channel: means 2, 5; stds 1, 0
    powers = power_decomposition(y)
    assert [p.item() for p in powers] == pytest.approx([3.5**2, 1.5**2, 0.5**2, 0.5**2])


def test_no_variance_is_negative():
    """Sums in float32 of images that are all alike leave one a little below zero."""
    moments = torch.tensor([[[0.1], [0.00999999], [0.3], [0.08999999]]]).expand(7, 4, 1)
    powers = powers_from(moments.sum(0), 7)
    assert powers.variance_of_means.item() == 0.0 and powers.variance_of_stds.item() == 0.0


def test_batch_norm_has_no_squared_mean_and_instance_norm_nothing_but_contrast():
    torch.manual_seed(0)
    x = torch.randn(16, 3, 16, 16)
    for norm in ("batch", "instance", "layer"):
        model = models.build("resnet8", norm=norm, proxy_norm=False).train()
        before = {k: v.clone() for k, v in model.named_buffers() if "running" in k}
        powers = site_powers(model, x)
        blocks = [f"layer{stage}.0.norm{place}" for stage in (1, 2, 3) for place in (1, 2)]
        assert list(powers) == ["norm1", *blocks]
        for name, terms in powers.items():
            assert terms.total.item() == pytest.approx(1, abs=0.02), (norm, name)
            if norm == "batch":
                assert terms.squared_mean_of_means.item() < 1e-6
            if norm == "instance":
                assert terms.squared_mean_of_stds.item() == pytest.approx(terms.total.item(), abs=0.01)
        assert norm != "batch" or any(not torch.equal(v, model.get_buffer(k)) for k, v in before.items())


def test_statistics_of_micro_batches_add_up_to_those_of_one_batch():
    torch.manual_seed(0)
    model = models.build("resnet8", num_classes=10, norm="group")
    x = torch.randn(24, 3, 8, 8)
    whole = site_powers(model, x)
    statistics = PowerStatistics(model)
    moments = []
    for part in x.split(8):
        statistics.start()
        model(part)
        moments.append(statistics.take())
    assert moments[0].shape == (1, 4, sum(channels for _, channels in statistics.places))
    for name, terms in statistics.powers(torch.cat(moments), 24).items():
        for found, expected in zip(terms, whole[name]):
            assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_statistics_change_neither_gradients_nor_what_is_run_outside_of_them():
    torch.manual_seed(0)
    model = models.build("resnet8", num_classes=10, norm="batch", proxy_norm=False)
    x = torch.randn(8, 3, 8, 8)
    gradients, outputs = [], []
    for recorded in (False, True):
        statistics = PowerStatistics(model)
        if recorded:
            statistics.start()
        model.zero_grad()
        outputs.append(model(x))
        outputs[-1].square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        if recorded:
            assert not statistics.take().requires_grad
        else:
            assert statistics._found == []
        statistics.remove()
    assert torch.equal(*outputs)
    assert all(torch.equal(a, b) for a, b in zip(*gradients))
    assert all(len(m._forward_pre_hooks) == 0 for m in model.modules())


def test_layer_norms_terms_are_those_of_a_computation_in_float64():
    torch.manual_seed(0)
    model = models.build("resnet8v2", num_classes=10, norm="layer", proxy_norm=False).double()
    x = torch.randn(6, 3, 8, 8, dtype=torch.float64)
    first = model.conv1(x)
    y = (first - first.mean((1, 2, 3), keepdim=True)) / (
        first.var((1, 2, 3), unbiased=False, keepdim=True) + model.layer1[0].norm1.norm.eps
    ).sqrt()
    mean, std = y.mean((2, 3)), y.std((2, 3), unbiased=False)
    expected = [
        mean.mean(0).square().mean(), mean.var(0, unbiased=False).mean(),
        std.mean(0).square().mean(), std.var(0, unbiased=False).mean(),
    ]  # fmt: skip
    found = next(iter(site_powers(model, x).values()))
    assert [t.item() for t in found] == pytest.approx([t.item() for t in expected], abs=1e-12)


@pytest.mark.parametrize("kind", ["batch", "sync_batch", "group", "layer", "instance", "frn", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_what_follows_from_a_norms_input_is_what_the_norm_gives(kind, training):
    """The moments of the norm's own output, without an affine step, in float64."""
    torch.manual_seed(0)
    norm = Norms(kind, groups=2, eps=1e-3).before_addition(6).double().train(training)
    x = torch.randn(8, 6, 5, 5, dtype=torch.float64) * 3 + 2 * torch.randn(1, 6, 1, 1, dtype=torch.float64)
    if hasattr(norm, "running_mean"):
        norm.running_mean.copy_(torch.randn(6))
    expected = image_moments(norm(x))
    x_variance, x_mean = torch.var_mean(x, dim=(2, 3), unbiased=False)
    mean, variance = normalised(norm, x_mean, x_variance)
    torch.testing.assert_close(torch.stack((mean, variance.sqrt()), 1), expected[:, [0, 2]])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "norm",
    [
        torch.nn.BatchNorm2d(6),
        torch.nn.BatchNorm2d(6, track_running_stats=False),
        torch.nn.GroupNorm(3, 6),
        torch.nn.InstanceNorm2d(6, affine=True),
        torch.nn.InstanceNorm2d(6, track_running_stats=True),
        torch.nn.LayerNorm((6, 5, 5)),
    ],
)
def test_torchs_own_norms_are_looked_at_before_their_affine_step(norm, training):
    """Against the norm itself with an affine step of 1 and 0, in float64."""
    torch.manual_seed(0)
    norm = copy.deepcopy(norm).double().train(training)
    x = torch.randn(8, 6, 5, 5, dtype=torch.float64) * 3 + 2 * torch.randn(1, 6, 1, 1, dtype=torch.float64)
    expected = power_decomposition(norm(x))
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    mixer = torch.nn.GroupNorm(2, 6).double()  # of vectors: no images, nothing to look at
    model = torch.nn.Sequential(norm, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), mixer)
    found = site_powers(model, x)
    assert list(found) == ["0"]
    assert [t.item() for t in found["0"]] == pytest.approx([t.item() for t in expected], abs=1e-12)


class Twice(torch.nn.Module):
    """One norm in two places."""

    def __init__(self):
        super().__init__()
        self.norm = Norms("layer").activated(4)
        self.between = torch.nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.norm(self.between(self.norm(x)))


def test_a_norm_that_is_used_again_is_a_place_again():
    torch.manual_seed(0)
    model = Twice()
    x = torch.randn(4, 4, 3, 3) + torch.randn(4, 1, 1)
    found = site_powers(model, x)
    second = model.between(model.norm(x))
    assert list(found) == ["norm", "norm-2"]
    for terms, given in zip(found.values(), (x, second)):
        expected = power_decomposition(torch.nn.functional.group_norm(given, 1))
        assert [t.item() for t in terms] == pytest.approx([t.item() for t in expected], abs=1e-6)


def test_batch_norm_of_several_micro_batches_in_one_batch_sees_each_alone():
    norm = Norms("batch").before_addition(3).double().train()
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    expected = image_moments(torch.cat([norm(part) for part in x.split(2)]))
    variance, mean = torch.var_mean(x, dim=(2, 3), unbiased=False)
    mean, _ = normalised(norm, mean, variance, micro_batch_size=2)
    torch.testing.assert_close(mean, expected[:, 0])

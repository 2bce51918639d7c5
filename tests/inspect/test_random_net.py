"""The random networks of Labatie et al. 2021 do what theory says, and every norm what its definition says."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ipu_train import emulator
from ipu_train.inspect.collapse import measured_collapse
from ipu_train.inspect.errors import InspectError
from ipu_train.inspect.random_net import (
    RandomNet,
    RandomNetSettings,
    inspect_random_net,
    mean_layers,
    unbiased_collapse,
    wrapped,
)
from ipu_train.inspect.theory import (
    arc_cosine,
    estimated_rate,
    finite_width_excess,
    predicted_collapse,
    predicted_rate,
)

SMALL = RandomNetSettings(width=128, depth=12, images=32, image_size=4, networks=1, group_size=8)


def layers(norm, settings=SMALL):
    return mean_layers(inspect_random_net(emulator, norm, settings))


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "group", "layer+pn", "group+pn", "layer+ws"])
def test_terms_sum_to_the_power_of_a_normalised_tensor(norm):
    rows = layers(norm, SMALL._replace(depth=4))
    assert [row.depth for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row.total == pytest.approx(1, abs=1e-5)
        if norm == "batch":
            assert row.squared_mean_of_means < 1e-10
        if norm == "instance":
            assert row[3:] == pytest.approx((0, 0, 1, 0), abs=1e-5)


def test_batch_norm_in_micro_batches_has_no_squared_mean_but_over_all_of_them():
    rows = layers("batch", SMALL._replace(depth=3, micro_batch_size=4))
    assert all(row.squared_mean_of_means < 1e-10 and row.total == pytest.approx(1, abs=1e-5) for row in rows)


@pytest.mark.parametrize("gamma_std, beta_std", [(0.2, 0.2), (0.0, 0.4)])
def test_layer_norm_collapses_as_the_mean_field_map_predicts(gamma_std, beta_std):
    settings = SMALL._replace(width=256, depth=10, networks=2, gamma_std=gamma_std, beta_std=beta_std)
    networks = inspect_random_net(emulator, "layer", settings)
    found = unbiased_collapse(mean_layers(networks), settings.images)
    predicted = predicted_collapse(10, "relu", gamma_std, beta_std)
    assert found == pytest.approx(predicted, abs=0.05)


def test_the_collapse_of_silu_networks_is_predicted_as_well():
    settings = SMALL._replace(width=256, depth=8, networks=2, activation="silu")
    found = unbiased_collapse(mean_layers(inspect_random_net(emulator, "layer", settings)), settings.images)
    assert found == pytest.approx(predicted_collapse(8, "silu"), abs=0.05)


def test_the_rate_of_collapse_is_theorys_within_its_own_error():
    settings = RandomNetSettings(width=256, depth=24, images=8, image_size=3, networks=8)
    networks = inspect_random_net(emulator, "layer", settings)
    rate = estimated_rate([unbiased_collapse(rows, settings.images) for rows in networks], width=256)
    assert rate.error < 0.01
    assert abs(rate.value - (1 + 0.2**2) / (1 + 0.2**2 + 0.2**2)) < 3 * rate.error


@pytest.mark.parametrize("gamma_std, beta_std", [(0.0, 0.0), (0.3, 0.5)])
def test_a_ratio_is_too_large_in_a_network_of_finite_width(gamma_std, beta_std):
    """Against random channels of ReLU: the mean over layers of a quotient of means over channels, in float64."""
    generator = torch.Generator().manual_seed(0)
    width, draws = 128, 60_000
    u, g, b = torch.randn(3, draws, width, generator=generator, dtype=torch.float64)
    gamma, z = 1 + gamma_std * g, (1 + gamma_std * g) * u + beta_std * b
    ratios = (gamma.square() * (z > 0)).mean(1) / z.relu().square().mean(1)
    excess = width * (ratios.mean().item() / predicted_rate("relu", gamma_std, beta_std) - 1)
    assert finite_width_excess("relu", gamma_std, beta_std) == pytest.approx(excess, rel=0.15)


def test_more_networks_are_made_where_the_rate_is_uncertain():
    settings = SMALL._replace(width=48, depth=20, images=8, image_size=2, networks=2)
    networks = inspect_random_net(emulator, "layer", settings)
    found = measured_collapse(emulator, settings, networks)
    first = estimated_rate([unbiased_collapse(rows, 8) for rows in networks], width=48)
    assert found.networks == 26 and found.rate.error < first.error
    shallow = [rows[:2] for rows in networks]
    assert measured_collapse(emulator, settings, shallow) == (None, 2)


def test_proxy_norm_keeps_layer_norm_from_collapsing_at_every_depth():
    rows = layers("layer+pn", SMALL._replace(depth=50, image_size=3))
    assert max(row.squared_mean_of_means for row in rows) < 0.05
    assert max(row.squared_mean_of_means for row in rows[9:]) < 0.01
    collapsed = layers("layer", SMALL._replace(depth=12, image_size=3))
    assert collapsed[-1].squared_mean_of_means > 0.8


def test_predictions_are_the_published_map_and_rate():
    # notes on the paper: with s_g = s_b = 0.2, P1 at depths 2, 5, 10, 20 and 50
    predicted = predicted_collapse(50)
    assert [predicted[d - 1] for d in (2, 5, 10, 20, 50)] == pytest.approx(
        [0.337, 0.712, 0.883, 0.964, 0.996], abs=1e-3
    )
    assert predicted_rate() == pytest.approx(1.04 / 1.08)
    assert predicted_rate(beta_std=0.5) == pytest.approx(0.806, abs=1e-3)


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_the_map_is_the_expectation_over_random_affine_steps(activation):
    """Against plain sampling in float64."""
    generator = torch.Generator().manual_seed(0)
    u, v, g, b = torch.randn(4, 2_000_000, generator=generator, dtype=torch.float64)
    gamma, beta = 1 + 0.3 * g, 0.5 * b
    phi = {"relu": F.relu, "silu": F.silu, "tanh": torch.tanh}[activation]
    q1 = (phi(gamma * u + beta) * phi(gamma * v + beta)).mean() / phi(gamma * u + beta).square().mean()
    assert predicted_collapse(2, activation, 0.3, 0.5)[1] == pytest.approx(q1.item(), abs=3e-3)


@pytest.mark.parametrize("beta_std", [0.2, 0.3, 0.5])
def test_the_estimate_finds_the_rate_in_what_theory_predicts(beta_std):
    collapse = predicted_collapse(30, beta_std=beta_std)
    found = estimated_rate([collapse], beta_std=beta_std)
    assert found.value == pytest.approx(predicted_rate(beta_std=beta_std), abs=2e-3)
    assert estimated_rate([[0.0] * 30]) is None


@pytest.mark.parametrize("q", [-0.8, 0.0, 0.3, 0.95])
def test_rectified_gaussians_correlate_as_an_integral_over_their_angle_says(q):
    """In polar coordinates only the angle is left of E[relu(u) relu(v)] / E[relu(u)^2], where both are positive."""
    between = math.acos(q)
    angles = np.linspace(between - math.pi / 2, math.pi / 2, 100_001)
    mean = np.mean(np.cos(angles) * np.cos(angles - between)) * (math.pi - between) / math.pi
    assert arc_cosine(q) == pytest.approx(2 * mean, abs=1e-4)


def test_trivial_affine_steps_give_the_map_of_cho_and_saul():
    assert arc_cosine(1.0) == pytest.approx(1) and arc_cosine(-1.0) == pytest.approx(0, abs=1e-12)
    assert predicted_collapse(2, "relu", 0.0, 0.0)[1] == pytest.approx(1 / math.pi)


def test_boundaries_are_periodic():
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(wrapped(x), F.pad(x, (1, 1, 1, 1), mode="circular"))


def test_affine_steps_are_drawn_as_asked():
    torch.manual_seed(0)
    net = RandomNet("layer+pn", SMALL._replace(width=4096, depth=1, gamma_std=0.4, beta_std=0.1))
    gamma, beta = net.sites[0].proxy.gamma, net.sites[0].proxy.beta
    assert (gamma.mean().item(), gamma.std().item()) == pytest.approx((1.0, 0.4), abs=0.03)
    assert (beta.mean().item(), beta.std().item()) == pytest.approx((0.0, 0.1), abs=0.01)


@pytest.mark.parametrize(
    "norm, changes, message",
    [
        ("layr", {}, "Did you mean 'layer'"),
        ("layer+x", {}, r"\+pn \(Proxy Norm\) and \+ws"),
        ("none+pn", {}, "Proxy Norm needs a norm"),
        ("evonorm_s0", {}, "activation of its own"),
        ("group", {"group_size": 7}, "128 channels into groups of 7"),
        ("layer", {"activation": "rely"}, "unknown activation 'rely'"),
        ("layer", {"micro_batch_size": 5}, "no multiple"),
        ("group", {"group_size": None, "groups": 5}, "--groups must be one of 1, 2, 4, 8, 16, 32, 64, 128$"),
        ("layer", {"width": 10**7, "depth": 50}, "this machine has .* GB; lower --width"),
        ("batch", {"image_size": 1, "micro_batch_size": 1}, "statistics of one value"),
        ("instance", {"image_size": 1}, "statistics of one value"),
    ],
)
def test_what_cannot_be_is_refused(norm, changes, message):
    with pytest.raises(InspectError, match=message):
        inspect_random_net(emulator, norm, SMALL._replace(**{"depth": 1, **changes}))

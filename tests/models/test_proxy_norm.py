import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm as gaussian
from torch import nn

from ipu_train.kernels.maths import relu_moments
from ipu_train.kernels.tables import quantile_points, trapezoid
from ipu_train.models.proxy_norm import ProxyNorm

ACTIVATION = {"relu": F.relu, "silu": F.silu}


def random_proxy_norm(channels=4, seed=0, **options):
    torch.manual_seed(seed)
    module = ProxyNorm(channels, **options).double()
    with torch.no_grad():
        module.beta.normal_(0, 0.5)
        module.gamma.normal_(1, 0.5)
        module.gamma[0] = -0.7  # a flipped channel is legal
        module.proxy_beta.normal_(0, 0.3)
        module.proxy_gamma.normal_(0, 0.3)
    return module


def as_written(module, y, n):
    """Proxy Norm as it is defined, with no rearrangement."""
    phi = ACTIVATION[module.activation]
    view = (-1,) + (1,) * (y.dim() - 2)
    proxy = module.proxy_beta[:, None] + (1 + module.proxy_gamma[:, None]) * n
    sample = phi(module.gamma[:, None] * proxy + module.beta[:, None])
    m = sample.mean(1)
    v = (sample - m[:, None]).square().mean(1)
    s = 1 / torch.sqrt(v + module.eps)
    real = phi(module.gamma.view(view) * y + module.beta.view(view))
    return (real - m.view(view)) * s.view(view)


# Labatie et al. 2021: mean and variance of the activation of N(0, 1), and 1 / sqrt(variance + 0.03)
CONSTANTS = [
    ("relu", "quantiles", 200, 0.39845, 0.33803, 1.64837),
    ("relu", "quantiles", 256, 0.39857, 0.33864, 1.64703),
    ("relu", "exact", 200, 0.398942, 0.340845, 1.642116),
    ("silu", "quantiles", 200, 0.20605, 0.31000, 1.71498),
    ("swish", "quantiles", 256, 0.20618, 0.31066, 1.71331),
    ("silu", "exact", 200, 0.206621, 0.313083, 1.707262),
]


@pytest.mark.parametrize("activation, expectation, quantiles, mean, variance, scale", CONSTANTS)
def test_the_statistics_at_initialisation_are_the_published_constants(
    activation, expectation, quantiles, mean, variance, scale
):
    module = ProxyNorm(3, activation, expectation=expectation, quantiles=quantiles)
    m, s = (t[1].item() for t in module.statistics())
    assert m == pytest.approx(mean, abs=6e-6)
    assert 1 / s**2 - 0.03 == pytest.approx(variance, abs=6e-6)
    assert s == pytest.approx(scale, abs=6e-6)


def test_the_proxy_is_represented_by_the_mid_point_quantiles():
    points = quantile_points(200)
    expected = torch.from_numpy(gaussian.ppf([(i + 0.5) / 200 for i in range(200)]))
    torch.testing.assert_close(points, expected, rtol=0, atol=1e-12)
    assert points.var(unbiased=False).item() == pytest.approx(0.993596, abs=1e-6)
    assert points.max().item() == pytest.approx(2.80703, abs=1e-5)


def test_the_trapezoidal_rule_integrates_polynomials_of_a_normal_variable():
    points, weights = trapezoid(144, 16.0)
    for power, moment in [(0, 1), (1, 0), (2, 1), (4, 3), (8, 105), (12, 10395)]:
        assert (weights * points**power).sum().item() == pytest.approx(moment, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 7), (2, 4, 3, 5)])
def test_forward_is_the_formula_as_written(activation, shape):
    module = random_proxy_norm(activation=activation)
    y = torch.randn(shape, dtype=torch.float64)
    n = torch.from_numpy(gaussian.ppf([(i + 0.5) / 200 for i in range(200)]))
    torch.testing.assert_close(module(y), as_written(module, y, n), rtol=1e-12, atol=1e-12)


class DetachedProxyNorm(ProxyNorm):
    """The mistake that the gradient test has to catch."""

    def statistics(self):
        return tuple(t.detach() for t in super().statistics())


def gradients_are_right(module):
    def loss(y, beta, gamma, proxy_beta, proxy_gamma):
        values = {"beta": beta, "gamma": gamma, "proxy_beta": proxy_beta, "proxy_gamma": proxy_gamma}
        return torch.func.functional_call(module, values, (y,))

    y = torch.randn(2, module.num_channels, 3, dtype=torch.float64, requires_grad=True)
    parameters = [p.detach().requires_grad_() for p in module.parameters()]
    assert [name for name, _ in module.named_parameters()] == ["beta", "gamma", "proxy_beta", "proxy_gamma"]
    return torch.autograd.gradcheck(loss, (y, *parameters), raise_exception=False)


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("expectation", ["quantiles", "exact"])
def test_gradients_of_the_input_and_all_four_parameters_equal_finite_differences(activation, expectation):
    # few quantiles: no proxy sample may lie within the finite difference of ReLU's corner
    module = random_proxy_norm(activation=activation, expectation=expectation, quantiles=20)
    assert gradients_are_right(module)


def test_the_gradient_test_fails_when_the_statistics_are_detached():
    module = random_proxy_norm(quantiles=20)
    module.__class__ = DetachedProxyNorm
    assert not gradients_are_right(module)


def moments_by_integration(phi, mean, std):
    mpmath.mp.dps = 30
    mean, std = mpmath.mpf(mean), mpmath.mpf(std)
    corner = [-mean / std] if std != 0 else []
    edges = sorted([mpmath.mpf(-14), mpmath.mpf(14)] + [c for c in corner if abs(c) < 14])
    edges = [e for a, b in zip(edges, edges[1:]) for e in mpmath.linspace(a, b, 9)]
    expect = lambda f: mpmath.quad(lambda n: f(phi(mean + std * n)) * mpmath.npdf(n), edges)  # noqa: E731
    m = expect(lambda a: a)
    return float(m), float(expect(lambda a: (a - m) ** 2))


PRE_ACTIVATIONS = [
    (0, 1),
    (0.3, 0.7),
    (-1.5, 0.5),
    (2.0, -0.4),
    (-0.2, -1.3),
    (-4, 1),
    (6, 1),
    (1, 3),
    (30, 0.5),
]


@pytest.mark.parametrize("mean, std", PRE_ACTIVATIONS)
def test_exact_relu_moments_equal_the_integrals(mean, std):
    expected = moments_by_integration(lambda a: max(a, 0), mean, std)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 3e-6)):
        m, v = relu_moments(torch.tensor([mean], dtype=dtype), torch.tensor([std], dtype=dtype))
        assert (m.item(), v.item()) == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("mean, std", [p for p in PRE_ACTIVATIONS if abs(p[1]) <= 3])
def test_exact_silu_statistics_equal_the_integrals(mean, std):
    module = ProxyNorm(1, "silu", expectation="exact").double()
    with torch.no_grad():
        module.gamma.fill_(std)
        module.beta.fill_(mean)
    mean_of, variance = moments_by_integration(lambda a: a / (1 + mpmath.exp(-a)), mean, std)
    m, s = module.statistics()
    assert m.item() == pytest.approx(mean_of, abs=1e-6)
    assert s.item() == pytest.approx((variance + 0.03) ** -0.5, abs=1e-6)


def test_more_quantiles_approach_the_exact_expectation():
    exact = random_proxy_norm(expectation="exact")
    errors = []
    for quantiles in (20, 200, 2000, 20000):
        sampled = random_proxy_norm(quantiles=quantiles)
        errors.append((sampled.statistics()[1] - exact.statistics()[1]).abs().max().item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 2e-3


def test_a_channel_without_spread_gives_relu_of_its_mean_and_finite_gradients():
    mean = torch.tensor([2.0, 0.0, -3.0], requires_grad=True)
    std = torch.zeros(3, requires_grad=True)
    m, v = relu_moments(mean, std)
    torch.testing.assert_close(m, torch.tensor([2.0, 0.0, 0.0]))
    assert v.abs().max() < 1e-12
    (m.sum() + torch.rsqrt(v + 0.03).sum()).backward()
    assert torch.isfinite(mean.grad).all() and torch.isfinite(std.grad).all()
    assert mean.grad[0] == 1 and mean.grad[2] == 0


def test_a_gaussian_input_leaves_with_zero_mean_and_variance_v_over_v_plus_eps():
    torch.manual_seed(0)
    for activation, variance in (("relu", 0.340845), ("silu", 0.313083)):
        out = ProxyNorm(1, activation, expectation="exact")(torch.randn(2**20, 1))
        assert out.mean().item() == pytest.approx(0, abs=5e-3)
        assert out.var().item() == pytest.approx(variance / (variance + 0.03), abs=5e-3)


def test_proxy_norm_is_an_affine_map_of_the_activation_that_the_next_1x1_convolution_absorbs():
    module = random_proxy_norm(channels=4)
    y = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    after = nn.Conv2d(4, 6, 1).double()
    m, s = module.statistics()
    folded = nn.Conv2d(4, 6, 1).double()
    with torch.no_grad():
        folded.weight.copy_(after.weight * s.view(1, 4, 1, 1))
        folded.bias.copy_(after.bias - (after.weight[:, :, 0, 0] * (m * s)).sum(1))
    plain = F.relu(module.gamma.view(4, 1, 1) * y + module.beta.view(4, 1, 1))
    torch.testing.assert_close(after(module(y)), folded(plain), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_half_precision_activations_keep_their_dtype_and_the_statistics_stay_in_float32(activation):
    module = ProxyNorm(4, activation)
    y = torch.randn(2, 4, 3, 3)
    if activation == "silu":
        try:
            F.silu(y.half())
        except RuntimeError:
            pytest.skip("this torch has no half-precision SiLU on the CPU")
    try:
        out = module(y.half())
    except RuntimeError as error:
        pytest.skip(f"this torch has no half-precision arithmetic on the CPU: {error}")
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), module(y), rtol=0, atol=6e-3)
    module.half()
    assert module.beta.dtype == torch.float16 and module.points.dtype == torch.float32
    assert [t.dtype for t in module.statistics()] == [torch.float32] * 2
    torch.testing.assert_close(module.points, quantile_points(200).float())


def test_checkpoints_hold_the_four_parameters_only():
    for expectation in ("quantiles", "exact"):
        module = ProxyNorm(2, "silu", expectation=expectation)
        assert list(module.state_dict()) == ["beta", "gamma", "proxy_beta", "proxy_gamma"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"expectation": "mean"}, "quantiles, exact"),
        ({"eps": 0.0}, "must be positive"),
        ({"quantiles": 0}, "at least 1"),
        ({"activation": "rely"}, "did you mean 'relu'"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        ProxyNorm(4, **options)


def test_an_input_with_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"takes \[N, 4, ...\]"):
        ProxyNorm(4)(torch.zeros(2, 3, 4, 4))


def test_images_at_the_default_proxy_have_the_published_scale():
    out = ProxyNorm(1)(torch.tensor([[0.0], [1.0]]))
    m, s = 0.39845, 1.64837
    assert out.flatten().tolist() == pytest.approx([-m * s, (1 - m) * s], abs=3e-5)
    assert math.isclose(out[1].item() - out[0].item(), s, abs_tol=3e-5)

"""The operation's definition, written out in float64: the truth the kernels are compared with."""

import math
from statistics import NormalDist

import torch
from scipy import integrate

ACTIVATIONS = {
    "relu": torch.relu,  # whose derivative is zero at zero
    "silu": lambda z: z / (1.0 + torch.exp(-z)),
}


def quantiles(count):
    return torch.tensor([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)], dtype=torch.float64)


def proxy_statistics(beta, gamma, proxy_beta, proxy_gamma, activation="relu", eps=0.03, count=200):
    """Mean and inverse deviation of phi(gamma (proxy_beta + (1 + proxy_gamma) n) + beta) over quantiles n."""
    n = quantiles(count)
    proxy = proxy_beta[:, None] + (1.0 + proxy_gamma[:, None]) * n
    value = ACTIVATIONS[activation](gamma[:, None] * proxy + beta[:, None])
    mean = value.mean(1)
    variance = ((value - mean[:, None]) ** 2).mean(1)
    return mean, 1.0 / torch.sqrt(variance + eps)


def exact_proxy_moments(mu, sigma, activation):
    """Mean and variance of phi(mu + sigma n), n standard normal, by adaptive quadrature (plain floats)."""

    def phi(z):
        return max(z, 0.0) if activation == "relu" else z / (1.0 + math.exp(-z)) if z > -700 else 0.0

    def density(n):
        return math.exp(-0.5 * n * n) / math.sqrt(2.0 * math.pi)

    kink = [-mu / sigma] if sigma != 0.0 and abs(mu / sigma) < 12.0 else []
    options = {"points": [*kink, 0.0], "limit": 400, "epsabs": 1e-13, "epsrel": 1e-12}
    mean = integrate.quad(lambda n: phi(mu + sigma * n) * density(n), -12.0, 12.0, **options)[0]
    square = integrate.quad(lambda n: (phi(mu + sigma * n) - mean) ** 2 * density(n), -12.0, 12.0, **options)[
        0
    ]
    return mean, square


def exact_proxy_statistics(parameters, activation, eps=0.03):
    """Mean and inverse deviation over a true Gaussian proxy, by quadrature; beta, gamma and the proxy's, [C]."""
    found = []
    for beta, gamma, proxy_beta, proxy_gamma in zip(
        *(parameter.double().tolist() for parameter in parameters)
    ):
        mu, sigma = gamma * proxy_beta + beta, gamma * (1.0 + proxy_gamma)
        mean, variance = exact_proxy_moments(mu, sigma, activation)
        found.append((mean, (variance + eps) ** -0.5))
    return torch.tensor(found, dtype=torch.float64).T


def exact_proxy_gradients(parameters, activation, step=1e-4):
    """Those of the sum of all means and inverse deviations by each of the four parameters, by central differences."""
    doubles = [parameter.double() for parameter in parameters]
    gradients = []
    for index in range(4):
        ends = []
        for sign in (step, -step):
            moved = list(doubles)
            moved[index] = doubles[index] + sign
            ends.append(exact_proxy_statistics(moved, activation).sum(0))
        gradients.append((ends[0] - ends[1]) / (2.0 * step))
    return gradients


def normalised(x, groups, norm_eps=1e-5):
    if groups is None:
        return x
    flat = x.reshape(x.shape[0], groups, -1)
    centred = flat - flat.mean(2, keepdim=True)
    return (centred / torch.sqrt((centred**2).mean(2, keepdim=True) + norm_eps)).reshape(x.shape)


def norm_proxy_norm_act(
    x, groups, beta, gamma, proxy_beta, proxy_gamma, activation="relu", eps=0.03, norm_eps=1e-5, count=200
):
    mean, inverse = proxy_statistics(beta, gamma, proxy_beta, proxy_gamma, activation, eps, count)
    shape = (1, -1) + (1,) * (x.dim() - 2)
    z = gamma.view(shape) * normalised(x, groups, norm_eps) + beta.view(shape)
    return (ACTIVATIONS[activation](z) - mean.view(shape)) * inverse.view(shape)


def problem(shape, dtype=torch.float64, seed=0):
    """x, beta, gamma, proxy_beta, proxy_gamma and a gradient of y: trained-looking, in general position.

    Parameters are kept in float32 (float64 for float64), x and the gradient in ``dtype``.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(size, mean=0.0, std=1.0):
        return mean + std * torch.randn(size, generator=generator, dtype=torch.float64)

    kind = torch.float64 if dtype == torch.float64 else torch.float32
    channels = shape[1]
    x = draw(shape, 0.3, 1.7).to(dtype)
    parameters = [draw(channels, mean, 0.3).to(kind) for mean in (0.0, 1.0, 0.0, 0.0)]
    return x, parameters, draw(shape).to(dtype)


def gradients(function, x, parameters, grad):
    """y and the gradients of x and the parameters, of sum(grad * function(x, *parameters))."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, *parameters)]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def truth(x, parameters, grad, groups, **options):
    """:func:`gradients` of the definition, in float64."""
    doubles = [tensor.double() for tensor in (x, *parameters, grad)]
    return gradients(
        lambda x, *parameters: norm_proxy_norm_act(x, groups, *parameters, **options),
        doubles[0],
        doubles[1:-1],
        doubles[-1],
    )


def error(actual, expected):
    """The largest error, relative to the expected tensor's root mean square."""
    scale = expected.double().square().mean().sqrt().clamp_min(1e-30)
    return ((actual.double() - expected.double()).abs().max() / scale).item()

"""Proxy Norm (Labatie et al. 2021, arXiv 2106.03743): batch-independent normalisation of activations.

A batch-independent norm leaves every image with unit power, but the affine step and the non-linearity after
it shift and scale each channel again. Proxy Norm undoes this on average, with statistics of a *proxy* of
the pre-activation instead of statistics of the batch:

    Y    = proxy_beta + (1 + proxy_gamma) * n,   n standard normal      (the proxy, one per channel)
    m    = E[phi(gamma * Y + beta)]
    s    = 1 / sqrt(Var[phi(gamma * Y + beta)] + eps)
    out  = (phi(gamma * y + beta) - m) * s

m and s depend on the four parameter vectors alone, so an image's output never depends on the other images
of the batch and training and evaluation compute the same function. Gradients flow through m and s. The
formulas, the 200 quantile points, eps = 0.03 and the initial values are those of Graphcore's public code
for the paper.
"""

from typing import Any, Optional, Tuple

import torch
from torch import nn

from ..kernels.maths import proxy_statistics
from ..kernels.settings import EPS, EXPECTATIONS, QUANTILES
from ..kernels.tables import points_and_weights
from .activations import activation as find_activation

HELD = ("held_mean", "held_scale")


def broadcastable(vector: torch.Tensor, dims: int) -> torch.Tensor:
    """A [C] vector viewed so that it broadcasts over the channels of a tensor with ``dims`` dimensions."""
    return vector.reshape((-1,) + (1,) * (dims - 2))


class ProxyNorm(nn.Module):
    """The affine step, the activation and Proxy Norm, on the output of a norm *without* affine parameters.

    Shape: ``[N, C, *]`` to the same shape and dtype. The statistics are computed in float32 (float64 when
    the parameters are float64) whatever the dtype of the activations; only the resulting scale and shift
    are cast.

    A positively homogeneous activation (ReLU) needs no multiplication by s: s * phi(z) = phi(s * z), so s
    goes into gamma and beta, and into the norm before them. What then remains over the plain norm and
    activation is one addition of a [C] vector. For other activations it is one multiplication and one
    addition.

    Memory: beside what the norm and the activation keep for backward (input of the norm; output of ReLU,
    input of SiLU), ReLU keeps nothing of full size, others keep the activation's output for the gradient of
    s. The next layer keeps this module's output, as it would the activation's. The statistics need [C,
    quantiles] temporaries (float32; one is kept for backward for ReLU, two for others) with "quantiles", a
    few [C] with "exact" and ReLU.

    Args:
        num_channels: C.
        activation: name of phi: relu, silu (swish), gelu, tanh, identity.
        eps: added to the proxy's variance. 0.03 in the paper's code, large on purpose.
        expectation: "quantiles", the paper's code: the mean over fixed mid-point quantiles; or "exact": in
            closed form for ReLU, a trapezoidal rule with 289 points for others (error below 1e-10 in m and s for
            SiLU and a proxy pre-activation with a standard deviation up to 13).
        quantiles: number of points of "quantiles".

    Parameters: beta and gamma (the affine step, initially 0 and 1), proxy_beta and proxy_gamma (both
    initially 0: the proxy is N(0, 1)), each of shape [C]. The paper's code decays the proxy parameters and
    not the affine ones.

    Raises ValueError for an unknown activation or expectation, and for inputs without C channels.
    """

    def __init__(
        self,
        num_channels: int,
        activation: str = "relu",
        eps: float = EPS,
        expectation: str = "quantiles",
        quantiles: int = QUANTILES,
    ):
        super().__init__()
        if expectation not in EXPECTATIONS:
            raise ValueError(
                f"proxy_norm_expectation is {expectation!r}; valid values: {', '.join(EXPECTATIONS)}"
            )
        if not eps > 0:
            raise ValueError(f"proxy_norm_eps is {eps}; it must be positive (the paper's code has {EPS})")
        if quantiles < 1:
            raise ValueError(
                f"proxy_norm_quantiles is {quantiles}; it must be at least 1 (the paper's code has {QUANTILES})"
            )
        self.num_channels = num_channels
        self.activation = activation
        self.eps = eps
        self.expectation = expectation
        self.quantiles = quantiles
        self.phi = find_activation(activation)
        self.beta = nn.Parameter(torch.zeros(num_channels))
        self.gamma = nn.Parameter(torch.ones(num_channels))
        self.proxy_beta = nn.Parameter(torch.zeros(num_channels))
        self.proxy_gamma = nn.Parameter(torch.zeros(num_channels))
        # Buffers, so that they are on the device, but constants, so that no checkpoint holds them.
        self.register_buffer("points", None, persistent=False)
        self.register_buffer("weights", None, persistent=False)
        self._set_points()
        self.register_parameter("held_mean", None)
        self.register_parameter("held_scale", None)

    def _set_points(self) -> None:
        dtype = torch.promote_types(self.beta.dtype, torch.float32)
        points, weights = points_and_weights(self.activation, self.expectation, self.quantiles)
        self.points = None if points is None else points.to(self.beta.device, dtype)
        self.weights = None if weights is None else weights.to(self.beta.device, dtype)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        # .half() must not round points and statistics, and .double() must give points of full precision.
        super()._apply(fn, *args, **kwargs)
        self._set_points()
        for held in (self.held_mean, self.held_scale):
            if held is not None:
                held.data = held.data.to(torch.promote_types(self.beta.dtype, torch.float32))
        return self

    def vectors(self) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """beta, gamma, proxy_beta, proxy_gamma in the dtype of the statistics: float32 or float64."""
        dtype = torch.promote_types(self.beta.dtype, torch.float32)
        beta, gamma = self.beta.to(dtype), self.gamma.to(dtype)
        return beta, gamma, self.proxy_beta.to(dtype), self.proxy_gamma.to(dtype)

    def computed_statistics(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """``proxy_statistics`` of the parameters as they are now: two [C], float32 or float64."""
        return proxy_statistics(*self.vectors(), self.phi.function, self.eps, self.points, self.weights)

    def statistics(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """m and s as forward uses them: computed here, unless held between weight updates (``hold``)."""
        if self.held_mean is not None:
            return self.held_mean, self.held_scale
        return self.computed_statistics()

    def hold(self) -> None:
        """From now on take m and s from two parameters, ``held_mean`` and ``held_scale``, filled here.

        They stay as they are until ``HeldStatistics`` refreshes them, and collect dL/dm and dL/ds as
        gradients. No checkpoint holds them: they follow from the other four parameters.
        """
        m, s = self.computed_statistics()
        self.held_mean = nn.Parameter(m.detach().clone())
        self.held_scale = nn.Parameter(s.detach().clone())

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in HELD:
            destination.pop(prefix + name, None)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        missing[:] = [name for name in missing if name not in (prefix + HELD[0], prefix + HELD[1])]
        if self.held_mean is not None:
            with torch.no_grad():
                m, s = self.computed_statistics()
                self.held_mean.copy_(m)
                self.held_scale.copy_(s)

    def coefficients(
        self, dtype: torch.dtype
    ) -> Tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor], torch.Tensor]:
        """What turns a norm into a proxy-normalised one: (weight, bias, scale, shift), each [C] in ``dtype``.

        out = phi(weight * y + bias) * scale + shift. The scale is None where it is already within weight
        and bias.
        """
        m, s = self.statistics()
        if self.phi.positively_homogeneous:
            return (self.gamma * s).to(dtype), (self.beta * s).to(dtype), None, (-m * s).to(dtype)
        return self.gamma.to(dtype), self.beta.to(dtype), s.to(dtype), (-m * s).to(dtype)

    def delayed_coefficients(self, dtype: torch.dtype) -> Tuple[torch.Tensor, ...]:
        """(weight, bias, scale, shift), each [C] in ``dtype``, of the form whose scale is applied later.

        out = (phi(weight * y + bias) + shift) * scale.
        """
        m, s = self.statistics()
        return self.gamma.to(dtype), self.beta.to(dtype), s.to(dtype), (-m).to(dtype)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if y.dim() < 2 or y.shape[1] != self.num_channels:
            raise ValueError(
                f"Proxy Norm for {self.num_channels} channels got a tensor of shape {tuple(y.shape)}; "
                f"it takes [N, {self.num_channels}, ...]"
            )
        weight, bias, scale, shift = self.coefficients(y.dtype)
        z = y * broadcastable(weight, y.dim()) + broadcastable(bias, y.dim())
        return renormalise(self.phi.function(z), scale, shift)

    def extra_repr(self) -> str:
        return (
            f"{self.num_channels}, activation={self.activation}, eps={self.eps}, "
            f"expectation={self.expectation}"
        )


def renormalise(activated: torch.Tensor, scale: Optional[torch.Tensor], shift: torch.Tensor) -> torch.Tensor:
    """activated * scale + shift for [N, C, *] and [C] vectors (scale None: 1), with one full-size
    temporary.
    """
    shift = broadcastable(shift, activated.dim())
    if scale is None:
        return activated + shift
    # In place: the product is not needed for backward, and a second full-size tensor costs more than the
    # addition.
    return (activated * broadcastable(scale, activated.dim())).add_(shift)

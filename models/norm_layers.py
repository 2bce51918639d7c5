"""The norms that torch has, with affine steps that may be left out or taken over by Proxy Norm."""

from typing import Any, Callable, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from ..kernels.settings import ACTIVATIONS, Settings
from .activations import activation as find_activation
from .proxy_norm import ProxyNorm, broadcastable, renormalise


class ChannelAffine(nn.Module):
    """Mixin of the norms here: a [C] scale and a [C] shift, each of which may be left out or given from
    outside.

    ``forward(x, weight=None, bias=None)`` takes the affine step of a Proxy Norm in place of its own.
    Every such norm returns a fresh tensor that its backward does not need, so the activation may overwrite
    it.
    """

    def set_affine(self, num_channels: int, scale: bool, shift: bool) -> None:
        self.affine = scale
        self.register_parameter("weight", nn.Parameter(torch.ones(num_channels)) if scale else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_channels)) if shift else None)

    def affine_in(
        self, dtype: torch.dtype, weight: Optional[torch.Tensor], bias: Optional[torch.Tensor]
    ) -> Tuple[Optional[torch.Tensor], Optional[torch.Tensor]]:
        """The affine vectors in the activation's dtype, as PopTorch casts them: both or none.

        PopTorch refuses a norm with a weight and no bias, so a dropped shift becomes zeros.
        """
        weight = self.weight if weight is None else weight
        bias = self.bias if bias is None else bias
        if weight is None:
            return None, None
        weight = weight.to(dtype)
        return weight, torch.zeros_like(weight) if bias is None else bias.to(dtype)

    def reset_parameters(self) -> None:
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def check_groups(num_channels: int, num_groups: int) -> None:
    """ValueError, with the legal values, when the groups do not divide the channels."""
    if num_groups < 1 or num_channels % num_groups:
        legal = [g for g in range(1, num_channels + 1) if num_channels % g == 0]
        raise ValueError(
            f"group norm cannot split {num_channels} channels into {num_groups} groups: norm_groups must "
            f"be one of {', '.join(map(str, legal))} here, and divide the channels of every other layer"
        )


def check_group_size(num_channels: int, group_size: int) -> None:
    """ValueError, with the legal values, when groups of that many channels do not fill the channels."""
    if group_size < 1 or num_channels % group_size:
        legal = [size for size in range(1, num_channels + 1) if num_channels % size == 0]
        raise ValueError(
            f"group norm cannot split {num_channels} channels into groups of {group_size}: norm_group_size must "
            f"be one of {', '.join(map(str, legal))} here, and divide the channels of every other layer"
        )


class GroupNorm(ChannelAffine, nn.GroupNorm):
    """Group Norm (Wu and He 2018) on [N, C, *]; one group is Layer Norm over C, H and W, C groups are
    Instance Norm.

    Keeps for backward: its input, and the mean and inverse standard deviation [N, groups].
    Raises ValueError when the groups do not divide the channels.
    """

    def __init__(
        self, num_channels: int, num_groups: int, eps: float = 1e-5, scale: bool = True, shift: bool = True
    ) -> None:
        check_groups(num_channels, num_groups)
        nn.GroupNorm.__init__(self, num_groups, num_channels, eps=eps, affine=False)
        self.set_affine(num_channels, scale, shift)

    def forward(
        self, x: torch.Tensor, weight: Optional[torch.Tensor] = None, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        weight, bias = self.affine_in(x.dtype, weight, bias)
        return F.group_norm(x, self.num_groups, weight, bias, self.eps)


class BatchNorm(ChannelAffine, nn.BatchNorm2d):
    """Batch Norm (Ioffe and Szegedy 2015) on [N, C, H, W] with the statistics of the micro-batch.

    Keeps for backward: its input, and the mean and inverse standard deviation [C] of the batch. Mixes the
    images of a batch.
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        scale: bool = True,
        shift: bool = True,
    ) -> None:
        nn.BatchNorm2d.__init__(self, num_channels, eps=eps, momentum=momentum, affine=False)
        self.set_affine(num_channels, scale, shift)

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        ChannelAffine.reset_parameters(self)

    def forward(
        self, x: torch.Tensor, weight: Optional[torch.Tensor] = None, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        weight, bias = self.affine_in(x.dtype, weight, bias)
        if self.training:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            x, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
        )


class NoNorm(ChannelAffine):
    """No normalisation: the affine step alone, on [N, C, *].

    The shift is the bias that the convolutions of a normalised network lack. The scale lets a residual
    branch start at zero, without which deep residual networks do not train unnormalised (SkipInit, De and
    Smith 2020). Keeps for backward: its input, for the gradient of the scale.
    """

    def __init__(self, num_channels: int, scale: bool = True, shift: bool = True) -> None:
        nn.Module.__init__(self)
        self.set_affine(num_channels, scale, shift)

    def forward(
        self, x: torch.Tensor, weight: Optional[torch.Tensor] = None, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        weight, bias = self.affine_in(x.dtype, weight, bias)
        if weight is None:
            return x.clone()
        return (x * broadcastable(weight, x.dim())).add_(broadcastable(bias, x.dim()))


class NormActivation(nn.Module):
    """A norm, its affine step and an activation; with Proxy Norm around the activation if ``proxy`` is given.

    With Proxy Norm the norm has no parameters of its own: it applies the proxy's affine step, which is
    the same function as normalising first and saves a pass over the tensor. Shape: [N, C, *] to the same.

    Args:
        delay_scale: return the pair (phi(z) - m, s) in place of (phi(z) - m) * s, with s [C] in the dtype of
            the activation, so that a later multiplication by a [C] vector can take s in. Needs ``proxy``.
    """

    def __init__(
        self, norm: nn.Module, activation: str, proxy: Optional[ProxyNorm] = None, delay_scale: bool = False
    ):
        super().__init__()
        self.norm = norm
        self.activation = activation
        self.phi = find_activation(activation)
        self.proxy = proxy
        self.delay_scale = delay_scale
        self.kernel: Optional[Callable[..., torch.Tensor]] = None  # see ``use_proxy_norm_kernel``

    def forward(self, x: torch.Tensor) -> Any:
        if self.kernel is not None:
            return self._by_kernel(x)
        if self.proxy is None:
            return self.phi.function(self.norm(x))
        if self.delay_scale:
            weight, bias, scale, shift = self.proxy.delayed_coefficients(x.dtype)
            return renormalise(self.phi.function(self.norm(x, weight, bias)), None, shift), scale
        weight, bias, scale, shift = self.proxy.coefficients(x.dtype)
        return renormalise(self.phi.function(self.norm(x, weight, bias)), scale, shift)

    def _by_kernel(self, x: torch.Tensor) -> torch.Tensor:
        proxy, kernel = self.proxy, self.kernel
        assert proxy is not None and kernel is not None
        settings = Settings(
            self.norm.num_groups,
            self.activation,
            proxy.eps,
            self.norm.eps,
            proxy.expectation,
            proxy.quantiles,
        )
        return kernel(x, proxy.beta, proxy.gamma, proxy.proxy_beta, proxy.proxy_gamma, settings)

    def extra_repr(self) -> str:
        return f"activation={self.activation}" + (", delay_scale=True" if self.delay_scale else "")


def use_proxy_norm_kernel(
    model: nn.Module, kernel: Callable[..., torch.Tensor], activations: Sequence[str] = ACTIVATIONS
) -> int:
    """Let ``kernel`` compute norm, activation and Proxy Norm in one, wherever a group-wise norm has Proxy Norm.

    Args:
        model: of this zoo; changed in place.
        kernel: ``kernel(x, beta, gamma, proxy_beta, proxy_gamma, settings)``, with the ``Settings`` of
            ``ipu_train.kernels``, gives a tensor like ``x``, differentiable with respect to the five tensors.
        activations: where it shall.

    Returns:
        The number of places. Delayed scales, held statistics and activations other than ReLU and SiLU stay as they are.
    """
    places = 0
    for module in model.modules():
        if not isinstance(module, NormActivation) or module.proxy is None or module.delay_scale:
            continue
        if (
            isinstance(module.norm, GroupNorm)
            and module.activation in activations
            and module.proxy.held_mean is None
        ):
            module.kernel = kernel
            places += 1
    return places

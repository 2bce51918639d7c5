"""Every norm behind one factory: a model asks for a norm by its place, never by its class.

Two places exist. ``Norms.activated`` is a norm followed by an activation, with Proxy Norm around the
activation where asked. ``Norms.before_addition`` is a norm that feeds an addition: no activation follows,
hence no Proxy Norm; when the rest of the network has Proxy Norm its scale stays and its shift is dropped.
Graphcore's public code does this in EfficientNet (where its comment says that dropping the shift limits
denormalisation); in ResNets we follow it by analogy, as that code wires Proxy Norm into no ResNet.

To add a norm: write it in its own file and give it one line in ``NORMS``.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Callable, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from .activations import activation as find_activation
from .proxy_norm import ProxyNorm, broadcastable, renormalise


class ChannelAffine:
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


class GroupNorm(ChannelAffine, nn.GroupNorm):
    """Group Norm (Wu and He 2018) on [N, C, *]; one group is Layer Norm over C, H and W, C groups are
    Instance Norm.

    Keeps for backward: its input, and the mean and inverse standard deviation [N, groups].
    Raises ValueError when the groups do not divide the channels.
    """

    def __init__(self, num_channels, num_groups, eps=1e-5, scale=True, shift=True):
        if num_groups < 1 or num_channels % num_groups:
            legal = [g for g in range(1, num_channels + 1) if num_channels % g == 0]
            raise ValueError(
                f"group norm cannot split {num_channels} channels into {num_groups} groups: norm_groups must "
                f"be one of {', '.join(map(str, legal))} here, and divide the channels of every other layer"
            )
        nn.GroupNorm.__init__(self, num_groups, num_channels, eps=eps, affine=False)
        self.set_affine(num_channels, scale, shift)

    def forward(self, x, weight=None, bias=None):
        weight, bias = self.affine_in(x.dtype, weight, bias)
        return F.group_norm(x, self.num_groups, weight, bias, self.eps)


class BatchNorm(ChannelAffine, nn.BatchNorm2d):
    """Batch Norm (Ioffe and Szegedy 2015) on [N, C, H, W] with the statistics of the micro-batch.

    Keeps for backward: its input, and the mean and inverse standard deviation [C] of the batch. Mixes the
    images of a batch.
    """

    def __init__(self, num_channels, eps=1e-5, momentum=0.1, scale=True, shift=True):
        nn.BatchNorm2d.__init__(self, num_channels, eps=eps, momentum=momentum, affine=False)
        self.set_affine(num_channels, scale, shift)

    def reset_parameters(self):
        self.reset_running_stats()
        ChannelAffine.reset_parameters(self)

    def forward(self, x, weight=None, bias=None):
        weight, bias = self.affine_in(x.dtype, weight, bias)
        if self.training:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            x, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
        )


class NoNorm(ChannelAffine, nn.Module):
    """No normalisation: the affine step alone, on [N, C, *].

    The shift is the bias that the convolutions of a normalised network lack. The scale lets a residual
    branch start at zero, without which deep residual networks do not train unnormalised (SkipInit, De and
    Smith 2020). Keeps for backward: its input, for the gradient of the scale.
    """

    def __init__(self, num_channels, scale=True, shift=True):
        nn.Module.__init__(self)
        self.set_affine(num_channels, scale, shift)

    def forward(self, x, weight=None, bias=None):
        weight, bias = self.affine_in(x.dtype, weight, bias)
        if weight is None:
            return x.clone()
        return (x * broadcastable(weight, x.dim())).add_(broadcastable(bias, x.dim()))


class NormActivation(nn.Module):
    """A norm, its affine step and an activation; with Proxy Norm around the activation when ``proxy`` is
    given.

    With Proxy Norm the norm has no parameters of its own: it applies the proxy's affine step, which is
    the same function as normalising first and saves a pass over the tensor. Shape: [N, C, *] to the same.
    """

    def __init__(self, norm: nn.Module, activation: str, proxy: Optional[ProxyNorm] = None):
        super().__init__()
        self.norm = norm
        self.activation = activation
        self.phi = find_activation(activation)
        self.proxy = proxy

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.proxy is None:
            return self.phi.function(self.norm(x))
        weight, bias, scale, shift = self.proxy.coefficients(x.dtype)
        return renormalise(self.phi.function(self.norm(x, weight, bias)), scale, shift)

    def extra_repr(self) -> str:
        return f"activation={self.activation}"


@dataclass(frozen=True)
class Norms:
    """What a model is built with: the norm's name and settings.

    Attributes:
        kind: name, one of ``NORMS``.
        groups: of group norm.
        eps: added to the variance inside the norm.
        momentum: of running statistics, in torch's sense (weight of the new value).
        proxy: keyword arguments of ``ProxyNorm`` (eps, expectation, quantiles); None for no Proxy Norm.
    """

    kind: str = "group"
    groups: int = 32
    eps: float = 1e-5
    momentum: float = 0.1
    proxy: Optional[dict] = None

    def activated(self, num_channels: int, activation: str = "relu") -> nn.Module:
        """norm -> affine -> activation (-> Proxy Norm) for [N, num_channels, H, W]."""
        make = norm_kind(self.kind).make
        if self.proxy is None:
            return NormActivation(make(self, num_channels, True, True), activation)
        proxy = ProxyNorm(num_channels, activation=activation, **self.proxy)
        return NormActivation(make(self, num_channels, False, False), activation, proxy)

    def before_addition(self, num_channels: int) -> nn.Module:
        """A norm that no activation follows; with Proxy Norm in the network it has a scale and no shift."""
        return norm_kind(self.kind).make(self, num_channels, True, self.proxy is None)


@dataclass(frozen=True)
class NormKind:
    """make(settings, num_channels, scale, shift) gives the norm's module."""

    make: Callable[[Norms, int, bool, bool], nn.Module]
    takes_groups: bool = False
    takes_proxy_norm: bool = True


NORMS = {
    "batch": NormKind(lambda s, c, scale, shift: BatchNorm(c, s.eps, s.momentum, scale, shift)),
    "layer": NormKind(lambda s, c, scale, shift: GroupNorm(c, 1, s.eps, scale, shift)),
    "group": NormKind(
        lambda s, c, scale, shift: GroupNorm(c, s.groups, s.eps, scale, shift), takes_groups=True
    ),
    "instance": NormKind(lambda s, c, scale, shift: GroupNorm(c, c, s.eps, scale, shift)),
    "none": NormKind(lambda s, c, scale, shift: NoNorm(c, scale, shift)),
}


def norm_kind(name: str) -> NormKind:
    """The norm of that name; ValueError with the nearest valid name for any other."""
    if name in NORMS:
        return NORMS[name]
    near = get_close_matches(str(name), list(NORMS), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown norm {name!r}.{hint} Valid norms: {', '.join(NORMS)}")


def make_norms(
    kind: str,
    groups: Optional[int],
    eps: Optional[float],
    proxy: Optional[dict],
    default_groups: int = 32,
    default_eps: float = 1e-5,
    momentum: float = 0.1,
) -> Norms:
    """Checks what a user set and fills in the defaults of the model. Raises ValueError."""
    spec = norm_kind(kind)
    if groups is not None and not spec.takes_groups:
        takers = [name for name in NORMS if NORMS[name].takes_groups]
        raise ValueError(
            f"norm_groups is {groups}, but norm {kind!r} has no groups to choose; leave norm_groups empty "
            f"or use norm {' or '.join(map(repr, takers))}"
        )
    if proxy is not None and not spec.takes_proxy_norm:
        raise ValueError(
            f"norm {kind!r} cannot be followed by Proxy Norm, as it has an activation of its own: set "
            "proxy_norm to false"
        )
    if eps is not None and not eps > 0:
        raise ValueError(f"norm_eps is {eps}; it must be positive")
    return Norms(
        kind,
        default_groups if groups is None else groups,
        default_eps if eps is None else eps,
        momentum,
        proxy,
    )

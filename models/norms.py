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
from typing import Callable, Optional

from torch import nn

from .convolutions import convolution
from .evonorm import EvoNormB0, EvoNormS0
from .frn import FilterResponseNorm, FilterResponseNormTLU
from .norm_layers import BatchNorm, GroupNorm, NoNorm, NormActivation, check_group_size
from .proxy_norm import ProxyNorm
from .sync_batch_norm import SyncBatchNorm


@dataclass(frozen=True)
class Norms:
    """What a model is built with: the norm's name and settings.

    Attributes:
        kind: name, one of ``NORMS``.
        groups: of group norm.
        group_size: channels of each group, in place of a number of groups.
        proxy_after_addition: Proxy Norm also around activations that follow an addition (ResNets v1).
        eps: added to the variance inside the norm.
        momentum: of running statistics, in torch's sense (weight of the new value).
        proxy: keyword arguments of ``ProxyNorm`` (eps, expectation, quantiles); None for no Proxy Norm.
        weight_standardisation: standardise the weights of every convolution that a norm follows.
        cap_groups: use as many groups as there are channels where there are fewer channels than groups, and one
            group where there are fewer channels than ``group_size``.
    """

    kind: str = "group"
    groups: int = 32
    eps: float = 1e-5
    momentum: float = 0.1
    proxy: Optional[dict] = None
    weight_standardisation: bool = False
    cap_groups: bool = False
    group_size: Optional[int] = None
    proxy_after_addition: bool = False

    def activated(self, num_channels: int, activation: str = "relu", delay_scale: bool = False) -> nn.Module:
        """norm -> affine -> activation (-> Proxy Norm) for [N, num_channels, H, W].

        With ``delay_scale`` and Proxy Norm the module returns its output before the scale, and the scale
        [num_channels]; see ``NormActivation``. Norms that hold their own activation ignore ``activation``.
        """
        kind = norm_kind(self.kind)
        if kind.fused is not None:
            return kind.fused(self, num_channels)
        if self.proxy is None:
            return NormActivation(kind.make(self, num_channels, True, True), activation)
        proxy = ProxyNorm(num_channels, activation=activation, **self.proxy)
        return NormActivation(kind.make(self, num_channels, False, False), activation, proxy, delay_scale)

    def before_addition(self, num_channels: int) -> nn.Module:
        """A norm that no activation follows; with Proxy Norm in the network it has a scale and no shift."""
        return norm_kind(self.kind).make(self, num_channels, True, self.proxy is None)

    def after_addition(self, num_channels: int) -> Optional[nn.Module]:
        """ReLU and Proxy Norm of a sum of unit power; None where the activation stays without Proxy Norm."""
        if self.proxy is None or not self.proxy_after_addition:
            return None
        return ProxyNorm(num_channels, activation="relu", **self.proxy)

    def convolution(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> nn.Conv2d:
        """A convolution that one of these norms follows: no bias, output 1/stride of the input's size."""
        return convolution(in_channels, out_channels, kernel, stride, groups, self.weight_standardisation)

    def groups_for(self, num_channels: int) -> int:
        if self.group_size is None:
            return min(self.groups, num_channels) if self.cap_groups else self.groups
        size = min(self.group_size, num_channels) if self.cap_groups else self.group_size
        check_group_size(num_channels, size)
        return num_channels // size


@dataclass(frozen=True)
class NormKind:
    """One norm.

    Attributes:
        make: (settings, num_channels, scale, shift) to the module of the norm without an activation.
        fused: (settings, num_channels) to the module that is norm and activation in one, for norms
            with an activation of their own; they take no Proxy Norm.
        takes_groups: whether ``norm_groups`` and ``norm_group_size`` have a meaning.
        eps: where the norm's usual epsilon is its own, not the model's.
    """

    make: Callable[[Norms, int, bool, bool], nn.Module]
    fused: Optional[Callable[[Norms, int], nn.Module]] = None
    takes_groups: bool = False
    eps: Optional[float] = None

    @property
    def takes_proxy_norm(self) -> bool:
        return self.fused is None


def _batch(s: Norms, c: int, scale: bool, shift: bool) -> nn.Module:
    return BatchNorm(c, s.eps, s.momentum, scale, shift)


def _sync_batch(s: Norms, c: int, scale: bool, shift: bool) -> nn.Module:
    return SyncBatchNorm(c, s.eps, s.momentum, scale, shift)


def _layer(s: Norms, c: int, scale: bool, shift: bool) -> nn.Module:
    return GroupNorm(c, 1, s.eps, scale, shift)


def _group(s: Norms, c: int, scale: bool, shift: bool) -> nn.Module:
    return GroupNorm(c, s.groups_for(c), s.eps, scale, shift)


def _instance(s: Norms, c: int, scale: bool, shift: bool) -> nn.Module:
    return GroupNorm(c, c, s.eps, scale, shift)


def _none(s: Norms, c: int, scale: bool, shift: bool) -> nn.Module:
    return NoNorm(c, scale, shift)


def _frn(s: Norms, c: int, scale: bool, shift: bool) -> nn.Module:
    return FilterResponseNorm(c, s.eps, scale, shift)


NORMS = {
    "batch": NormKind(_batch),
    "sync_batch": NormKind(_sync_batch),
    "layer": NormKind(_layer),
    "group": NormKind(_group, takes_groups=True),
    "instance": NormKind(_instance),
    "none": NormKind(_none),
    "evonorm_s0": NormKind(_none, lambda s, c: EvoNormS0(c, s.groups_for(c), s.eps), takes_groups=True),
    "evonorm_b0": NormKind(_none, lambda s, c: EvoNormB0(c, s.eps, s.momentum)),
    "frn": NormKind(_frn, lambda s, c: FilterResponseNormTLU(c, s.eps), eps=1e-6),
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
    weight_standardisation: bool = False,
    group_size: Optional[int] = None,
    default_groups: Optional[int] = None,
    default_group_size: Optional[int] = None,
    default_eps: float = 1e-5,
    momentum: float = 0.1,
    cap_groups: bool = False,
) -> Norms:
    """Checks what a user set and fills in the defaults of the model, which has one of the two for groups.

    Raises ValueError.
    """
    spec = norm_kind(kind)
    if groups is not None and group_size is not None:
        raise ValueError(
            f"norm_groups is {groups} and norm_group_size is {group_size}; give the number of groups or their "
            "size, not both"
        )
    for name, value in (("norm_groups", groups), ("norm_group_size", group_size)):
        if value is not None and not spec.takes_groups:
            takers = [name for name in NORMS if NORMS[name].takes_groups]
            raise ValueError(
                f"{name} is {value}, but norm {kind!r} has no groups to choose; leave {name} empty "
                f"or use norm {' or '.join(map(repr, takers))}"
            )
    if proxy is not None and not spec.takes_proxy_norm:
        raise ValueError(
            f"norm {kind!r} cannot be followed by Proxy Norm, as it has an activation of its own: set "
            "proxy_norm to false"
        )
    if eps is not None and not eps > 0:
        raise ValueError(f"norm_eps is {eps}; it must be positive")
    by_default = groups is None and group_size is None
    if by_default:
        groups, group_size = default_groups, default_group_size
    return Norms(
        kind=kind,
        groups=32 if groups is None else groups,
        group_size=group_size,
        eps=eps or spec.eps or default_eps,
        momentum=momentum,
        proxy=proxy,
        weight_standardisation=weight_standardisation,
        cap_groups=cap_groups and by_default,
    )

"""Proxy statistics computed once for each weight update rather than once for each micro-batch.

m and s depend on the parameters alone, so they are constant between weight updates. Graphcore's public code
for Labatie et al. 2021 therefore keeps them as two more rows of a site's trainable tensor: forward and
backward treat them as inputs, their gradients accumulate over micro-batches and replicas as any gradient
does, and only the weight update runs the proxy, to chain those gradients into the four parameter vectors
and to refresh m and s. As the chain rule is linear in dL/dm and dL/ds this is exact. The proxy's cost no
longer grows with the number of micro-batches, and all sites share one evaluation.

    held = HeldStatistics(model)
    optimizer = SGD(held.trained_parameters(), ...)
    for each weight update:
        for each micro-batch: loss(model(x), y).backward()
        held.chain_gradients()
        optimizer.step()
        held.refresh()
"""

from typing import Any, Dict, List, Tuple

import torch
from torch import nn

from ..kernels.maths import proxy_statistics
from .proxy_norm import HELD, ProxyNorm


def chain_statistics_gradients(
    vectors: Tuple[torch.Tensor, ...], grad_mean: torch.Tensor, grad_scale: torch.Tensor, *settings: Any
) -> Tuple[torch.Tensor, ...]:
    """The gradients of beta, gamma, proxy_beta and proxy_gamma that flow through m and s.

    Args:
        vectors: the four parameters, each [C].
        grad_mean, grad_scale: dL/dm and dL/ds [C], summed over all micro-batches of the weight update.
        settings: phi, eps, points, weights, as ``proxy_statistics`` takes them.
    """
    leaves = [v.detach().requires_grad_() for v in vectors]
    with torch.enable_grad():
        statistics = proxy_statistics(*leaves, *settings)
    return torch.autograd.grad(statistics, leaves, (grad_mean, grad_scale))


class HeldStatistics:
    """Switches every ``ProxyNorm`` of a model to held statistics and looks after them.

    Sites with the same activation and settings are concatenated, so that a network has one proxy evaluation.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        groups: Dict[tuple, List[ProxyNorm]] = {}
        for module in model.modules():
            if isinstance(module, ProxyNorm):
                module.hold()
                key = (
                    module.phi.function,
                    module.eps,
                    module.expectation,
                    module.quantiles,
                    module.beta.dtype,
                )
                groups.setdefault(key, []).append(module)
        self.groups = list(groups.values())

    def trained_parameters(self) -> List[Tuple[str, nn.Parameter]]:
        """The model's named parameters without the held statistics: those an optimizer may change."""
        return [(n, p) for n, p in self.model.named_parameters() if n.rsplit(".", 1)[-1] not in HELD]

    def chain_gradients(self) -> None:
        """Adds what flows through m and s to the gradients of the four vectors; clears that of m and s."""
        for sites in self.groups:
            collected = [site for site in sites if site.held_mean.grad is not None]
            if not collected:
                continue
            grad_mean = torch.cat([site.held_mean.grad for site in collected])
            grad_scale = torch.cat([_grad_or_zero(site.held_scale) for site in collected])
            gradients = chain_statistics_gradients(
                _concatenated(collected), grad_mean, grad_scale, *_settings(collected[0])
            )
            sizes = [site.num_channels for site in collected]
            for name, gradient in zip(("beta", "gamma", "proxy_beta", "proxy_gamma"), gradients):
                for site, part in zip(collected, gradient.split(sizes)):
                    parameter = getattr(site, name)
                    part = part.to(parameter.dtype)
                    parameter.grad = part.clone() if parameter.grad is None else parameter.grad + part
            for site in collected:
                site.held_mean.grad = site.held_scale.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Recomputes m and s from the parameters; to be called after every weight update."""
        for sites in self.groups:
            m, s = proxy_statistics(*_concatenated(sites), *_settings(sites[0]))
            sizes = [site.num_channels for site in sites]
            for site, site_m, site_s in zip(sites, m.split(sizes), s.split(sizes)):
                site.held_mean.copy_(site_m)
                site.held_scale.copy_(site_s)


def _grad_or_zero(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _concatenated(sites: List[ProxyNorm]) -> Tuple[torch.Tensor, ...]:
    return tuple(torch.cat(parts) for parts in zip(*(site.vectors() for site in sites)))


def _settings(site: ProxyNorm) -> tuple:
    return site.phi.function, site.eps, site.points, site.weights

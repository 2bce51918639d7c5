"""The fused operator as a name only, for programs that trace a network and compute nothing.

``torch.ops.ipu_train.norm_proxy_norm_act`` gives a tensor like ``x`` and no values. The IPU model knows it as a group
norm with its activation that keeps no more than its input.
"""

from typing import Any

import torch

from ipu_train.kernels.settings import Settings

_LIBRARY = torch.library.Library("ipu_train", "DEF")
_LIBRARY.define(
    "norm_proxy_norm_act(Tensor x, Tensor beta, Tensor gamma, Tensor proxy_beta, Tensor proxy_gamma, int groups, "
    "str activation) -> Tensor"
)


def _like(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x)


for _key in ("Meta", "CompositeExplicitAutograd"):
    _LIBRARY.impl("norm_proxy_norm_act", _like, _key)


def norm_proxy_norm_act(
    x: torch.Tensor,
    beta: torch.Tensor,
    gamma: torch.Tensor,
    proxy_beta: torch.Tensor,
    proxy_gamma: torch.Tensor,
    settings: Settings,
) -> torch.Tensor:
    """As :func:`ipu_train.kernels.cpu.norm_proxy_norm_act`, for tensors without data."""
    vectors = (beta, gamma, proxy_beta, proxy_gamma)
    return torch.ops.ipu_train.norm_proxy_norm_act(x, *vectors, settings.groups or 0, settings.activation)

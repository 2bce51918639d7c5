"""Gradients that cannot be differentiated, and say so."""

from typing import Any, Sequence, Tuple

import torch


class Once(torch.autograd.Function):
    """The first ``count`` tensors, as functions of the others that nobody can differentiate. (PyTorch's
    ``once_differentiable`` gives constants instead where the incoming gradient is one: silently wrong.)"""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: torch.Tensor) -> Any:
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(
            "norm_proxy_norm_act is differentiable once: its gradients have no gradients of their own. For second "
            "derivatives compose it from PyTorch's operations (model.proxy_norm_kernel=torch)"
        )


def once(gradients: Sequence[Any], *causes: Any) -> Tuple[Any, ...]:
    """A tuple of ``gradients``, which depend on ``causes``; where somebody means to differentiate them, it is told."""
    if torch.is_grad_enabled():
        differentiable: Tuple[Any, ...] = Once.apply(len(gradients), *gradients, *causes)
        return differentiable
    return tuple(gradients)

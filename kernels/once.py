"""Gradients that cannot be differentiated, and say so."""

import torch


class Once(torch.autograd.Function):
    """The first ``count`` tensors, as functions of the others that nobody can differentiate. (PyTorch's
    ``once_differentiable`` gives constants instead where the incoming gradient is one: silently wrong.)"""

    @staticmethod
    def forward(ctx, count, *tensors):
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx, *gradients):
        raise RuntimeError(
            "norm_proxy_norm_act is differentiable once: its gradients have no gradients of their own. For second "
            "derivatives compose it from PyTorch's operations (model.proxy_norm_kernel=torch)"
        )


def once(gradients, *causes):
    """A tuple of ``gradients``, which depend on ``causes``; where somebody means to differentiate them, it is told."""
    if torch.is_grad_enabled():
        return Once.apply(len(gradients), *gradients, *causes)
    return tuple(gradients)

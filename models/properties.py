"""What a trainer asks a finished model: may micro-batches be merged, which parameters decay."""

import torch
from torch import nn

# Proxy Norm's two proxy parameters are vectors that do decay (Graphcore's public code for Labatie et al.
# 2021).
DECAYED_VECTORS = ("proxy_beta", "proxy_gamma")
_RUNNING = ("running_mean", "running_var")


def is_batch_independent(model: nn.Module) -> bool:
    """Whether each image's output, in training, is a function of that image alone.

    False as soon as one module mixes the images of a batch: batch norm of any make (whatever subclasses
    torch's, has running statistics, or says ``batch_independent = False``), and stochastic depth that drops
    whole batches. Random layers (dropout) are independent in this sense although each call draws anew.
    """
    return not any(_mixes_images(module) for module in model.modules())


def _mixes_images(module: nn.Module) -> bool:
    if not getattr(module, "batch_independent", True):
        return True
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    if any(name in _RUNNING and b is not None for name, b in module._buffers.items()):
        return True
    return type(module).__name__ == "StochasticDepth" and getattr(module, "mode", "row") == "batch"


def meets_in_batch_norm_only(model: nn.Module) -> bool:
    """Whether images of a batch meet nowhere but in batch norm of torch's make, if anywhere.

    Several micro-batches can then run as one batch where batch norm takes its statistics of each of them alone.
    """
    return not any(_mixes_images(module) and not _is_local_batch_norm(module) for module in model.modules())


def meets_elsewhere(model: nn.Module, images: torch.Tensor) -> bool:
    """Whether, in training, images meet outside batch norm of torch's make, or forward updates other buffers than its.

    For networks that nobody has declared anything about: found by running two images and following the gradient of the
    first one's output, which is exactly 0 at the second image where they never meet, whatever dropout draws.

    Args:
        model: is changed, and of no use afterwards.
        images: ``[2, C, H, W]`` in the dtype of the network.
    """
    model.train()
    for module in model.modules():
        if _is_local_batch_norm(module):
            module.eval()
    before = [(buffer, buffer._version) for buffer in model.buffers()]
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(images)[0].sum(), images, allow_unused=True)
    met = gradient is not None and bool((gradient[1] != 0).any())
    replaced = {id(buffer) for buffer, _ in before} != {id(buffer) for buffer in model.buffers()}
    return met or replaced or any(buffer._version != version for buffer, version in before)


def _is_local_batch_norm(module: nn.Module) -> bool:
    """Whether a module is batch norm of torch's make whose statistics are those of one micro-batch."""
    synchronised = isinstance(module, nn.SyncBatchNorm) or getattr(module, "needs_stacked_replicas", False)
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and not synchronised


def keeps_statistics_of_its_own(model: nn.Module) -> bool:
    """Whether training updates running statistics that are not those of a batch norm of torch's make.

    PopTorch lets each replica keep its own batch norm statistics; of any other buffer that forward changes it has to
    be told so.
    """
    return any(
        buffer is not None and name in _RUNNING and not isinstance(module, nn.modules.batchnorm._BatchNorm)
        for module in model.modules()
        for name, buffer in module._buffers.items()
    )


def keep_statistics_in_float32(model: nn.Module) -> None:
    """Cast running statistics back to float32 after the model was cast to half.

    A moving average loses most of what is added to it in half precision; PopTorch 3.4's user guide ("16-bit float
    migration") takes statistics of either type.
    """
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and name in _RUNNING:
                module._buffers[name] = buffer.float()


def weight_decay_exempt(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay leaves this parameter alone: vectors and scalars, except Proxy Norm's proxy
    parameters.

    Graphcore's public code spares the scales and shifts of norms by name, and so decays the biases of squeeze-excite
    and of the classifier; sparing these as well is our choice.

    Args:
        name: as in ``model.named_parameters()``.
    """
    return parameter.dim() <= 1 and name.rsplit(".", 1)[-1] not in DECAYED_VECTORS

"""What a network is made of: layers, shapes, parameters, multiply-accumulates, places of Proxy Norm."""

import re
from typing import Any, Callable, List, NamedTuple, Tuple

import torch
from torch import nn

from .norm_layers import NormActivation
from .proxy_norm import ProxyNorm


class LayerRow(NamedTuple):
    """One layer.

    Attributes:
        name: of the module within the model.
        kind: such as "conv 3x3/2 groups 32", "group norm + relu + proxy norm", "linear".
        shape: of the output for one image: (C, H, W), or (C,) for a linear layer.
        parameters: number of trainable values in it.
        macs: multiply-accumulates of convolutions and linear layers for one image, forward; 0 for others.
        proxy_norm: whether Proxy Norm sits here.
    """

    name: str
    kind: str
    shape: Tuple[int, ...]
    parameters: int
    macs: int
    proxy_norm: bool


def describe(model: nn.Module, image_size: int, in_channels: int = 3) -> List[LayerRow]:
    """One row for each layer, in the order of execution, for one [in_channels, image_size, image_size] image.

    Nothing is computed: the network runs on meta tensors, in evaluation mode. What papers on EfficientNet
    call FLOPs is the sum of ``macs``.
    """
    rows: List[LayerRow] = []
    hooks = []
    sites = [module for module in model.modules() if _is_site(module)]
    inside_sites = {id(child) for m in sites for child in m.modules()} - {id(m) for m in sites}
    for name, module in model.named_modules():
        is_layer = _is_site(module) or not list(module.children())
        has_own = any(True for _ in module.parameters()) or isinstance(module, nn.MaxPool2d)
        if is_layer and has_own and id(module) not in inside_sites:
            hooks.append(module.register_forward_hook(_recorder(name, rows)))
    tensors = list(model.named_parameters()) + list(model.named_buffers())
    on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            image = torch.empty(1, in_channels, image_size, image_size, device="meta")
            torch.func.functional_call(model, on_meta, (image,))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return rows


def _is_site(module: nn.Module) -> bool:
    """A layer made of several modules: a norm with its activation, or what has parameters beside its parts'."""
    composed = bool(list(module.children()))
    return isinstance(module, NormActivation) or (composed and any(True for _ in module.parameters(False)))


def _recorder(name: str, rows: List[LayerRow]) -> Callable[[nn.Module, Any, Any], None]:
    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        shape = tuple(output.shape[1:])
        parameters = sum(p.numel() for p in module.parameters())
        has_proxy = isinstance(module, ProxyNorm) or getattr(module, "proxy", None) is not None
        rows.append(
            LayerRow(name, _kind(module), shape, parameters, _macs(module, inputs, output), has_proxy)
        )

    return record


def _macs(module: nn.Module, inputs: Any, output: torch.Tensor) -> int:
    """Multiply-accumulates for one image: output values times the inputs that each one sums.

    In a transposed convolution they are input values times the outputs that each one goes to.
    """
    if not isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
        return 0
    values = inputs[0] if getattr(module, "transposed", False) else output
    return values.numel() * (module.weight.numel() // module.weight.shape[0])


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        text = f"conv {module.kernel_size[0]}x{module.kernel_size[1]}"
        text += f"/{module.stride[0]}" if module.stride[0] != 1 else ""
        return text + (f" groups {module.groups}" if module.groups != 1 else "")
    if isinstance(module, NormActivation):
        text = f"{_kind(module.norm)} + {module.activation}"
        return text + (" + proxy norm" if module.proxy is not None else "")
    return _spaced(type(module).__name__)


def _spaced(name: str) -> str:
    """GroupNorm -> group norm, MaxPool2d -> max pool."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("2d", "")).lower()

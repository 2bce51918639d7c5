"""The same architecture in torchvision or timm: names of its weights there, found by loading and comparing."""

import importlib.util
import math
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn

from ..models import names_of
from .compare import agrees, largest_difference

# our name -> timm's, where torchvision has no such network
_TIMM = {
    "resnext101_32x4d": "resnext101_32x4d",
    "resnet50v2": "resnetv2_50",
    "resnet101v2": "resnetv2_101",
    "resnet152v2": "resnetv2_152",
}


class Theirs(NamedTuple):
    """A network of another library that computes the same.

    Attributes:
        library: its name and the network's there.
        weights: its state dict.
        difference: largest of the logits.
    """

    library: str
    weights: Dict[str, torch.Tensor]
    difference: float


def _candidates(name: str, classes: int) -> Iterator[Tuple[str, Any]]:
    import torchvision

    # by its list: a network of the user's own may be called as a class or a function there
    if name in torchvision.models.list_models(module=torchvision.models):
        make = getattr(torchvision.models, name)
        yield f"torchvision's {name}", lambda: make(weights=None, num_classes=classes)
    if name in _TIMM and importlib.util.find_spec("timm") is not None:
        import timm

        yield f"timm's {_TIMM[name]}", lambda: timm.create_model(_TIMM[name], num_classes=classes)


def same_network(name: str, network: nn.Module, shape: Sequence[int]) -> Tuple[Optional[Theirs], str]:
    """The network under another library's names, or None and why not.

    Args:
        name: of our model.
        network: in evaluation mode, float32.
        shape: (C, H, W) of an image.
    """
    weights = network.state_dict()
    classes = weights["fc.weight"].shape[0] if "fc.weight" in weights else 0
    why = f"neither torchvision nor timm has a {name}" + (
        " (timm is not installed)" if name in _TIMM and importlib.util.find_spec("timm") is None else ""
    )
    for library, make in _candidates(name, classes):
        theirs = make().eval()
        own = theirs.state_dict()
        try:
            renamed = names_of(list(own), weights)
        except ValueError:
            why = f"{library} has other layers"
            continue
        if sorted(renamed.values()) != sorted(weights):
            why = f"{library} has other layers (such as those of another norm, or of Proxy Norm)"
            continue
        found = {theirs_name: weights[ours] for theirs_name, ours in renamed.items()}
        found = {n: t.reshape(own[n].shape) if t.numel() == own[n].numel() else t for n, t in found.items()}
        if any(found[n].shape != own[n].shape for n in own):
            why = f"{library} has other widths"
            continue
        if _epsilons(theirs) != _epsilons(network):
            why = f"{library} adds another epsilon in its norms ({_listed(theirs)}; here {_listed(network)})"
            continue
        theirs.load_state_dict(found)
        try:
            difference, largest = largest_difference(network, theirs, shape)
        except RuntimeError:
            why = f"{library} takes other images"
            continue
        if not math.isfinite(largest):
            return None, "the network's logits are not finite, so that there is nothing to compare"
        if agrees(difference, largest):
            return Theirs(library, found, difference), ""
        why = f"{library} computes something else (logits differ by {difference:.3g})"
    return None, why


def _epsilons(network: nn.Module) -> Any:
    return {module.eps for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}


def _listed(network: nn.Module) -> str:
    return ", ".join(f"{eps:g}" for eps in sorted(_epsilons(network)))

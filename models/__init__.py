"""The networks, their norms and Proxy Norm, in plain torch. ``build`` makes any of them by name.

Importing this module imports no torch; the first ``build`` does.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import List, Optional

__all__ = ["build", "is_batch_independent", "names", "norm_names", "weight_decay_exempt"]

# name -> (module, function, fixed arguments, defaults of the norm)
_IMAGENET = {"default_groups": 32}
_CIFAR = {"default_groups": 16}
MODELS = {
    "resnet18": ("resnet", "imagenet_resnet", {"depth": 18}, _IMAGENET),
    "resnet34": ("resnet", "imagenet_resnet", {"depth": 34}, _IMAGENET),
    "resnet50": ("resnet", "imagenet_resnet", {"depth": 50}, _IMAGENET),
    "resnet101": ("resnet", "imagenet_resnet", {"depth": 101}, _IMAGENET),
    "resnet152": ("resnet", "imagenet_resnet", {"depth": 152}, _IMAGENET),
    "resnet8": ("resnet", "cifar_resnet", {"depth": 8}, _CIFAR),
    "resnet20": ("resnet", "cifar_resnet", {"depth": 20}, _CIFAR),
    "resnet56": ("resnet", "cifar_resnet", {"depth": 56}, _CIFAR),
    "resnet110": ("resnet", "cifar_resnet", {"depth": 110}, _CIFAR),
}


def names() -> List[str]:
    """The names that ``build`` knows."""
    return list(MODELS)


def norm_names() -> List[str]:
    """The norms that ``build`` knows."""
    from .norms import NORMS

    return list(NORMS)


def build(
    name: str,
    num_classes: int = 1000,
    norm: str = "group",
    norm_groups: Optional[int] = None,
    norm_eps: Optional[float] = None,
    proxy_norm: bool = True,
    proxy_norm_eps: float = 0.03,
    proxy_norm_expectation: str = "quantiles",
    proxy_norm_quantiles: int = 200,
    in_channels: int = 3,
    **options,
):
    """The network of that name, freshly initialised from torch's global generator, as an ``nn.Module``.

    It maps images [N, in_channels, H, W] to logits [N, num_classes].

    Args:
        name: one of ``names()``.
        norm: one of ``norm_names()``.
        norm_groups: groups of group norm; None for the model's own (32 for ImageNet ResNets, 16 for CIFAR
            ones).
        norm_eps: None for the model's own (1e-5 for ResNets).
        proxy_norm: whether Proxy Norm surrounds every activation that follows a norm.
        proxy_norm_eps, proxy_norm_expectation, proxy_norm_quantiles: see ``ProxyNorm``.
        options: further keyword arguments of the model, such as ``width``.

    Raises ValueError, with the valid names, for anything that no network or norm knows.
    """
    if name not in MODELS:
        raise ValueError(_unknown("model", name, names()))
    module, function, fixed, norm_defaults = MODELS[name]
    make = getattr(import_module("." + module, __name__), function)
    known = [option for option in _keywords(make) if option not in fixed]
    for option in options:
        if option not in known:
            raise ValueError(_unknown(f"option of model {name!r}:", option, known))
    from .norms import make_norms

    proxy = None
    if proxy_norm:
        proxy = {
            "eps": proxy_norm_eps,
            "expectation": proxy_norm_expectation,
            "quantiles": proxy_norm_quantiles,
        }
    norms = make_norms(norm, norm_groups, norm_eps, proxy, **norm_defaults)
    return make(norms, num_classes, in_channels, **fixed, **options)


def _keywords(function) -> List[str]:
    from inspect import Parameter, signature

    return [p.name for p in signature(function).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]


def _unknown(what: str, name: str, valid: List[str]) -> str:
    near = get_close_matches(str(name), valid, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}.{hint} Valid: {', '.join(valid)}"


def __getattr__(name: str):
    if name in ("is_batch_independent", "weight_decay_exempt"):
        return getattr(import_module(".properties", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

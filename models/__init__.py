"""The networks, their norms and Proxy Norm, in plain torch. ``build`` makes any of them by name.

Importing this module imports no torch; the first ``build`` does.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import Any, Dict, List, NamedTuple, Optional

from ..kernels.settings import EPS, QUANTILES
from .option_kinds import OptionKind, declared
from .own import OWN, RegistrationError, build_own, register_model
from .zoo import IMAGENET, MODELS

__all__ = [
    "EPS",
    "LIBRARY_NORM_EPS",
    "NORM_TRAITS",
    "OWN",
    "QUANTILES",
    "NormTraits",
    "OptionError",
    "PowerStatistics",
    "RegistrationError",
    "build",
    "classifier",
    "copied",
    "describe",
    "folded",
    "is_batch_independent",
    "keep_statistics_in_float32",
    "keeps_statistics_of_its_own",
    "known_layout",
    "load_checkpoint",
    "meets_elsewhere",
    "meets_in_batch_norm_only",
    "names",
    "names_of",
    "native_image_size",
    "needs_stacked_replicas",
    "norm_names",
    "option_kinds",
    "register_model",
    "set_sync_groups",
    "use_proxy_norm_kernel",
    "weight_decay_exempt",
]

# Side in pixels that the EfficientNets are trained and tested at (Tan and Le 2019, Masters et al. 2021).
_EFFICIENTNET_SIDES = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380, "b5": 456, "cifar": 32}
_LAZY = {
    "LIBRARY_NORM_EPS": "checkpoints",
    "OptionError": "options",
    "PowerStatistics": "power",
    "copied": "copying",
    "describe": "inspection",
    "folded": "folding",
    "is_batch_independent": "properties",
    "keep_statistics_in_float32": "properties",
    "keeps_statistics_of_its_own": "properties",
    "known_layout": "checkpoints",
    "load_checkpoint": "checkpoints",
    "meets_elsewhere": "properties",
    "meets_in_batch_norm_only": "properties",
    "names_of": "checkpoints",
    "needs_stacked_replicas": "sync_batch_norm",
    "set_sync_groups": "sync_batch_norm",
    "use_proxy_norm_kernel": "norm_layers",
    "weight_decay_exempt": "properties",
}


def names() -> List[str]:
    """The names that ``build`` knows: the zoo's, and those registered with ``register_model``."""
    return [*MODELS, *OWN]


class NormTraits(NamedTuple):
    """What can be set of a norm: ``norm_groups``, and whether Proxy Norm can follow its activation."""

    takes_groups: bool = False
    takes_proxy_norm: bool = True


# The norms of ``norms.NORMS``, known without torch.
NORM_TRAITS: Dict[str, NormTraits] = {
    "batch": NormTraits(),
    "sync_batch": NormTraits(),
    "layer": NormTraits(),
    "group": NormTraits(takes_groups=True),
    "instance": NormTraits(),
    "none": NormTraits(),
    "evonorm_s0": NormTraits(takes_groups=True, takes_proxy_norm=False),
    "evonorm_b0": NormTraits(takes_proxy_norm=False),
    "frn": NormTraits(takes_proxy_norm=False),
}


def norm_names() -> List[str]:
    """The norms that ``build`` knows."""
    return list(NORM_TRAITS)


_STANDARDISATION = OptionKind("weight_standardisation", "bool", False, False)


def option_kinds(name: str) -> Dict[str, OptionKind]:
    """The options that ``build`` takes for a model beside its named arguments; KeyError for an unknown model."""
    if name in OWN:
        return {
            **OWN[name].options,
            **({_STANDARDISATION.name: _STANDARDISATION} if takes_norms(name) else {}),
        }
    module, function, fixed, _ = MODELS[name]
    own = {option: kind for option, kind in declared(module, function).items() if option not in fixed}
    return {**own, _STANDARDISATION.name: _STANDARDISATION}


def native_image_size(name: str) -> int:
    """Side in pixels of the square images that a model is made for; KeyError for a name ``build`` lacks."""
    if name in OWN:
        return OWN[name].image_size
    _, function, fixed, _ = MODELS[name]
    if function == "efficientnet":
        return _EFFICIENTNET_SIDES[fixed["size"]]
    return 32 if function.startswith("cifar_") else 224


def takes_norms(name: str) -> bool:
    """Whether a model's norms are chosen by its settings; a registered one may have its own."""
    return name not in OWN or OWN[name].takes_norms


def classifier(name: str) -> str:
    """Name of a model's last layer."""
    return OWN[name].classifier if name in OWN else "fc"


def build(
    name: str,
    num_classes: int = 1000,
    norm: str = "group",
    norm_groups: Optional[int] = None,
    norm_eps: Optional[float] = None,
    proxy_norm: bool = True,
    proxy_norm_eps: float = EPS,
    proxy_norm_expectation: str = "quantiles",
    proxy_norm_quantiles: int = QUANTILES,
    in_channels: int = 3,
    weight_standardisation: bool = False,
    norm_group_size: Optional[int] = None,
    **options: Any,
) -> Any:
    """The network of that name, freshly initialised from torch's global generator, as an ``nn.Module``.

    It maps images [N, in_channels, H, W] to logits [N, num_classes].

    Args:
        name: one of ``names()``.
        norm: one of ``norm_names()``.
        norm_groups: groups of group norm, the same number in every layer.
        norm_group_size: channels of each group instead, the same number in every layer. Neither given: the model's
            own (32 groups for ImageNet ResNets, 4 for EfficientNets, groups of 4 channels for CIFAR ResNets).
        norm_eps: None for the model's own (1e-5 for ResNets, 1e-3 for EfficientNets).
        proxy_norm: whether Proxy Norm surrounds every activation that follows a norm.
        proxy_norm_eps, proxy_norm_expectation, proxy_norm_quantiles: see ``ProxyNorm``.
        weight_standardisation: standardise the weights of each convolution that a norm follows.
        options: further keyword arguments of the model, such as ``width``.

    Raises ValueError, with the valid names, for anything that no network or norm knows.
    """
    if name not in MODELS and name not in OWN:
        raise ValueError(_unknown("model", name, names()))
    from .norms import make_norms
    from .options import OptionError

    known = option_kinds(name)
    given = {_STANDARDISATION.name: weight_standardisation} if takes_norms(name) else {}
    for option, value in {**options, **given}.items():
        if option not in known:
            raise OptionError(option, _unknown(f"option of model {name!r}:", option, list(known)))
        message = known[option].complaint(value)
        if message:
            raise OptionError(option, message)

    proxy = None
    if proxy_norm:
        proxy = {
            "eps": proxy_norm_eps,
            "expectation": proxy_norm_expectation,
            "quantiles": proxy_norm_quantiles,
        }
    if name in OWN:
        norm_defaults = {**IMAGENET, "cap_groups": True}
    else:
        module, function, fixed, norm_defaults = MODELS[name]
    norms = make_norms(
        norm, norm_groups, norm_eps, proxy, weight_standardisation, norm_group_size, **norm_defaults
    )
    if name in OWN:
        return build_own(name, num_classes, in_channels, norms, options)
    make = getattr(import_module("." + module, __name__), function)
    return make(norms, num_classes, in_channels, **fixed, **options)


def _unknown(what: str, name: str, valid: List[str]) -> str:
    near = get_close_matches(str(name), valid, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}.{hint} Valid: {', '.join(valid)}"


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module("." + _LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

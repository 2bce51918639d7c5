"""The networks that ipu-train has itself. Imports no torch."""

from typing import Any, Dict, Tuple

# Defaults of the norm, by family (see ``norms.make_norms``).
IMAGENET: Dict[str, Any] = {"default_groups": 32}
# channels of a group: a fixed number of groups would leave one channel for each in the narrow first stage
_CIFAR: Dict[str, Any] = {"default_group_size": 4, "cap_groups": True}
# Graphcore's public code: 4 groups, epsilon 1e-3, batch-norm momentum 0.97 (0.03 in torch's sense)
_EFFICIENTNET: Dict[str, Any] = {
    "default_groups": 4,
    "default_eps": 1e-3,
    "momentum": 0.03,
    "cap_groups": True,
}


def _models() -> Dict[str, Tuple[str, str, Dict[str, Any], Dict[str, Any]]]:
    """name -> (module, function, fixed arguments, defaults of the norm)"""
    table: Dict[str, Tuple[str, str, Dict[str, Any], Dict[str, Any]]] = {}
    for depth in (18, 34, 50, 101, 152):
        table[f"resnet{depth}"] = ("resnet", "imagenet_resnet", {"depth": depth}, IMAGENET)
    for depth in (50, 101, 152):
        table[f"resnet{depth}v2"] = ("resnet", "imagenet_resnet_v2", {"depth": depth}, IMAGENET)
    for depth in (14, 50, 101):
        fixed: Dict[str, Any] = {"depth": depth, "groups": 32, "group_width": 4}
        table[f"resnext{depth}_32x4d"] = ("resnet", "imagenet_resnet", fixed, IMAGENET)
    fixed = {"depth": 29, "groups": 32, "group_width": 4}
    table["resnext29_32x4d"] = ("resnet", "cifar_resnext", fixed, _CIFAR)
    for depth in (8, 14, 20, 32, 44, 56, 110):
        table[f"resnet{depth}"] = ("resnet", "cifar_resnet", {"depth": depth}, _CIFAR)
        table[f"resnet{depth}v2"] = ("resnet", "cifar_resnet_v2", {"depth": depth}, _CIFAR)
    for suffix, group_size in (("", 1), ("_g16", 16)):
        for size in ("b0", "b1", "b2", "b3", "b4", "b5", "cifar"):
            fixed = {"size": size, "group_size": group_size}
            name = f"efficientnet_{size}{suffix}"
            table[name] = ("efficientnet", "efficientnet", fixed, _EFFICIENTNET)
    return table


MODELS = _models()

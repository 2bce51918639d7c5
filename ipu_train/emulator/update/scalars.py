"""Hyper-parameters as PopART's operators take them: combined with each other and with how gradients are reduced.

Source: PopART's ``compoundscalarhelper.hpp``.
"""

from typing import Any, Dict, NamedTuple, Set, Tuple

import torch

Group = Dict[str, Any]
_Scalars = Dict[str, Tuple[float, Set[str]]]  # by PopART's name: the value, and what it is made of


class Factors(NamedTuple):
    """How gradients are reduced.

    Attributes:
        accumulation: micro-batches of an update, per replica.
        replicas: of all processes.
        mean: whether the gradient is their mean, rather than their sum.
        running: whether the mean is taken as gradients are added up, rather than at the end.
    """

    accumulation: int = 1
    replicas: int = 1
    mean: bool = True
    running: bool = False

    @property
    def post(self) -> int:
        """What a sum of gradients is divided by in the update."""
        return self.accumulation * self.replicas if self.mean and not self.running else 1

    @property
    def reduced(self) -> int:
        """How many velocities are summed, with which gradients have been combined."""
        return self.replicas if self.accumulation > 1 else 1

    @property
    def combined(self) -> float:
        """What gradients are multiplied by as they go into such a velocity."""
        if self.accumulation > 1:
            return 1 / self.accumulation if self.mean else self.replicas
        return 1 / self.replicas if self.mean else 1


def has_momentum(group: Group) -> bool:
    """Whether there is a velocity: momentum that may come to be needs it from the start."""
    return bool(group["momentum"] or group.get("variable_momentum"))


def velocity_scaling(group: Group) -> float:
    """What velocities are scaled by: without combined accumulation, as the loss is (PopTorch's CompilerImpl.cpp)."""
    return float(group["velocity_scaling" if group["use_combined_accum"] else "loss_scaling"])


def velocity_decay(group: Group) -> float:
    """What of a weight its combined velocity begins an update with."""
    return float((1 - group["dampening"]) * group["weight_decay"] * velocity_scaling(group))


def scalars(kind: str, group: Group, factors: Factors, constants: Set[str]) -> Dict[str, float]:
    """The hyper-parameters of a group's weights as PopART combines them, by the names that it has for them.

    Args:
        kind: of the optimizer.
        group: with the settings of the whole optimizer.
        factors: what gradients are summed over.
        constants: hyper-parameters that are compiled in. What is made of these alone is no tensor.
    """
    found = _of_sgd(group, factors) if kind == "sgd" else _of_moments(kind, group, factors)
    return {name: value for name, (value, parts) in found.items() if not parts <= constants}


def _of_moments(kind: str, group: Group, factors: Factors) -> _Scalars:
    found: _Scalars = {
        "learningRate": (group["lr"], {"lr"}),
        "weightDecay": (group["weight_decay"], {"weight_decay"}),
        "lossScaling": (group["loss_scaling"], {"loss_scaling"}),
    }
    gradients = 1 / (group["loss_scaling"] * factors.post), {"loss_scaling"}
    if kind == "rmsprop":
        more = {"adaptiveGradientScaling": gradients, "adaptiveEps": (group["eps"], {"eps"})}
        for name in ("alpha", "momentum"):
            more[f"adaptive{name.capitalize()}"] = group[name], {name}
    else:
        more = {"adamGradientScaling": gradients, "adamEps": (group["eps"], {"eps"})}
        for name in ("beta1", "beta2"):
            more[f"adam{name.capitalize()}"] = group[name], {"betas"}
    if kind == "lamb":
        more["maxWeightNorm"] = group["max_weight_norm"], {"max_weight_norm"}
    return {**found, **more}


def of_this_version(state: Dict[str, torch.Tensor], sent: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    """Loaded state as the device has it, by what was sent with it.

    Earlier versions did not scale the velocity of SGD; it is known by the hyper-parameters of an SGD without momentum.
    """
    state = dict(state)
    for name in state:
        slot, _, weight = name.partition("___")
        if slot == "Accl1" and f"scaledLearningRate0___specific___{weight}" in sent:
            state[name] = state[name] * sent["lossScaling_FLOAT"]
    return state


def _of_sgd(group: Group, factors: Factors) -> _Scalars:
    rate, scaling = group["lr"], velocity_scaling(group)
    kept = 1 - group["dampening"]
    loss_scaling = group["loss_scaling"]
    if not has_momentum(group):
        return {
            "scaledLearningRate0": (
                rate * kept / (loss_scaling * factors.post),
                {"lr", "loss_scaling", "dampening"},
            ),
            "weightDecayScaleFactor0": (
                1 - rate * kept * group["weight_decay"],
                {"weight_decay", "lr", "dampening"},
            ),
        }
    scaled_by = "velocity_scaling" if group["use_combined_accum"] else "loss_scaling"
    if group["use_combined_accum"]:
        found = {
            "scaledLearningRate1": (rate / (scaling * factors.reduced), {"lr", scaled_by}),
            "scaledMomentum1": (group["momentum"] / factors.reduced, {"momentum"}),
            "dampeningScaleFactor1": (
                kept * scaling * factors.combined / loss_scaling,
                {"dampening", scaled_by, "loss_scaling"},
            ),
        }
    else:
        found = {
            "scaledLearningRate2": (rate / scaling, {"lr", scaled_by}),
            "scaledMomentum2": (group["momentum"], {"momentum"}),
            "dampeningScaleFactor2": (
                kept * scaling / (loss_scaling * factors.post),
                {"dampening", scaled_by, "loss_scaling"},
            ),
        }
    found["scaledWeightDecay1"] = (velocity_decay(group), {"dampening", "weight_decay", scaled_by})
    return found

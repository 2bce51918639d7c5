"""The executor's copy of an optimizer's hyper-parameters: what the device knows until ``setOptimizer``."""

import math
import numbers
from typing import Any, Dict, List, NamedTuple, Set, Tuple

import torch

from .._logging import logger
from .lamb import LAMB, MAX_WEIGHT_NORM

_EMULATOR = __package__.rpartition(".")[0] + "."  # where PopTorch's own classes lie

# class of torch -> kind, and per-group hyper-parameters with their defaults
_SGD = {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}
_ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
_ADAMW = dict(_ADAM, weight_decay=1e-2)
_RMSPROP = {
    "lr": 1e-2,
    "alpha": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "momentum": 0.0,
    "centered": False,
}
_KINDS: Dict[str, Dict[str, Any]] = {
    "sgd": _SGD,
    "adam": _ADAM,
    "adamw": _ADAMW,
    "rmsprop": _RMSPROP,
    "lamb": dict(_ADAMW, max_weight_norm=MAX_WEIGHT_NORM),
}

# hyper-parameters of the whole optimizer, and what torch's own optimizers have in their place
_GLOBALS = {
    "loss_scaling": 1.0,
    "max_grad_norm": math.inf,
    "use_combined_accum": False,
    "bias_correction": True,
    "use_tf_variant": False,
    "accum_type": torch.float32,
    "velocity_accum_type": torch.float32,
    "first_order_momentum_accum_type": torch.float32,
    "second_order_momentum_accum_type": torch.float32,
}
# compiled in whatever was marked (PopTorch 3.4)
_ALWAYS_CONSTANT = {"alpha", "nesterov", "betas"}


class Snapshot(NamedTuple):
    """Hyper-parameters as plain numbers, detached from the optimizer they come from.

    Attributes:
        kind: ``sgd``, ``adam``, ``adamw``, ``rmsprop`` or ``lamb``.
        groups: one dict per parameter group. ``params`` is the list of its parameters; the rest are floats
            and bools: ``lr``, ``weight_decay``, and by kind ``momentum``, ``dampening``,
            ``nesterov``, ``velocity_scaling`` | ``beta1``, ``beta2``, ``eps`` | ``alpha``, ``eps``,
            ``momentum``, ``centered`` | ``max_weight_norm``.
        settings: of the whole optimizer: ``loss_scaling``, ``max_grad_norm``, ``use_combined_accum``,
            ``bias_correction``, ``use_tf_variant`` and the accumulation dtypes.
        constants: names of hyper-parameters that are compiled in.
        defaults: the optimizer's default of each hyper-parameter of a group.
    """

    kind: str
    groups: List[Dict[str, Any]]
    settings: Dict[str, Any]
    constants: Set[str]
    defaults: Dict[str, Any]

    def values(self) -> List[Dict[str, Any]]:
        """Everything but the parameters, for telling whether two snapshots mean the same update."""
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.groups]
        return groups + [dict(self.settings, kind=self.kind)]

    def differs(self, other: "Snapshot") -> bool:
        """Whether the device would be told something else: values, defaults, or what is compiled in."""
        mine, others = ((s.values(), s.defaults, s.compiled_in()) for s in (self, other))
        return mine != others

    def compiled_in(self) -> Set[str]:
        """The constants that the device is told of: torch's own optimizers know no others."""
        told = {"loss_scaling", *_KINDS[self.kind]}
        return self.constants & (
            told | ({"velocity_scaling"} if self.settings["use_combined_accum"] else set())
        )


def snapshot(optimizer: torch.optim.Optimizer) -> Snapshot:
    """Copy an optimizer's hyper-parameters and check that the device can run it.

    Raises:
        AssertionError: an optimizer there is no device update for, RMSprop groups that disagree on
            ``centered``, or a hyper-parameter that is missing or no plain number.
        ValueError: ``amsgrad``.
    """
    kind = optimizerKind(optimizer)
    groups = [_group(kind, group) for group in optimizer.param_groups]
    if kind == "rmsprop":
        assert len({group["centered"] for group in groups}) <= 1, (
            "All parameter groups of RMSprop must have the same value for centered"
        )
    settings = {name: getattr(optimizer, name, value) for name, value in _GLOBALS.items()}
    _assert_number("loss_scaling", settings["loss_scaling"])
    for name in ("loss_scaling", "max_grad_norm"):
        settings[name] = float(settings[name])
    defaults = _group(kind, dict(optimizer.defaults, params=[]))
    if kind == "sgd" and not settings["use_combined_accum"]:
        for group in (*groups, defaults):
            group["velocity_scaling"] = 1.0  # means something in combined accumulation only
    return Snapshot(kind, groups, settings, _constants(optimizer, kind), defaults)


def optimizerType(kind: str, settings: Dict[str, Any], groups: List[Dict[str, Any]]) -> str:
    """PopTorch's own name of what the device runs, as its messages have it."""
    if kind == "sgd":
        return "SGD1" if settings["use_combined_accum"] else "SGD2"
    if kind == "rmsprop":
        return "RMSPROP_CENTERED" if groups and groups[0]["centered"] else "RMSPROP"
    if kind in ("adamw", "lamb") and not settings["bias_correction"]:
        return kind.upper() + "_NO_BIAS"
    return kind.upper()


def optimizerKind(optimizer: torch.optim.Optimizer) -> str:
    """Which update rule an optimizer stands for; the nearest known base class decides.

    Raises:
        AssertionError: none of its base classes is known.
    """
    kinds = {
        torch.optim.SGD: "sgd",
        torch.optim.Adam: "adam",
        torch.optim.AdamW: "adamw",
        torch.optim.RMSprop: "rmsprop",
        LAMB: "lamb",
    }
    kind = next((kinds[cls] for cls in type(optimizer).__mro__ if cls in kinds), None)
    assert kind is not None, (
        f"Unsupported optimizer type: {type(optimizer).__name__}. Supported are SGD, Adam, AdamW and "
        "RMSprop of torch.optim or poptorch.optim, and poptorch.optim.LAMB"
    )
    if type(optimizer) not in kinds and not type(optimizer).__module__.startswith(_EMULATOR):
        logger.warning(
            "%s is treated as %s: an IPU does not run Python optimizer code directly, so a step() of its own "
            "has no effect",
            type(optimizer).__name__,
            kind,
        )
    return kind


def _group(kind: str, group: Dict[str, Any]) -> Dict[str, Any]:
    if group.get("amsgrad"):
        raise ValueError("amsgrad is not supported: use amsgrad=False")
    copied: Dict[str, Any] = {"params": list(group["params"])}
    if kind == "sgd":
        group = dict({"velocity_scaling": 1.0}, **group)
        copied["velocity_scaling"] = _number("velocity_scaling", group)
    for name, otherwise in _KINDS[kind].items():
        if name == "betas":
            copied["beta1"], copied["beta2"] = _betas(group)
        elif name == "centered":
            copied[name] = bool(group.get(name, otherwise))
        else:
            value = _number(name, group)
            copied[name] = bool(value) if isinstance(otherwise, bool) else value
    return copied


def _assert_number(name: str, value: Any) -> None:
    """PopTorch takes Python's and numpy's numbers; tensors and texts are none."""
    assert isinstance(value, numbers.Number), (
        f"Expected a number for {name} but got {value!r} instead: convert it, as with float()"
    )


def _number(name: str, group: Dict[str, Any]) -> float:
    value: Any = group.get(name)
    assert value is not None, f"Mandatory attribute {name} not found in the optimizer's group"
    _assert_number(name, value)
    return float(value)


def _betas(group: Dict[str, Any]) -> Tuple[float, float]:
    value = group.get("betas")
    assert value is not None, "Mandatory attribute betas not found in the optimizer's group"
    assert isinstance(value, tuple) and len(value) == 2, (
        f"Expected a pair for betas but got {value!r} instead: give a tuple of two numbers"
    )
    for index, beta in enumerate(value):
        _assert_number(f"betas[{index}]", beta)
    return float(value[0]), float(value[1])


def _constants(optimizer: torch.optim.Optimizer, kind: str) -> Set[str]:
    """Names of hyper-parameters that cannot change once compiled."""
    attributes = getattr(optimizer, "variable_attrs", None)
    if attributes is not None:
        return {name for name in attributes._allowed_attributes if attributes.isConstant(name)}
    # torch's own: constant where every group has the default; the learning rate never is
    constants = {
        name
        for name, otherwise in _KINDS[kind].items()
        if all(group.get(name, otherwise) == otherwise for group in optimizer.param_groups)
    }
    return (constants | (_ALWAYS_CONSTANT & set(_KINDS[kind]))) - {"lr"} | {"loss_scaling"}


def changedConstants(old: Snapshot, new: Snapshot) -> List[str]:
    """Names of compiled-in hyper-parameters that differ between two snapshots."""
    renamed = {"beta1": "betas", "beta2": "betas"}
    pairs = [(old.settings, new.settings), *zip(old.groups, new.groups)]
    changed = set()
    for before, after in pairs:
        for name, value in before.items():
            constant = renamed.get(name, name)
            if name != "params" and constant in old.constants and after.get(name) != value:
                changed.add(constant)
    return sorted(changed)


class AttributeTracker:
    """Warns once about attributes of an optimizer that appear later and mean nothing to the device.

    What the first optimizer has is taken as it is, whatever it means; ``maximize`` alone is mentioned there, too.

    Args:
        relax: mention them at debug level (``relaxOptimizerAttributesChecks``).
    """

    # what torch keeps on optimizers and in their groups
    _OF_OPTIMIZERS = {
        "defaults", "state", "param_groups", "variable_attrs", "host_state_is_dirty", "ipu_state_is_dirty",
        "max_weight_norm",
    }  # fmt: skip
    _OF_GROUPS = {
        "params", "maximize", "foreach", "differentiable", "capturable", "fused", "amsgrad",
        "decoupled_weight_decay", "param_names",
    }  # fmt: skip

    def __init__(self, relax: bool = False) -> None:
        self._log = logger.debug if relax else logger.warning
        self._known_attributes: Set[str] = set()
        self._known_variables: Set[str] = set()
        self._said: Set[str] = set()
        self._first = True

    def check(self, optimizer: torch.optim.Optimizer, sent: Snapshot) -> None:
        """Look at an optimizer handed to the executor, of which ``sent`` was taken."""
        if any(group.get("maximize") for group in optimizer.param_groups):
            self._say("maximize=True is ignored: IPUs minimize. Negate the loss, for its maximum")
        attributes = [
            name
            for name in vars(optimizer)
            if not name.startswith("_")
            and name not in self._OF_OPTIMIZERS
            and name not in _GLOBALS
            and not callable(getattr(optimizer, name))
        ]
        variables = [("default group variable", optimizer.defaults)]
        variables += [
            (f"group {index} attribute", group) for index, group in enumerate(optimizer.param_groups)
        ]
        if self._first:
            self._first = False
            self._known_attributes.update(attributes)
            self._known_variables.update(*(found for _, found in variables))
            self._known_variables.update(_KINDS[sent.kind], self._OF_GROUPS)
            return
        kind = optimizerType(sent.kind, sent.settings, sent.groups)
        self._warn("optimizer attribute", kind, [n for n in attributes if n not in self._known_attributes])
        for where, found in variables:
            self._warn(where, kind, [n for n in found if n not in self._known_variables])

    def _warn(self, what: str, kind: str, names: List[str]) -> None:
        if names:
            self._say(f"Ignoring unexpected {what} in {kind} optimizer: {names}")

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._log(message)

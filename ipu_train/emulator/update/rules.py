"""The weight updates of PopTorch's optimizers (PopTorch 3.4 user guide, "Optimizers").

Each rule works in place on lists of tensors of one parameter group: ``weights``, ``gradients`` (reduced over
micro-batches and replicas, loss scaling removed) and the state slots that it asks for. All are float32 storage; what
the device would hold as float16 is rounded by :class:`DeviceOptimizer` after each update.
"""

import math
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch

from .._logging import logger
from ..capture.rounding import Rounding
from .loss_scaling import AutomaticLossScaling
from .scalars import Factors, Group, has_momentum, scalars, velocity_decay, velocity_scaling

COUNTS = "lossScaleUpdateCounts"  # this emulator's, of periods of several updates
FACTOR = "lossScaleUpdateFactor"  # PopART's name of automatic loss scaling's state

Tensors = List[torch.Tensor]


def sgd(weights: Tensors, gradients: Tensors, state: Dict[str, Tensors], group: Group, step: int) -> None:
    """``g += wd*w; v = mu*v + (1-dampening)*vs*g; w -= lr/vs*(vs*g + mu*v)`` with Nesterov, else ``w -= lr/vs*v``.

    v starts at zero, so dampening applies from the first step on (torch leaves it out of that step). Its scaling vs is
    that of the loss, so that v has float16's range where it is float16.
    """
    if "Accl" in state:
        _combined_sgd(weights, gradients, state["Accl"], group)
        return
    if group["weight_decay"]:
        torch._foreach_add_(gradients, weights, alpha=group["weight_decay"])
    if "Accl1" in state:
        scaling, velocity = velocity_scaling(group), state["Accl1"]
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, gradients, alpha=(1 - group["dampening"]) * scaling)
        direction = _nesterov(gradients, velocity, group) if group["nesterov"] else velocity
        torch._foreach_add_(weights, direction, alpha=-group["lr"] / scaling)
        return
    if group["dampening"]:
        torch._foreach_mul_(gradients, 1 - group["dampening"])
    torch._foreach_add_(weights, gradients, alpha=-group["lr"])


def _nesterov(gradients: Tensors, velocity: Tensors, group: Group) -> Tensors:
    if velocity_scaling(group) != 1:
        torch._foreach_mul_(gradients, velocity_scaling(group))
    torch._foreach_add_(gradients, velocity, alpha=group["momentum"])
    return gradients


def _combined_sgd(weights: Tensors, gradients: Tensors, velocity: Tensors, group: Group) -> None:
    """The same update as PopART's SGD1 makes it, which has no gradients beside the velocity and scales that by vs.

    ``v += (1-dampening)*vs*g; w -= lr/vs*v; v = mu*v + (1-dampening)*vs*wd*w``: what is left of v is what the next
    update begins with, and the first one begins with the last term alone. Nesterov's direction is
    ``vs*(g + wd*w) + mu*v``.
    """
    scaling, direction = velocity_scaling(group), velocity
    torch._foreach_add_(velocity, gradients, alpha=(1 - group["dampening"]) * scaling)
    if group["nesterov"]:
        if group["weight_decay"]:
            torch._foreach_add_(gradients, weights, alpha=group["weight_decay"])
        direction = _nesterov(gradients, velocity, group)
    torch._foreach_add_(weights, direction, alpha=-group["lr"] / scaling)
    torch._foreach_mul_(velocity, group["momentum"])
    if group["weight_decay"]:
        torch._foreach_add_(velocity, weights, alpha=velocity_decay(group))


def _moments(gradients: Tensors, state: Dict[str, Tensors], group: Group) -> None:
    beta1, beta2 = group["beta1"], group["beta2"]
    torch._foreach_mul_(state["Accl1"], beta1)
    torch._foreach_add_(state["Accl1"], gradients, alpha=1 - beta1)
    torch._foreach_mul_(state["Accl2"], beta2)
    torch._foreach_addcmul_(state["Accl2"], gradients, gradients, 1 - beta2)


def _adam_direction(state: Dict[str, Tensors], group: Group, step: int, corrected: bool) -> Tensors:
    """``(m / c1) / (sqrt(v / c2) + eps)`` with the bias corrections c1, c2 of this step, or 1."""
    beta1, beta2 = group["beta1"], group["beta2"]
    first = 1 - beta1**step if corrected else 1.0
    second = 1 - beta2**step if corrected else 1.0
    denominator = torch._foreach_sqrt(state["Accl2"])
    torch._foreach_div_(denominator, math.sqrt(second))
    torch._foreach_add_(denominator, group["eps"])
    direction = torch._foreach_div(state["Accl1"], denominator)
    torch._foreach_div_(direction, first)
    return list(direction)


def adam(weights: Tensors, gradients: Tensors, state: Dict[str, Tensors], group: Group, step: int) -> None:
    """Adam with L2 weight decay in the gradient and bias-corrected moments."""
    if group["weight_decay"]:
        torch._foreach_add_(gradients, weights, alpha=group["weight_decay"])
    _moments(gradients, state, group)
    torch._foreach_add_(weights, _adam_direction(state, group, step, True), alpha=-group["lr"])


def adamw(weights: Tensors, gradients: Tensors, state: Dict[str, Tensors], group: Group, step: int) -> None:
    """Adam with decoupled weight decay ``w -= lr*wd*w``.

    Moments are bias-corrected also with ``bias_correction=False``, a flag that PopTorch 3.4 does not act on.
    """
    if group["weight_decay"]:
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
    _moments(gradients, state, group)
    torch._foreach_add_(weights, _adam_direction(state, group, step, True), alpha=-group["lr"])


def rmsprop(weights: Tensors, gradients: Tensors, state: Dict[str, Tensors], group: Group, step: int) -> None:
    """RMSprop; with ``use_tf_variant`` TensorFlow's form: eps inside the root, the buffer accumulates ``lr*update``.

    State: ``Accl1`` mean square, ``Accl2`` momentum buffer, ``Accl3`` mean gradient when centered.
    """
    alpha, tensorflow = group["alpha"], group["use_tf_variant"]
    if group["weight_decay"]:
        torch._foreach_add_(gradients, weights, alpha=group["weight_decay"])
    torch._foreach_mul_(state["Accl1"], alpha)
    torch._foreach_addcmul_(state["Accl1"], gradients, gradients, 1 - alpha)
    square = list(torch._foreach_mul(state["Accl1"], 1.0))
    if "Accl3" in state:
        torch._foreach_mul_(state["Accl3"], alpha)
        torch._foreach_add_(state["Accl3"], gradients, alpha=1 - alpha)
        torch._foreach_addcmul_(square, state["Accl3"], state["Accl3"], -1.0)
    if tensorflow:
        torch._foreach_add_(square, group["eps"])
        torch._foreach_sqrt_(square)
    else:
        torch._foreach_sqrt_(square)
        torch._foreach_add_(square, group["eps"])
    update = torch._foreach_div(gradients, square)
    if "Accl2" not in state:
        torch._foreach_add_(weights, update, alpha=-group["lr"])
        return
    torch._foreach_mul_(state["Accl2"], group["momentum"])
    torch._foreach_add_(state["Accl2"], update, alpha=group["lr"] if tensorflow else 1.0)
    torch._foreach_add_(weights, state["Accl2"], alpha=-1.0 if tensorflow else -group["lr"])


def lamb(weights: Tensors, gradients: Tensors, state: Dict[str, Tensors], group: Group, step: int) -> None:
    """LAMB: Adam's direction plus ``wd*w``, scaled for each tensor by ``min(|w|, max_weight_norm) / |u|``.

    The ratio is 1 where either norm is zero.
    """
    _moments(gradients, state, group)
    update = _adam_direction(state, group, step, group["bias_correction"])
    if group["weight_decay"]:
        torch._foreach_add_(update, weights, alpha=group["weight_decay"])
    for weight, u in zip(weights, update):
        weight_norm = weight.norm().clamp(max=group["max_weight_norm"])
        update_norm = u.norm()
        ratio = torch.where(
            (weight_norm > 0) & (update_norm > 0), weight_norm / update_norm, torch.ones_like(weight_norm)
        )
        weight.add_(u * ratio, alpha=-group["lr"])


RULES: Dict[str, Callable[..., None]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "lamb": lamb,
}


def state_slots(kind: str, group: Group) -> Dict[str, float]:
    """State tensors that a rule needs for each weight, with the value they start from."""
    if kind == "sgd":
        if not has_momentum(group):
            return {}
        return {"Accl" if group.get("use_combined_accum") else "Accl1": 0.0}
    if kind != "rmsprop":
        return {"Accl1": 0.0, "Accl2": 0.0}
    slots = {"Accl1": 1.0 if group["use_tf_variant"] else 0.0}
    if has_momentum(group):
        slots["Accl2"] = 0.0
    if group["centered"]:
        slots["Accl3"] = 0.0
    return slots


# which of the optimizer's accumulation types a state slot has; a combined velocity has the weight's
_SLOT_TYPES = {
    "sgd": {"Accl1": "velocity_accum_type"},
    "adam": {"Accl1": "first_order_momentum_accum_type", "Accl2": "second_order_momentum_accum_type"},
    "rmsprop": {
        "Accl1": "second_order_momentum_accum_type",
        "Accl2": "first_order_momentum_accum_type",
        "Accl3": "first_order_momentum_accum_type",
    },
}
_SLOT_TYPES["adamw"] = _SLOT_TYPES["lamb"] = _SLOT_TYPES["adam"]


def clip_by_global_norm(gradients: Sequence[torch.Tensor], max_norm: float) -> None:
    """Scale all gradients so that their joint L2 norm is at most ``max_norm``, as ``clip_grad_norm_`` does."""
    if not math.isfinite(max_norm):
        return
    total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
    torch._foreach_mul_(list(gradients), float((max_norm / (total + 1e-6)).clamp(max=1.0)))


class DeviceOptimizer:
    """The optimizer's share of the device: hyper-parameters as last sent, and state tensors.

    Args:
        snapshot: what ``optim.snapshot`` read off the user's optimizer (kind, groups, settings).
        names: names of the weights of each group, in the order of the optimizer's ``param_groups``.
        weights: device weights by name.
        half_weights: names of the weights that the device stores as float16.
        rounding: how they and float16 state are rounded after an update; left out, to nearest.
        automatic: adapts the loss scaling after each update; None leaves it as the optimizer has it.
        slices: of the weights that differ between groups of replicas, how many groups there are; their tensors here
            have a leading dimension of that size, and each slice is what one group trains.
        factors: what gradients are summed over, for the hyper-parameters that PopART combines with it.
    """

    def __init__(
        self,
        snapshot: Any,
        names: List[List[str]],
        weights: Dict[str, torch.Tensor],
        half_weights: Sequence[str] = (),
        rounding: Optional[Rounding] = None,
        automatic: Optional[AutomaticLossScaling] = None,
        slices: Optional[Dict[str, int]] = None,
        factors: Optional[Factors] = None,
    ) -> None:
        self.names = names
        self.factors = factors or Factors()
        self.slices = slices or {}
        self.weights = weights
        self.half_weights = set(half_weights)
        self.step = 0
        self.state: Dict[str, torch.Tensor] = {}
        self.rounding = rounding or Rounding()
        self.automatic = automatic
        if automatic is not None:
            self.state[FACTOR] = torch.ones(())
            if automatic.period > 1:
                self.state[COUNTS] = automatic.counts
        self.set_hyper_parameters(snapshot)

    def set_hyper_parameters(self, snapshot: Any) -> None:
        """Take new values; state that exists is kept, state that is now needed starts afresh."""
        self.kind = snapshot.kind
        self.settings = dict(snapshot.settings)
        self._loaded: Dict[str, torch.Tensor] = {}
        variable = {"variable_momentum": "momentum" not in snapshot.constants}
        self.groups = [dict(snapshot.settings, **variable, **group) for group in snapshot.groups]
        self.constants = set(snapshot.constants)
        for group, names in zip(self.groups, self.names):
            for slot, start in state_slots(self.kind, group).items():
                for name in names:
                    key = f"{slot}___{name}"
                    if key not in self.state:
                        self.state[key] = torch.full_like(self.weights[name].detach(), start)
                        if slot == "Accl" and group["weight_decay"]:
                            self.state[key].add_(self.weights[name].detach(), alpha=velocity_decay(group))
                            if name in self.half_weights:
                                self.state[key].copy_(self.state[key].half())

    @property
    def loss_scaling(self) -> float:
        """What the loss is multiplied by before backward."""
        scaling = self.settings["loss_scaling"]
        return scaling if self.automatic is None else scaling * float(self.state[FACTOR])

    def adapt_loss_scaling(self, gradients: Sequence[torch.Tensor], micro_batches: int) -> None:
        """Let automatic loss scaling see the scaled gradients, summed over that many micro-batches."""
        if self.automatic is not None:
            factor = self.automatic.next_factor(
                float(self.state[FACTOR]),
                self.settings["loss_scaling"],
                [g / micro_batches for g in gradients],
            )
            self.state[FACTOR].fill_(factor)

    def update(self, gradients: Dict[str, torch.Tensor]) -> None:
        """One weight update from reduced gradients by name; weights without a gradient stay as they are."""
        self.step += 1
        rule = RULES[self.kind]
        with torch.no_grad():
            clip_by_global_norm(list(gradients.values()), self.settings["max_grad_norm"])
            for group, names in zip(self.groups, self.names):
                present = [name for name in names if name in gradients]
                if not present:
                    continue
                slots = state_slots(self.kind, group)
                state = {slot: self._each(f"{slot}___", self.state, present) for slot in slots}
                grads = self._each("", gradients, present)
                rule(self._each("", self.weights, present), grads, state, group, self.step)
                self._round(present, slots)

    def _each(self, prefix: str, tensors: Dict[str, torch.Tensor], names: Sequence[str]) -> Tensors:
        """What a rule updates: a tensor for each weight, or one for each group of replicas that has its own."""
        each: Tensors = []
        for name in names:
            tensor = tensors[prefix + name].detach()
            each += tensor.unbind() if name in self.slices else [tensor]
        return each

    def _is_half(self, slot: str, name: str) -> bool:
        """Whether the device holds a weight's state as float16."""
        types = _SLOT_TYPES[self.kind]
        return self.settings[types[slot]] == torch.float16 if slot in types else name in self.half_weights

    def _round(self, names: Sequence[str], slots: Dict[str, float]) -> None:
        for slot in slots:
            for name in names:
                if self._is_half(slot, name):
                    self.rounding.values_(self.state[f"{slot}___{name}"])
        for name in names:
            if name in self.half_weights:
                self.rounding.values_(self.weights[name].detach())

    # -- what goes to and comes from the host --------------------------------------------------------------------

    def read_state(self) -> Dict[str, torch.Tensor]:
        """Host copies of the state tensors under PopART's names, with the dtypes of the device."""
        state = {key: value.detach().cpu().clone() for key, value in self.state.items()}
        for group, names in zip(self.groups, self.names):
            for slot in state_slots(self.kind, group):
                for name in names:
                    if self._is_half(slot, name):
                        state[f"{slot}___{name}"] = state[f"{slot}___{name}"].half()
        if self.kind in ("adam", "adamw", "lamb"):
            for names in self.names:
                for name in names:
                    # PopART's step has the weight's groups of replicas, a value each
                    shape = (self.slices[name],) if name in self.slices else ()
                    state[f"Step___{name}"] = torch.full(shape, float(self.step))
        return state

    def write_state(self, state: Dict[str, torch.Tensor]) -> None:
        """Take over host state; tensors that are missing keep their device value, with a warning."""
        for key in self.read_state():
            if key not in state and key != COUNTS:
                logger.warning("writeOptimizerState: ignoring missing state %s", key)
        for key, value in state.items():
            if key.startswith("Step___"):
                self.step = int(value.max())
            elif key in self.state:
                self.state[key].copy_(value)

    def read_parameters(self) -> Dict[str, torch.Tensor]:
        """The hyper-parameters as the tensors that PopART keeps for them."""
        if self._loaded:
            return {key: value.clone() for key, value in self._loaded.items()}
        # as sent: automatic loss scaling keeps its factor in a tensor of its own
        scaling = self.settings["loss_scaling"]
        values = {"lossScaling_FLOAT": torch.tensor(float(scaling))}
        for group, names in zip(self.groups, self.names):
            for start, value in scalars(self.kind, group, self.factors, self.constants).items():
                for name in names:
                    values[f"{start}___specific___{name}"] = torch.tensor(float(value))
        return values

    def write_parameters(self, parameters: Dict[str, torch.Tensor]) -> None:
        """Take over loaded hyper-parameters by PopART's names, for :meth:`read_parameters` until new ones are sent.

        Updates go on with the values that were sent last: PopTorch 3.4 writes what is loaded into the buffers that it
        reads back from, and ``setOptimizer`` alone moves hyper-parameters to the device.
        """
        values = self.read_parameters()
        for key in values:
            if key not in parameters:
                logger.warning("writeOptimizerState: ignoring missing parameter %s", key)
        self._loaded = dict(values, **{k: v.detach().clone() for k, v in parameters.items() if k in values})

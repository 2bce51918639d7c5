"""Weight updates of some parameters on the host, from gradients that the device reduced.

PopTorch compiles forward, backward and weight update into one program. Its optimizers are fixed rules; nothing that a
user writes can run between the accumulated gradient and the update (``cond`` and ``for_loop`` exist for inference
only, ``torch.autograd.grad`` and hooks not at all, and a custom operator sees single micro-batches). What needs the
reduced gradient of a whole weight update before it can say what the update is, must therefore leave the device:

* Proxy statistics once for each weight update: dL/dm and dL/ds, summed over all micro-batches and replicas, have to be
  chained into four parameter vectors before these are updated (Labatie et al. 2021, Graphcore's public code).
* LARS: the step of each layer depends on the norm of its reduced gradient.

How the host gets the gradient: the parameters are put into a parameter group of the device's own optimizer whose
rule degenerates to ``w -= K g`` with a large power of two K (``optimizers.read_out_group``). After a training call of
one device iteration the change of the weight *is* the reduced gradient; PopTorch has dealt with micro-batches,
replicas, loss scaling and reduction as ever, and K makes the weight itself vanish beside it, so that single precision
loses nothing. The host puts the old weights back, applies the rule that is wanted, and sends the weights to the device.
The training is that of the update rule, to rounding. It costs calls of a single device iteration and, in each of them,
transfers that PopTorch can only make whole: all weights to the host and back (lars, or sgd without momentum), and with
an optimizer that has state, weights and state once more to the host before they go back (counted over PopTorch's own
front end: docs/host_updates.md; ``copyNamedBuffersToDevice`` moves less, but buffers get no gradient).
"""

from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import torch

from ..config import OptimizerConfig
from ..config.optimizer import Lars as LarsConfig
from ..config.optimizer import Sgd
from ..models.held_statistics import HeldStatistics
from ..models.proxy_norm import HELD, ProxyNorm
from .optimizers import GRADIENT_SCALE, Exempt, build_optimizer

Tensors = Dict[str, torch.Tensor]


def lars_step(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    velocity: torch.Tensor,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: Optional[float],
    eps: float,
) -> None:
    """One LARS update in place (You et al. 2017, arXiv 1708.03888, algorithm 1; eps as in MLPerf's rules).

    ratio = trust_coefficient |w| / (|g| + weight_decay |w| + eps), and 1 where a norm is 0 or without a coefficient;
    ``v = momentum v + learning_rate ratio (g + weight_decay w); w -= v``.
    """
    rate = learning_rate
    if trust_coefficient is not None:
        weight_norm, gradient_norm = float(weight.norm()), float(gradient.norm())
        if weight_norm > 0 and gradient_norm > 0:
            rate *= trust_coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm + eps)
    velocity.mul_(momentum).add_(gradient, alpha=rate).add_(weight, alpha=rate * weight_decay)
    weight.sub_(velocity)


class Lars:
    """LARS on tensors by name. Parameters exempt from weight decay get plain momentum, as in MLPerf's rules."""

    def __init__(self, config: LarsConfig, weights: Tensors, exempt: Dict[str, bool]) -> None:
        self.config, self.exempt = config, exempt
        self.velocity = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def update(self, weights: Tensors, gradients: Tensors, learning_rate: float) -> None:
        config = self.config
        for name, gradient in gradients.items():
            exempt = self.exempt[name]
            lars_step(
                weights[name],
                gradient,
                self.velocity[name],
                learning_rate,
                config.momentum,
                0.0 if exempt else config.weight_decay,
                None if exempt else config.trust_coefficient,
                config.eps,
            )

    def state_dict(self) -> Tensors:
        return {f"velocity.{name}": tensor.clone() for name, tensor in self.velocity.items()}

    def load_state_dict(self, state: Tensors) -> None:
        for name, tensor in self.velocity.items():
            tensor.copy_(state[f"velocity.{name}"])


class PopTorchRule:
    """A PopTorch optimizer's own rule, carried out on the host as the embedded emulator does it.

    Args:
        optimizer: of the emulator's ``optim``; its groups hold host parameters.
        weights: these parameters' values by name.
        names: of the parameters of each group.
    """

    def __init__(self, optimizer: Any, weights: Tensors, names: List[List[str]]) -> None:
        from ..emulator.update import DeviceOptimizer, snapshot

        self.optimizer, self.snapshot = optimizer, snapshot
        self.weights = {name: weight.detach().clone() for name, weight in weights.items()}
        self.rule = DeviceOptimizer(snapshot(optimizer), names, self.weights)

    def update(self, weights: Tensors, gradients: Tensors, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.rule.set_hyper_parameters(self.snapshot(self.optimizer))
        for name in gradients:
            self.weights[name].copy_(weights[name])
        self.rule.update(dict(gradients))
        for name in gradients:
            weights[name].copy_(self.weights[name])

    def state_dict(self) -> Tensors:
        return self.rule.read_state()

    def load_state_dict(self, state: Tensors) -> None:
        self.rule.write_state(state)


class HostUpdate:
    """Carries out a host rule around each training call of one device iteration.

    Args:
        parameters: by name, those that the host updates, and those whose gradients it needs for that.
        rule: :class:`Lars` or :class:`PopTorchRule`.
        chain: called when the parameters hold their gradients in ``grad``; may change and clear these.
        refresh: called after the update.
        device_has_state: whether the device's optimizer keeps state (momentum, moments). PopTorch writes weights and
            optimizer state to the device together, so it reads the state back first: a second transfer of everything
            to the host, which only happens where there is state to lose.
    """

    def __init__(
        self,
        parameters: Iterable[Tuple[str, torch.nn.Parameter]],
        rule: Any,
        chain: Callable[[], None] = lambda: None,
        refresh: Callable[[], None] = lambda: None,
        device_has_state: bool = True,
    ) -> None:
        self.parameters = dict(parameters)
        self.rule, self.chain, self.refresh = rule, chain, refresh
        self.device_has_state = device_has_state

    def call(
        self,
        training_model: Any,
        optimizer: Any,
        inputs: Iterable[torch.Tensor],
        learning_rate: float,
        at_home: Callable[[], None] = lambda: None,
    ) -> Any:
        """A training call and the host's share of its weight update; returns what the call returns.

        ``at_home`` is called when the device's weights have come to the host.
        """
        with torch.no_grad():
            before = {name: p.detach().clone() for name, p in self.parameters.items()}
        result = training_model(*inputs)
        training_model.copyWeightsToHost()
        at_home()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.grad = (before[name] - parameter.detach()).div_(GRADIENT_SCALE)
                parameter.copy_(before[name])
            self.chain()
            gradients = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
            self.rule.update(before, gradients, learning_rate)
            for name in gradients:
                self.parameters[name].copy_(before[name])
            for parameter in self.parameters.values():
                parameter.grad = None
            self.refresh()
        if not self.device_has_state:
            optimizer.host_state_is_dirty = False  # nothing to read back before the weights go up
        training_model.copyWeightsToDevice()
        optimizer.host_state_is_dirty = True
        return result

    def state_dict(self) -> Tensors:
        """State of the rule, as tensors."""
        return self.rule.state_dict()

    def load_state_dict(self, state: Tensors) -> None:
        self.rule.load_state_dict(state)


def build_host_update(
    network: torch.nn.Module, config: OptimizerConfig, per_update_statistics: bool, exempt: Exempt
) -> Optional[HostUpdate]:
    """What of a network's training the host does; None when the device does everything.

    With ``per_update_statistics`` every ``ProxyNorm`` is switched to held statistics, and the host updates its four
    vectors by the configuration's rule. With lars the host updates every parameter.

    Args:
        network: in its final dtype, with ``requires_grad`` off where nothing is to be trained.
        exempt: tells from name and parameter whether it is exempt from weight decay.
    """
    on_host = isinstance(config, LarsConfig)
    if not on_host and not per_update_statistics:
        return None
    held = _hold(network) if per_update_statistics else None
    sites = {f"{n}." if n else "" for n, m in network.named_modules() if isinstance(m, ProxyNorm)}
    parameters = [
        (name, parameter)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and (on_host or name.rpartition(".")[0] + "." in sites)
    ]
    updated = [(name, p) for name, p in parameters if name.rpartition(".")[2] not in HELD]
    if not updated:  # the sites are frozen: their statistics never change
        return None
    weights = {name: p.detach() for name, p in updated}
    if isinstance(config, LarsConfig):
        rule: Any = Lars(config, weights, {name: exempt(name, p) for name, p in updated})
    else:
        from .. import emulator

        optimizer = build_optimizer(emulator, updated, config, config.learning_rate, exempt)
        name_of = {id(p): name for name, p in updated}
        names = [[name_of[id(p)] for p in group["params"]] for group in optimizer.param_groups]
        rule = PopTorchRule(optimizer, weights, names)
    has_state = not isinstance(config, LarsConfig) and not (isinstance(config, Sgd) and config.momentum == 0)
    if held is None:
        return HostUpdate(parameters, rule, device_has_state=has_state)
    return HostUpdate(parameters, rule, held.chain_gradients, held.refresh, has_state)


def _hold(network: torch.nn.Module) -> HeldStatistics:
    held = HeldStatistics(network)
    for sites in held.groups:
        for site in sites:
            for name in HELD:
                getattr(site, name).requires_grad_(site.beta.requires_grad)
    return held

"""PopTorch's optimizers: torch's, with loss scaling, accumulation types and state on the device.

Every argument that is left out (None) means torch's own default and is compiled in as a constant. The
arguments and their order are those of PopTorch 3.4, whatever the installed torch offers. The update on the
device is in :mod:`ipu_train.emulator._update_rules`; ``step()`` here updates the host's parameters, as torch
does.
"""

import math
from typing import Any, Callable, Dict, Iterable, Optional, Tuple

import torch

from ._optimizer_base import (
    Optimizer,
    VariableAttributes,
    accumTypes,
    default,
    velocityScaling,
    withoutNone,
)
from ._optimizer_snapshot import AttributeTracker, Snapshot, changedConstants, snapshot

__all__ = [
    "LAMB",
    "SGD",
    "Adam",
    "AdamW",
    "AttributeTracker",
    "Optimizer",
    "RMSprop",
    "Snapshot",
    "VariableAttributes",
    "changedConstants",
    "snapshot",
]

Params = Iterable[Any]
MAX_WEIGHT_NORM = 65500.0


def _given(arguments: Dict[str, Any]) -> Dict[str, Any]:
    """A constructor's ``locals()`` without what is no hyper-parameter."""
    return {name: value for name, value in arguments.items() if name not in ("self", "params", "__class__")}


class SGD(Optimizer, torch.optim.SGD):
    """Stochastic gradient descent with momentum.

    Args:
        loss_scaling: factor on the loss's gradient, taken out again before the update.
        velocity_scaling: factor on the velocity (combined accumulation only), per group.
        use_combined_accum: accumulate gradients directly in the velocity.
        accum_type: dtype of gradient accumulators.
        velocity_accum_type: dtype of the velocity.
        max_grad_norm: clip the global gradient norm to this, infinity not to.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        momentum: Optional[float] = None,
        dampening: Optional[float] = None,
        weight_decay: Optional[float] = None,
        nesterov: Optional[bool] = None,
        maximize: Optional[bool] = None,
        foreach: Optional[bool] = None,
        differentiable: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        velocity_scaling: Optional[float] = None,
        use_combined_accum: Optional[bool] = None,
        accum_type: Optional[torch.dtype] = None,
        velocity_accum_type: Optional[torch.dtype] = None,
        max_grad_norm: Optional[float] = None,
    ) -> None:
        given = _given(locals())
        types = accumTypes(accum_type=accum_type, velocity_accum_type=velocity_accum_type)
        super().__init__(
            params,
            lr=lr,
            **withoutNone(
                momentum=momentum,
                dampening=dampening,
                weight_decay=weight_decay,
                nesterov=nesterov,
                maximize=maximize,
                foreach=foreach,
                differentiable=differentiable,
            ),
        )
        combined = default(use_combined_accum, False)
        velocityScaling(self, velocity_scaling, combined)
        self._initialise(
            given,
            dict(
                types,
                loss_scaling=default(loss_scaling, 1.0),
                use_combined_accum=combined,
                max_grad_norm=default(max_grad_norm, math.inf),
            ),
        )


class Adam(Optimizer, torch.optim.Adam):
    """Adam with L2 weight decay.

    Args:
        loss_scaling: as for :class:`SGD`.
        accum_type: dtype of gradient accumulators.
        first_order_momentum_accum_type: dtype of the first moment.
        second_order_momentum_accum_type: dtype of the second moment.
        max_grad_norm: as for :class:`SGD`.
    """

    def __init__(
        self,
        params: Params,
        lr: Optional[float] = None,
        betas: Optional[Tuple[float, float]] = None,
        eps: Optional[float] = None,
        weight_decay: Optional[float] = None,
        amsgrad: Optional[bool] = None,
        foreach: Optional[bool] = None,
        maximize: Optional[bool] = None,
        capturable: Optional[bool] = None,
        differentiable: Optional[bool] = None,
        fused: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        accum_type: Optional[torch.dtype] = None,
        first_order_momentum_accum_type: Optional[torch.dtype] = None,
        second_order_momentum_accum_type: Optional[torch.dtype] = None,
        max_grad_norm: Optional[float] = None,
    ) -> None:
        given = _given(locals())
        types = accumTypes(
            accum_type=accum_type,
            first_order_momentum_accum_type=first_order_momentum_accum_type,
            second_order_momentum_accum_type=second_order_momentum_accum_type,
        )
        super().__init__(
            params,
            **withoutNone(
                lr=lr,
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                amsgrad=amsgrad,
                foreach=foreach,
                maximize=maximize,
                capturable=capturable,
                differentiable=differentiable,
                fused=fused,
            ),
        )
        self._initialise(
            given,
            dict(
                types,
                loss_scaling=default(loss_scaling, 1.0),
                max_grad_norm=default(max_grad_norm, math.inf),
            ),
        )


class AdamW(Optimizer, torch.optim.AdamW):
    """Adam with decoupled weight decay.

    Args:
        loss_scaling: as for :class:`SGD`.
        bias_correction: kept for compatibility: PopTorch 3.4 corrects the moments' bias either way.
        accum_type: dtype of gradient accumulators.
        first_order_momentum_accum_type: dtype of the first moment.
        second_order_momentum_accum_type: dtype of the second moment.
        max_grad_norm: as for :class:`SGD`.
    """

    def __init__(
        self,
        params: Params,
        lr: Optional[float] = None,
        betas: Optional[Tuple[float, float]] = None,
        eps: Optional[float] = None,
        weight_decay: Optional[float] = None,
        amsgrad: Optional[bool] = None,
        maximize: Optional[bool] = None,
        foreach: Optional[bool] = None,
        capturable: Optional[bool] = None,
        differentiable: Optional[bool] = None,
        fused: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        bias_correction: Optional[bool] = None,
        accum_type: Optional[torch.dtype] = None,
        first_order_momentum_accum_type: Optional[torch.dtype] = None,
        second_order_momentum_accum_type: Optional[torch.dtype] = None,
        max_grad_norm: Optional[float] = None,
    ) -> None:
        given = _given(locals())
        types = accumTypes(
            accum_type=accum_type,
            first_order_momentum_accum_type=first_order_momentum_accum_type,
            second_order_momentum_accum_type=second_order_momentum_accum_type,
        )
        super().__init__(
            params,
            **withoutNone(
                lr=lr,
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                amsgrad=amsgrad,
                maximize=maximize,
                foreach=foreach,
                capturable=capturable,
                differentiable=differentiable,
                fused=fused,
            ),
        )
        self._initialise(
            given,
            dict(
                types,
                loss_scaling=default(loss_scaling, 1.0),
                bias_correction=default(bias_correction, True),
                max_grad_norm=default(max_grad_norm, math.inf),
            ),
        )


class RMSprop(Optimizer, torch.optim.RMSprop):
    """RMSprop, in torch's variant or TensorFlow's.

    Args:
        loss_scaling: as for :class:`SGD`.
        accum_type: dtype of gradient accumulators.
        first_order_momentum_accum_type: dtype of the mean gradient and the momentum.
        second_order_momentum_accum_type: dtype of the mean squared gradient.
        use_tf_variant: TensorFlow's variant on the device: mean square starts at 1, eps inside the root,
            learning rate inside the momentum. ``step()`` on the host is torch's.
    """

    def __init__(
        self,
        params: Params,
        lr: Optional[float] = None,
        alpha: Optional[float] = None,
        eps: Optional[float] = None,
        weight_decay: Optional[float] = None,
        momentum: Optional[float] = None,
        centered: Optional[bool] = None,
        foreach: Optional[bool] = None,
        maximize: Optional[bool] = None,
        differentiable: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        accum_type: Optional[torch.dtype] = None,
        first_order_momentum_accum_type: Optional[torch.dtype] = None,
        second_order_momentum_accum_type: Optional[torch.dtype] = None,
        use_tf_variant: Optional[bool] = None,
    ) -> None:
        given = _given(locals())
        types = accumTypes(
            accum_type=accum_type,
            first_order_momentum_accum_type=first_order_momentum_accum_type,
            second_order_momentum_accum_type=second_order_momentum_accum_type,
        )
        super().__init__(
            params,
            **withoutNone(
                lr=lr,
                alpha=alpha,
                eps=eps,
                weight_decay=weight_decay,
                momentum=momentum,
                centered=centered,
                foreach=foreach,
                maximize=maximize,
                differentiable=differentiable,
            ),
        )
        self._initialise(
            given,
            dict(
                types,
                loss_scaling=default(loss_scaling, 1.0),
                use_tf_variant=default(use_tf_variant, False),
            ),
        )


class LAMB(Optimizer, torch.optim.Optimizer):
    """Layer-wise adaptive moments (You et al. 2020, arXiv 1904.00962).

    Args:
        bias_correction: correct the moments' bias.
        loss_scaling: as for :class:`SGD`.
        max_weight_norm: weight norms count as this at most; the default is as good as no limit.
        accum_type: dtype of gradient accumulators.
        first_order_momentum_accum_type: dtype of the first moment.
        second_order_momentum_accum_type: dtype of the second moment.
    """

    def __init__(
        self,
        params: Params,
        lr: Optional[float] = None,
        betas: Optional[Tuple[float, float]] = None,
        eps: Optional[float] = None,
        weight_decay: Optional[float] = None,
        bias_correction: Optional[bool] = None,
        loss_scaling: Optional[float] = None,
        max_weight_norm: Optional[float] = None,
        accum_type: Optional[torch.dtype] = None,
        first_order_momentum_accum_type: Optional[torch.dtype] = None,
        second_order_momentum_accum_type: Optional[torch.dtype] = None,
    ) -> None:
        given = _given(locals())
        types = accumTypes(
            accum_type=accum_type,
            first_order_momentum_accum_type=first_order_momentum_accum_type,
            second_order_momentum_accum_type=second_order_momentum_accum_type,
        )
        defaults = {
            "lr": default(lr, 1e-3),
            "betas": default(betas, (0.9, 0.999)),
            "eps": default(eps, 1e-8),
            "weight_decay": default(weight_decay, 1e-2),
        }
        _checkLamb(**defaults)
        super().__init__(params, defaults)
        self._initialise(
            given,
            dict(
                types,
                bias_correction=default(bias_correction, True),
                loss_scaling=default(loss_scaling, 1.0),
                max_weight_norm=default(max_weight_norm, MAX_WEIGHT_NORM),
            ),
        )

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Update the host's parameters from their gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, self.state[param], group)
        return loss

    def _update(self, param: torch.Tensor, state: Dict[str, Any], group: Dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        state["step"] += 1
        first = state["exp_avg"].lerp_(param.grad, 1 - beta1)
        second = state["exp_avg_sq"].mul_(beta2).addcmul_(param.grad, param.grad, value=1 - beta2)
        if self.bias_correction:
            first = first / (1 - beta1 ** state["step"])
            second = second / (1 - beta2 ** state["step"])
        update = first / (second.sqrt() + group["eps"]) + group["weight_decay"] * param
        param.sub_(group["lr"] * lambTrustRatio(param, update, self.max_weight_norm) * update)


def lambTrustRatio(weight: torch.Tensor, update: torch.Tensor, max_weight_norm: float) -> torch.Tensor:
    """min(‖w‖, max_weight_norm) / ‖u‖, or 1 when either norm is 0; a 0-dim tensor."""
    weight_norm, update_norm = weight.norm(), update.norm()
    ratio = weight_norm.clamp(max=max_weight_norm) / update_norm
    return torch.where((weight_norm > 0) & (update_norm > 0), ratio, torch.ones_like(ratio))


def _checkLamb(lr: float, betas: Tuple[float, float], eps: float, weight_decay: float) -> None:
    """Refuse hyper-parameters that make no sense, as torch's own optimizers do."""
    for name, value, fits in (
        ("lr", lr, lr >= 0),
        ("betas", betas, all(0 <= beta < 1 for beta in betas)),
        ("eps", eps, eps >= 0),
        ("weight_decay", weight_decay, weight_decay >= 0),
    ):
        if not fits:
            raise ValueError(f"Invalid {name} for LAMB: {value}")

"""PopTorch's optimizers: torch's, with loss scaling, accumulation types and state on the device.

Every argument that is left out (None) means torch's own default and is compiled in as a constant. The
arguments and their order are those of PopTorch 3.4, whatever the installed torch offers. The update on the
device is in :mod:`ipu_train.emulator.update.rules`; ``step()`` here updates the host's parameters, as torch
does.
"""

import math
from typing import Any, Iterable, Optional, Tuple

import torch

from .update.base import (
    Optimizer,
    VariableAttributes,
    accumTypes,
    default,
    given_arguments,
    velocityScaling,
    withoutNone,
)
from .update.hyper_parameters import AttributeTracker, Snapshot, changedConstants, snapshot
from .update.lamb import LAMB

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
        given = given_arguments(locals())
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
        given = given_arguments(locals())
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
        given = given_arguments(locals())
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
        given = given_arguments(locals())
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

"""LAMB, which torch does not have (You et al. 2020, arXiv 1904.00962)."""

from typing import Any, Callable, Dict, Iterable, Optional, Tuple

import torch

from .base import Optimizer, accumTypes, default, given_arguments

# as good as no limit, and the largest weight norm float16 can hold (PopTorch 3.4)
MAX_WEIGHT_NORM = 65500.0


class LAMB(Optimizer, torch.optim.Optimizer):
    """Layer-wise adaptive moments.

    Args:
        bias_correction: correct the moments' bias.
        loss_scaling: as for :class:`SGD`.
        max_weight_norm: weight norms count as this at most; the default is as good as no limit. The device has one
            for each group; ``step()`` on the host takes the optimizer's own.
        accum_type: dtype of gradient accumulators.
        first_order_momentum_accum_type: dtype of the first moment.
        second_order_momentum_accum_type: dtype of the second moment.
    """

    def __init__(
        self,
        params: Iterable[Any],
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
        given = given_arguments(locals())
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
        limit = default(max_weight_norm, MAX_WEIGHT_NORM)
        super().__init__(params, dict(defaults, max_weight_norm=limit))
        self._initialise(
            given,
            dict(
                types,
                bias_correction=default(bias_correction, True),
                loss_scaling=default(loss_scaling, 1.0),
                max_weight_norm=limit,
            ),
        )

    def __setstate__(self, state: Dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in (self.defaults, *self.param_groups):  # earlier versions had it on the optimizer alone
            group.setdefault("max_weight_norm", self.max_weight_norm)

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

"""Group norm, affine, activation and Proxy Norm as one operation on a GPU, through Triton.

Triton comes with PyTorch's builds for CUDA; without it, and for tensors it does not serve, the same is composed from
PyTorch's operations. Everything goes over rows: the pixels of one channel of one instance. What a row needs to know
(the group's mean and deviation folded into a slope and an offset) is made from a few small tensors in between.
"""

import functools
from typing import Any, Dict, Optional, Tuple

import torch

from ipu_train.kernels import composed
from ipu_train.kernels.maths import proxy_statistics
from ipu_train.kernels.once import once
from ipu_train.kernels.settings import Settings
from ipu_train.kernels.tables import points_and_weights

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_FUNCTIONS = {"relu": torch.relu, "silu": torch.nn.functional.silu}
_TILE = 1024  # elements that a program has at hand


def available() -> Tuple[bool, str]:
    """Whether Triton can be used, and if not, why and what to do."""
    try:
        _triton_kernels()
    except ImportError as error:
        return False, f"{error}: install triton (PyTorch's builds for CUDA bring it)"
    return True, ""


def norm_proxy_norm_act(
    x: torch.Tensor,
    beta: torch.Tensor,
    gamma: torch.Tensor,
    proxy_beta: torch.Tensor,
    proxy_gamma: torch.Tensor,
    settings: Settings,
) -> torch.Tensor:
    """As :func:`ipu_train.kernels.cpu.norm_proxy_norm_act`, for tensors on a GPU. Differentiable once.

    Keeps of ``x``'s size only ``x`` itself. The proxy's m and s are computed, and differentiated, in torch.
    """
    settings = Settings(*settings)
    settings.check("norm_proxy_norm_act", x.shape)
    tensors = (x, beta, gamma, proxy_beta, proxy_gamma)
    if x.dtype not in _DTYPES or x.numel() == 0 or torch.jit.is_tracing() or not available()[0]:
        return composed.norm_proxy_norm_act(*tensors, settings)
    beta, gamma, proxy_beta, proxy_gamma = (vector.float() for vector in tensors[1:])
    points, weights = _points(settings.activation, settings.expectation, settings.quantiles, x.device)
    phi = _FUNCTIONS[settings.activation]
    m, s = proxy_statistics(beta, gamma, proxy_beta, proxy_gamma, phi, settings.eps, points, weights)
    y: torch.Tensor = _NormAct.apply(x.contiguous(), beta, gamma, m, s, settings)
    return y


@functools.lru_cache(maxsize=None)
def _points(
    activation: str, expectation: str, quantiles: int, device: torch.device
) -> Tuple[Optional[torch.Tensor], Optional[torch.Tensor]]:
    points, weights = points_and_weights(activation, expectation, quantiles)
    points, weights = (None if t is None else t.to(device, torch.float32) for t in (points, weights))
    return points, weights


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        beta: torch.Tensor,
        gamma: torch.Tensor,
        m: torch.Tensor,
        s: torch.Tensor,
        settings: Settings,
    ) -> torch.Tensor:
        center, rest, r = _group_statistics(x, settings)  # [N, C] each
        slope = gamma * r
        offset = beta - rest * slope
        y = torch.empty_like(x)
        rows = _Rows(x, settings)
        rows.run("forward", x, y, center, slope, offset, _by_row(s, x), _by_row(m, x))
        ctx.settings = settings
        ctx.save_for_backward(x, beta, gamma, m, s, center, rest, r)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, beta, gamma, m, s, center, rest, r = ctx.saved_tensors
        settings, rows, grad = ctx.settings, _Rows(x, ctx.settings), grad.contiguous()
        slope = gamma * r
        offset = beta - rest * slope
        sums = torch.empty((4, *center.shape), dtype=torch.float32, device=x.device)
        rows.run("sums", x, grad, sums, center, slope, offset)
        d, d_phi, d_slope, d_slope_u = sums  # u = x - center
        d_slope_u = d_slope_u - rest * d_slope
        direct = slope * s
        dx = torch.empty_like(x)
        by_u, constant = torch.zeros_like(center), torch.zeros_like(center)
        if settings.groups is not None:
            share = -1.0 / (x[0].numel() / settings.groups)
            by_u = share * r * r * _group_sums(direct * d_slope_u, settings.groups)
            constant = share * _group_sums(direct * d_slope, settings.groups) - rest * by_u
        rows.run("input", x, grad, dx, center, slope, offset, direct, by_u, constant)
        gradients = [
            dx,
            (s * d_slope).sum(0),
            (s * d_slope_u * r).sum(0),
            (-s * d).sum(0),
            (d_phi - m * d).sum(0),
        ]
        return (*once(gradients, grad, x, beta, gamma, m, s), None)


def _by_row(vector: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return vector.expand(x.shape[0], -1).contiguous()


def _group_sums(by_row: torch.Tensor, groups: int) -> torch.Tensor:
    """[N, C]: each row's sum over the rows of its group."""
    n, c = by_row.shape
    return by_row.view(n, groups, -1).sum(2, keepdim=True).expand(-1, -1, c // groups).reshape(n, c)


def _group_statistics(x: torch.Tensor, settings: Settings) -> Tuple[torch.Tensor, ...]:
    """Mean, what float32 takes from it, and inverse deviation of each row's group: ``[N, C]``, float32."""
    n, c = x.shape[:2]
    if settings.groups is None:
        zero = torch.zeros((n, c), dtype=torch.float32, device=x.device)
        return zero, zero, zero + 1.0
    first = torch.empty((3, n, c), dtype=torch.float32, device=x.device)
    _Rows(x, settings).run("moments", x, first)
    shape = (n, settings.groups, c // settings.groups)
    shift, offset, deviations = (t.view(shape).double() for t in first)
    mean = shift + offset  # of each row, in double: a float would lose digits far from zero
    center = mean.mean(2, keepdim=True)
    size = x[0, 0].numel() if x.dim() > 2 else 1
    variance = (deviations / size + (mean - center) ** 2).mean(2, keepdim=True)
    r = torch.rsqrt(variance + settings.norm_eps)
    rounded = center.float()
    spread = [t.float().expand(shape).reshape(n, c) for t in (rounded, center - rounded, r)]
    return spread[0], spread[1], spread[2]


class _Rows:
    """Launches a kernel over the rows of a tensor."""

    def __init__(self, x: torch.Tensor, settings: Settings):
        self.rows = x.shape[0] * x.shape[1]
        self.size = x.numel() // self.rows
        self.columns = min(_TILE, 1 << (self.size - 1).bit_length())
        self.at_once = _TILE // self.columns
        self.silu = settings.activation == "silu"

    def run(self, name: str, *tensors: torch.Tensor) -> None:
        grid = ((self.rows + self.at_once - 1) // self.at_once,)
        constants = {"ROWS": self.at_once, "COLUMNS": self.columns}
        if name != "moments":
            constants["SILU"] = self.silu
        _triton_kernels()[name][grid](*(t.contiguous() for t in tensors), self.rows, self.size, **constants)


@functools.lru_cache(maxsize=None)
def _triton_kernels() -> Dict[str, Any]:
    from ipu_train.kernels import triton_kernels

    return triton_kernels.KERNELS

"""Group norm, affine, activation and Proxy Norm as one operation on the CPU.

The kernel is C++ called through ctypes, so that it depends on no version of PyTorch. It reads the input once
(twice in the backward pass, the second time from the cache) and saves nothing of its size but the input.
"""

import ctypes
import functools
import math
import warnings
from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch.overrides import handle_torch_function, has_torch_function

from ipu_train.kernels import build, composed
from ipu_train.kernels.once import once
from ipu_train.kernels.parallel import parallel_region
from ipu_train.kernels.settings import ACTIVATIONS, Settings
from ipu_train.kernels.tables import proxy_table

_DTYPES = {torch.float32: 0, torch.float16: 1, torch.float64: 2}
_NO_GRADIENTS = (None,) * 4
_USUAL = Settings()
_GROUP_STATISTICS = 3  # mean, inverse deviation, and what rounding took from the mean
_PROXY_ROWS = 6  # m, s, and the derivatives of m and of the variance by the proxy's mean and deviation


def norm_proxy_norm_act(
    x: torch.Tensor,
    beta: torch.Tensor,
    gamma: torch.Tensor,
    proxy_beta: torch.Tensor,
    proxy_gamma: torch.Tensor,
    settings: Settings = _USUAL,
) -> torch.Tensor:
    """``(phi(gamma * norm(x) + beta) - m) * s`` with the proxy's mean m and inverse deviation s (Labatie et
    al. 2021); differentiable once, with respect to the five tensors.

    Statistics and sums are float32 (float64 for float64). Where the kernel does not serve (another device,
    another dtype, no C++ compiler) the same is composed from PyTorch's operations. A torch function mode
    sees one call of this function.

    Args:
        x: ``[N, C, *]``.
        beta, gamma: ``[C]``, shift and scale of both the activation and the proxy.
        proxy_beta, proxy_gamma: ``[C]``; the proxy is ``N(proxy_beta, (1 + proxy_gamma)^2)``.
        settings: Groups, activation and the rest.

    Returns:
        A tensor of the shape, dtype and memory format of ``x``.

    Raises:
        ValueError: A shape or a setting that does not fit; the message says which.
        RuntimeError: When gradients are differentiated again.
    """
    tensors = (x, beta, gamma, proxy_beta, proxy_gamma)
    if has_torch_function(tensors):
        return handle_torch_function(norm_proxy_norm_act, tensors, *tensors, settings)
    plan = None
    if _is_compiling() or _is_tracing() or _is_functorch_active():  # torch.compile cannot trace the second
        Settings(*settings).check(
            "norm_proxy_norm_act", x.shape
        )  # a plan's tensors would be of the transform
    else:
        plan = _plan(x.shape, x.dtype, settings)
    shape = x.shape[1:2]
    if not (beta.shape == gamma.shape == proxy_beta.shape == proxy_gamma.shape == shape):
        given = {"beta": beta, "gamma": gamma, "proxy_beta": proxy_beta, "proxy_gamma": proxy_gamma}
        raise ValueError(_misfit(x, shape, **given))
    if plan is None or plan.function is None:
        return composed.norm_proxy_norm_act(*tensors, Settings(*settings))
    as_they_are = True
    for tensor in tensors:  # real, dense tensors of floats in this process's memory, as the kernel needs them
        if not (type(tensor) in _PLAIN_TYPES and tensor.is_cpu and tensor.layout is _STRIDED):
            return composed.norm_proxy_norm_act(*tensors, Settings(*settings))
        if not (tensor.is_contiguous() and (tensor.dtype is plan.kind or tensor is x)):
            as_they_are = False
    if as_they_are:
        return _apply(*tensors, plan)
    if all(parameter.is_floating_point() for parameter in tensors[1:]):
        return _converted(x, [p.to(plan.kind).contiguous() for p in tensors[1:]], plan)
    return composed.norm_proxy_norm_act(*tensors, Settings(*settings))


def _converted(x: torch.Tensor, parameters: Sequence[torch.Tensor], plan: "_Plan") -> torch.Tensor:
    """The kernel knows one order of memory; the result gets back that of ``x``."""
    y = _apply(x.contiguous(), *parameters, plan)
    for dims, order in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if x.dim() == dims and not x.is_contiguous() and x.is_contiguous(memory_format=order):
            return y.contiguous(memory_format=order)
    return y


def _misfit(x: torch.Tensor, shape: Sequence[int], **parameters: torch.Tensor) -> str:
    name, found = next((name, p.shape) for name, p in parameters.items() if p.shape != shape)
    return (
        f"norm_proxy_norm_act: {name} must have shape {tuple(shape)}, one value for each channel of x "
        f"{tuple(x.shape)}, but has {tuple(found)}"
    )


def available() -> Tuple[bool, str]:
    """Whether the kernel can be used, and if not, why and what to do. Builds it if that is still to do."""
    try:
        _library()
    except build.BuildError as error:
        return False, str(error)
    return True, ""


class _Problem(ctypes.Structure):
    """The same layout as ``Problem`` in channel_proxies.hpp."""

    _fields_ = [
        ("instances", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("spatial", ctypes.c_int64),
        ("groups", ctypes.c_int64),
        ("eps", ctypes.c_double),
        ("norm_eps", ctypes.c_double),
        ("dtype", ctypes.c_int32),
        ("activation", ctypes.c_int32),
        ("points", ctypes.c_int32 * 3),
        ("table", ctypes.c_void_p),
        ("region", ctypes.c_void_p),
    ]


class _Plan:
    """What a call needs beside its tensors, made once for each kind of call: small tensors are dominated by
    the work in Python."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, settings: Settings) -> None:
        library = _library_or_none() if dtype in _DTYPES and 0 not in shape else None
        self.function: Any = library and library.proxy_norm_run  # the kernel, where it serves
        if library is None:
            return
        self.kind = torch.float64 if dtype == torch.float64 else torch.float32
        self.table, points = proxy_table(
            settings.activation, settings.expectation, settings.quantiles, self.kind
        )
        groups = settings.groups
        self.like_workspace = torch.empty(
            _GROUP_STATISTICS * shape[0] * (groups or 1) + _PROXY_ROWS * shape[1], dtype=self.kind
        )
        self.problem = _Problem(
            shape[0], shape[1], math.prod(shape[2:]), groups or 0, settings.eps, settings.norm_eps,
            _DTYPES[dtype], ACTIVATIONS.index(settings.activation), points,
            self.table.data_ptr(), parallel_region(),
        )  # fmt: skip
        self.address = ctypes.addressof(self.problem)

    def run(
        self,
        x: torch.Tensor,
        beta: torch.Tensor,
        gamma: torch.Tensor,
        proxy_beta: torch.Tensor,
        proxy_gamma: torch.Tensor,
        out: torch.Tensor,
        workspace: torch.Tensor,
        d: Optional[int] = None,
        gradients: Sequence[Optional[int]] = _NO_GRADIENTS,
    ) -> None:
        """Forward, or backward given the addresses of the output's gradient and of the parameters' gradients."""
        status = self.function(
            self.address, _number_of_threads(),
            beta.data_ptr(), gamma.data_ptr(), proxy_beta.data_ptr(), proxy_gamma.data_ptr(),
            x.data_ptr(), d, out.data_ptr(), workspace.data_ptr(), *gradients,
        )  # fmt: skip
        if status != 0:
            raise MemoryError(
                f"norm_proxy_norm_act: no memory for the sums of a tensor of shape {tuple(x.shape)}"
            )


@functools.lru_cache(maxsize=1024)
def _plan(shape: Sequence[int], dtype: torch.dtype, settings: Settings) -> _Plan:
    settings = Settings(*settings)  # whoever replays a recorded call may have made it a plain tuple
    settings.check("norm_proxy_norm_act", shape)
    return _Plan(shape, dtype, settings)


class _NormProxyNormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        beta: torch.Tensor,
        gamma: torch.Tensor,
        proxy_beta: torch.Tensor,
        proxy_gamma: torch.Tensor,
        plan: _Plan,
    ) -> torch.Tensor:
        y = _empty_like(x)
        workspace = _empty_like(plan.like_workspace)
        plan.run(x, beta, gamma, proxy_beta, proxy_gamma, y, workspace)
        ctx.plan = plan
        ctx.save_for_backward(x, workspace, beta, gamma, proxy_beta, proxy_gamma)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, workspace, beta, gamma, proxy_beta, proxy_gamma = ctx.saved_tensors
        dx = _empty_like(x)
        dbeta, dgamma, dproxy_beta, dproxy_gamma = [_empty_like(beta) for _ in range(4)]
        grad = grad.contiguous()
        gradients = dbeta.data_ptr(), dgamma.data_ptr(), dproxy_beta.data_ptr(), dproxy_gamma.data_ptr()
        ctx.plan.run(x, beta, gamma, proxy_beta, proxy_gamma, dx, workspace, grad.data_ptr(), gradients)
        found = dx, dbeta, dgamma, dproxy_beta, dproxy_gamma
        return (*once(found, grad, x, beta, gamma, proxy_beta, proxy_gamma), None)


# What Function.apply and its node's apply come to outside of functorch's transforms, without their ways there: of a
# small tensor's time, much goes to Python's code and data, which the tensors before have driven out of the caches.
_apply: Any = super(torch.autograd.Function, _NormProxyNormAct).apply
_NormProxyNormAct._backward_cls.apply = _NormProxyNormAct.backward  # type: ignore[attr-defined]

_empty_like, _number_of_threads = torch.empty_like, torch.get_num_threads
_PLAIN_TYPES = frozenset((torch.Tensor, torch.nn.Parameter))
_STRIDED = torch.strided
_is_tracing = getattr(torch._C, "_is_tracing", torch.jit.is_tracing)
# torch.compile can fuse the composition, but not a call into a library. (Old versions have no such question.)
_is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)
_is_functorch_active = torch._C._are_functorch_transforms_active


@functools.lru_cache(maxsize=None)
def _library() -> ctypes.CDLL:
    source = build.ROOM / "cpu_kernel" / "proxy_norm_cpu.cpp"
    includes = [build.ROOM / "proxy_norm"]
    library = build.load(build.shared_library("proxy_norm_cpu", [source], includes, build.CPU_FLAGS))
    pointers: List[Any] = [ctypes.c_void_p] * 12
    library.proxy_norm_run.argtypes = [ctypes.c_void_p, ctypes.c_int, *pointers]
    library.proxy_norm_run.restype = ctypes.c_int
    return library


@functools.lru_cache(maxsize=None)
def _library_or_none() -> Optional[ctypes.CDLL]:
    usable, reason = available()
    if not usable:
        warnings.warn(f"Proxy Norm runs without its CPU kernel, slower and with more memory: {reason}")
    return _library() if usable else None

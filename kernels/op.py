"""Proxy Norm through ``poptorch.custom_op``.

``poptorch`` is handed in: the SDK's, or an emulation that runs :func:`ipu_train.kernels.custom_ops`. With the
SDK, :func:`load_library` must have been called before a model is compiled.
"""

import ctypes
import functools
import shlex
from pathlib import Path
from typing import Any

import torch

from ipu_train.kernels.library import library_path
from ipu_train.kernels.settings import Settings

DOMAIN = "ipu_train"
VERSION = 1


def norm_proxy_norm_act(
    poptorch: Any,
    x: torch.Tensor,
    beta: torch.Tensor,
    gamma: torch.Tensor,
    proxy_beta: torch.Tensor,
    proxy_gamma: torch.Tensor,
    settings: Settings,
) -> torch.Tensor:
    """As :func:`ipu_train.kernels.cpu.norm_proxy_norm_act`, as one PopART operator (two without a norm).

    ``x`` is float16 or float32; the parameters are all of one type, that of ``x`` or float32.
    """
    parameters = [beta, gamma, proxy_beta, proxy_gamma]
    groups = settings.groups
    attributes = {
        "activation": settings.activation,
        "epsilon": float(settings.eps),
        "quantiles": 0 if settings.expectation == "exact" else int(settings.quantiles),
    }
    by_channel = torch.zeros(x.shape[1], dtype=torch.float32)

    def call(name: str, inputs: Any, examples: Any, attributes: Any) -> Any:
        return poptorch.custom_op(
            inputs, name, DOMAIN, VERSION, example_outputs=examples, attributes=attributes
        )

    if groups is None:
        statistics = call("ProxyNormStats", parameters, [by_channel, by_channel], attributes)
        inputs = [x, beta, gamma, *statistics]
        return call("ProxyNormAct", inputs, [x], {"activation": settings.activation})[0]
    by_group = torch.zeros((x.shape[0], groups), dtype=torch.float32)
    attributes.update(groups=int(groups), norm_epsilon=float(settings.norm_eps))
    examples = [x, by_group, by_group, by_channel, by_channel]
    return call("GroupNormProxyNormAct", [x, *parameters], examples, attributes)[0]


@functools.lru_cache(maxsize=None)
def load_library() -> ctypes.CDLL:
    """Loads the operators, built against the Poplar SDK, into this process, which registers them with PopART.

    Raises:
        RuntimeError: There is no such library, or it does not load; the message says how to build it.
    """
    path = library_path().absolute()  # a name without a folder would be looked for elsewhere
    make = f"make -C {shlex.quote(str(Path(__file__).resolve().parent))}"
    if not path.exists():
        raise RuntimeError(
            f"the PopART operators are not built ({path} does not exist): enable the Poplar SDK and run "
            f"`{make}`, or name their folder in IPU_TRAIN_POPART_OPS"
        )
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise RuntimeError(
            f"the PopART operators do not load ({error}), as where they are built for another SDK than the one that is "
            f"enabled: enable the Poplar SDK, then run `{make} clean` and `{make}`"
        ) from error

"""A program's function as code that ``torch.compile`` generates."""

import logging
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

import torch

from .._impl import createPoptorchError


def generated(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, compiled at its first call for the shapes of that call.

    Random numbers are those of the function itself: torch draws them, not the generated code.

    Raises:
        poptorch.Error: torch compiles nothing here, as before PyTorch 2.1 or without a C++ compiler; at the first call
            also where it has no code for this function.
    """
    if not hasattr(torch, "compiler"):  # its torch.compile fails on programs with Proxy Norm
        raise createPoptorchError(
            f"torchCompile needs PyTorch 2.1 or newer, and this is {torch.__version__}."
        )
    with _explained():  # at once, not in the middle of a training
        _compiled(_negated)(torch.ones(1))
    compiled = _compiled(function)
    called: List[bool] = []

    def run(*arguments: Any) -> Any:
        if called:
            return compiled(*arguments)
        with _explained():
            results = compiled(*arguments)
        called.append(True)
        return results

    return run


def _negated(x: torch.Tensor) -> torch.Tensor:
    return -x


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(function, dynamic=False, options={"fallback_random": True})
    return compiled


@contextmanager
def _explained() -> Iterator[None]:
    """torch's errors as ours; without its remarks on what its user can do nothing about: cached functions, no CUDA."""
    extensions = logging.getLogger("torch.utils.cpp_extension")
    before = extensions.level
    extensions.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
            yield
    except Exception as error:
        # a plain RuntimeError where this torch has none for this Python or system
        plain = type(error) is RuntimeError and "torch.compile" in str(error)
        if not plain and not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise createPoptorchError(
            f"torch.compile has no code for this program ({reason}). It needs a C++ compiler; switch torchCompile "
            "(device.torch_compile, POPTORCH_EMULATOR_TORCH_COMPILE) off to run without."
        ) from error
    finally:
        extensions.setLevel(before)

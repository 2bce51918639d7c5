"""Tensors with the shape and dtype that an IPU tensor would have, and nothing else.

PopTorch sees a forward through torch's dispatcher, at the key of torch's device type "ipu": a composite function
arrives as its parts, unless PopTorch has asked for the whole. Shadows have that device type, so that torch takes calls
on them apart in the same way; what arrives is handed to the
:class:`~ipu_train.emulator.lowering.dispatcher.Dispatcher` in charge.
"""

from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .handlers import CAUGHT

IPU = torch.device("ipu", 0)
_SUPPORTED = {torch.float64: torch.float32, torch.int64: torch.int32}

_in_charge: List[Any] = []  # dispatchers, innermost last
_registrations: List[Any] = []
# Every shadow made while a dispatcher is in charge: torch 2.0.1 crashes when Python drops one that C++ still holds.
_made: List[torch.Tensor] = []


def on_device(dtype: torch.dtype) -> torch.dtype:
    """The dtype that PopTorch gives an IPU tensor that torch would make a ``dtype`` (``coerceToSupportedType``)."""
    return _SUPPORTED.get(dtype, dtype)


class Unsupported(Exception):
    """A call that ends tracing; the message says why, to follow its name in a sentence."""


class Shadow(torch.Tensor):
    """An IPU tensor without values.

    Attributes:
        constant: its value is known when the model is compiled.
        absent: why the device does not have it, where a lowering leaves a result out; empty otherwise.
        subsampled: it is a slice with a step.
        origin: of a view, what kind of view it is (see :mod:`.views`) and of which tensor.
        is_state: it is a parameter or a buffer.
        stale: why it has an old value on the device; empty otherwise.
        written: it has been written to itself, so that PopTorch knows it by a new value, which is no view.
    """

    origin: Optional[Tuple[str, "Shadow"]]

    @staticmethod
    def __new__(cls, shape: Sequence[int], dtype: torch.dtype, constant: bool = False) -> "Shadow":
        made = torch.Tensor._make_wrapper_subclass(cls, tuple(shape), dtype=on_device(dtype), device=IPU)
        made.constant = constant
        made.absent = ""
        made.subsampled = False
        made.origin = None
        made.is_state = False
        made.stale = ""
        made.written = False
        if _in_charge:
            _made.append(made)
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _in_charge[-1].handle(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Shadow({tuple(self.shape)}, {self.dtype})"


class _Creation(TorchDispatchMode):
    """Sees calls that make tensors out of none."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # newer versions of torch import their whole compiler otherwise, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _in_charge[-1].handle(func, args, kwargs or {})


class Shadows:
    """While it is on, operators on shadows, and those that make IPU tensors, go to ``dispatcher``."""

    def __init__(self, dispatcher: Any) -> None:
        _register()
        self.dispatcher = dispatcher
        self._off: List[Any] = []

    def __enter__(self) -> None:
        # the device type has no autograd of its own here, and shapes need none
        self._off = [torch.no_grad(), _Creation()]
        _in_charge.append(self.dispatcher)
        for context in self._off:
            context.__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        for context in reversed(self._off):
            context.__exit__(*exc_info)
        _in_charge.pop()
        if not _in_charge:
            _made.clear()


def _register() -> None:
    """Let torch hand over whole what PopTorch catches whole. The kernels are never run: shadows are met before them."""
    if _registrations:
        return
    fallback = torch._C._dispatch_library("IMPL", "_", "AutogradIPU", "", 0)
    fallback.fallback_fallthrough()
    library = torch.library.Library("aten", "IMPL", "IPU")
    _registrations.extend([fallback, library])

    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("operators on shadows do not reach a backend")

    for name in sorted(CAUGHT):
        try:
            library.impl(name, unreachable)
        except RuntimeError:  # this version of torch has no such operator
            continue

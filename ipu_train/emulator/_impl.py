"""Small internals that other programs reach for."""

import functools
import weakref
from typing import Any, Callable, Dict, Optional, Tuple

import torch

from . import _state
from .poptorch_core import FRONT_END_ERROR, Error, createError

# id of a wrapped module, parameter or buffer -> the training executor that owns it. Kept outside the objects, so
# that pickles and copies of them know nothing of the executor, and weakly, so that dropping the executor ends it.
owners: Dict[int, Optional["weakref.ref[Any]"]] = {}


def createPoptorchError(msg: str) -> Error:
    """Build, but do not raise, an :class:`Error` of type ``poptorch_py_error``."""
    return createError(msg, FRONT_END_ERROR)


def isRunningOnIpu() -> bool:
    """True only while an executor captures a model's forward; False when a model is built or called on the CPU."""
    return _state.annotations is not None


def isDispatchTracing() -> bool:
    """The same question under the name that PopTorch's own tests use."""
    return isRunningOnIpu()


def owner_of(obj: Any) -> Optional[Any]:
    """The training executor that owns a module, parameter or buffer; None without one, or when it was dropped."""
    owner = owners.get(id(obj)) if isWrapped(obj) else None
    return owner() if owner is not None else None


def isWrapped(obj: Any) -> bool:
    """Whether a module, parameter or buffer has a wrapper class: also when its executor was dropped (PopTorch 3.4)."""
    return hasattr(type(obj), "_poptorch_base")


def _restoreWrapperIfNecessary(obj: Any) -> Any:
    """What was pickled comes back unwrapped and stays so; the object itself is returned."""
    return obj


# id of an object that was wrapped -> the object itself (weakly), its last wrapper class and owner
_once_wrapped: Dict[int, Tuple[Any, type, Optional["weakref.ref[Any]"]]] = {}


def _forget(table: Dict[int, Any], key: int, _gone: Any) -> None:
    table.pop(key, None)


def unwrapModelIfNecessary(model: torch.nn.Module) -> None:
    """Take a model, its parameters and its buffers out of their wrapper classes, whoever owns them."""
    for obj in [*model.parameters(), *model.buffers(), model]:
        if isWrapped(obj):
            wrapper: Any = type(obj)
            forget = functools.partial(_forget, _once_wrapped, id(obj))
            _once_wrapped[id(obj)] = weakref.ref(obj, forget), wrapper, owners.pop(id(obj), None)
            obj.__class__ = wrapper._poptorch_base


def rewrapModelIfNecessary(model: torch.nn.Module) -> None:
    """Give everything that was ever unwrapped its wrapper class back, as PopTorch does whenever it has compiled."""
    for obj in [*model.parameters(), *model.buffers(), model]:
        known, wrapper, owner = _once_wrapped.get(id(obj), (lambda: None, type(None), None))
        if known() is obj and not isWrapped(obj):
            obj.__class__ = wrapper
            owners[id(obj)] = owner


def outside_inference_mode(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, which a caller's ``torch.inference_mode()`` does not reach: an IPU's tensors know no such mode."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False):
            return function(*args, **kwargs)

    return wrapped


def answered_by(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that one part of an object answers; ``part`` is the attribute that holds it."""

    @functools.wraps(method)
    def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(getattr(self, part), *args, **kwargs)

    return ask

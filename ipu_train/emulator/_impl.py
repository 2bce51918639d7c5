"""Small internals that other programs reach for."""

from typing import Any

from . import _state
from .poptorch_core import FRONT_END_ERROR, Error, createError


def createPoptorchError(msg: str) -> Error:
    """Build, but do not raise, an :class:`Error` of type ``poptorch_py_error``."""
    return createError(msg, FRONT_END_ERROR)


def isRunningOnIpu() -> bool:
    """True only while an executor captures a model's forward; False when a model is built or called on the CPU."""
    return _state.capture is not None


def isDispatchTracing() -> bool:
    """The same question under the name that PopTorch's own tests use."""
    return isRunningOnIpu()


def isWrapped(obj: Any) -> bool:
    """Whether a module, parameter or buffer belongs to a model that is wrapped for training."""
    from ._wrapping import owner_of

    return owner_of(obj) is not None


def _restoreWrapperIfNecessary(obj: Any) -> Any:
    """What was pickled comes back unwrapped and stays so; the object itself is returned."""
    return obj

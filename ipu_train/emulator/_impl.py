"""Small internals that other programs reach for."""

from .poptorch_core import FRONT_END_ERROR, Error, createError


def createPoptorchError(msg: str) -> Error:
    """Build, but do not raise, an :class:`Error` of type ``poptorch_py_error``."""
    return createError(msg, FRONT_END_ERROR)

"""Exceptions of PopTorch and the few functions its compiled core exposes."""

import enum
import os
from typing import Any, Dict, Optional

from . import _state

__all__ = [
    "Error",
    "RecoverableError",
    "TestErrorType",
    "UnrecoverableError",
    "getIpuTensorId",
    "hasMLIRSupportOnPlatform",
    "ipuHardwareIsAvailable",
    "ipuHardwareVersion",
    "isCompilingWithDispatcher",
]

FRONT_END_ERROR = "poptorch_py_error"
COMPILER_ERROR = "poptorch_cpp_error"

# IPUs one process may use at most (PopTorch 3.4 refuses more)
MAX_IPUS_PER_PROCESS = 64


class Error(Exception):
    """Anything that goes wrong with graphs, devices or inputs.

    Attributes:
        message: what went wrong, plain text without any back-trace.
        type: the component that raised, e.g. ``poptorch_py_error`` for checks in Python,
            ``poptorch_cpp_error`` for checks of the compiler, ``poplar_link_error``.
        location: where inside that component, innermost first; empty for front-end errors.
    """

    message: str = ""
    type: str = FRONT_END_ERROR
    location: str = ""


class RecoverableError(Error):
    """A run-time failure that a reset cures.

    Attributes:
        recovery_action: ``IPU_RESET``, ``LINK_RESET``, ``PARTITION_RESET`` or ``FULL_RESET``.
    """

    recovery_action: str = ""


class UnrecoverableError(Error):
    """A run-time failure after which the machine should be taken offline."""


def createError(
    message: str,
    type: str = COMPILER_ERROR,
    location: str = "",
    cls: type = Error,
    recovery_action: Optional[str] = None,
) -> Error:
    """Build, but do not raise, an :class:`Error` whose text names its type, place and recovery action."""
    text = f"'{type}': {message}"
    if location:
        text += f"\nError raised in:\n{location}"
    if recovery_action is not None:
        text += f"\nRecovery action required: {recovery_action}"
    error = cls(text)
    error.message, error.type, error.location = message, type, location
    if recovery_action is not None:
        error.recovery_action = recovery_action
    return error


class TestErrorType(enum.IntEnum):
    """The failures :func:`_throwTestError` can produce, for programs that want to test their handling."""

    __test__ = False  # pytest must not take it for a test class

    Poptorch = 0
    Popart = 1
    PopartInternal = 2
    Poplibs = 3
    PoplarUnrecoverable = 4
    PoplarUnknown = 5
    PoplarRecoverableFullReset = 6
    PoplarLinkError = 7


_TEST_ERRORS: Dict[TestErrorType, Dict[str, Any]] = {
    TestErrorType.Poptorch: {"type": COMPILER_ERROR, "message": "This is a PopTorch error"},
    TestErrorType.Popart: {"type": "popart_exception", "message": "This is a PopART error"},
    TestErrorType.PopartInternal: {
        "type": "popart_internal_exception",
        "message": "This is an internal PopART error",
    },
    TestErrorType.Poplibs: {"type": "poplibs_exception", "message": "This is a PopLibs error"},
    TestErrorType.PoplarUnrecoverable: {
        "type": "poplar_unrecoverable_runtime_error",
        "message": "The device cannot be recovered",
        "cls": UnrecoverableError,
    },
    TestErrorType.PoplarUnknown: {
        "type": "poplar_unknown_runtime_error",
        "message": "The device stopped for an unknown reason",
    },
    TestErrorType.PoplarRecoverableFullReset: {
        "type": "poplar_recoverable_runtime_error",
        "message": "The device needs a full reset",
        "cls": RecoverableError,
        "recovery_action": "FULL_RESET",
    },
    TestErrorType.PoplarLinkError: {
        "type": "poplar_link_error",
        "message": "Linking the executable failed. Output of the linker: -lfoo not found",
    },
}


def _throwTestError(error_type: TestErrorType) -> None:
    """Raise the exception a failure of this kind would give."""
    location = "  [0] throwTestError::bottomLevel\n  [1] throwTestError::topLevel"
    raise createError(location=location, **_TEST_ERRORS[TestErrorType(error_type)])


def _availableIpus() -> int:
    """IPUs the emulated machine has: ``POPTORCH_EMULATOR_IPUS``, by default 64 (0 means no hardware)."""
    text = os.environ.get("POPTORCH_EMULATOR_IPUS", str(MAX_IPUS_PER_PROCESS))
    try:
        return max(0, int(text))
    except ValueError:
        raise ValueError(
            f"POPTORCH_EMULATOR_IPUS={text!r} is not a number of IPUs: set it to an integer, 0 for none"
        ) from None


def hasMLIRSupportOnPlatform() -> bool:
    """Whether models can be compiled without tracing, which programs for PopTorch 3.0 to 3.2 ask: always."""
    return True


def ipuHardwareIsAvailable(num_ipus: int = 1) -> bool:
    """Whether a device of exactly ``num_ipus`` IPUs is present, busy or not. The emulator counts as one.

    Devices have powers of two of IPUs, so that 3 is never available: round up before asking.
    """
    return 0 < num_ipus <= _availableIpus() and bin(num_ipus).count("1") == 1


def ipuHardwareVersion() -> int:
    """2 for Mk2, 21 for Mk2 with FP8 support (``POPTORCH_IPU_MODEL_VERSION=ipu21``), 1 for Mk1."""
    assert ipuHardwareIsAvailable(), "No IPU hardware is available, so there is no version to report"
    return modelVersion()


def modelVersion() -> int:
    """The IPU that ``POPTORCH_IPU_MODEL_VERSION`` names (``ipu1``, ``ipu2``, ``ipu21``), -1 when unknown."""
    name = os.environ.get("POPTORCH_IPU_MODEL_VERSION", "ipu2")
    return {"ipu1": 1, "ipu2": 2, "ipu21": 21}.get(name, -1)


def isCompilingWithDispatcher() -> bool:
    """Whether a model's forward is being captured right now."""
    return _state.annotations is not None


def getIpuTensorId(tensor: Any) -> int:
    """The number of a tensor in the graph that is being captured.

    Raises:
        Error: no model is being captured.
    """
    if _state.recorder is None:
        raise createError(
            "getIpuTensorId() takes tensors of the IPU, which exist only inside a model's forward"
        )
    return _state.recorder.slots.of(tensor)

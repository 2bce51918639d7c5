"""Who holds which device. Devices are plentiful unless ``Options.useIpuId`` asks for a certain one."""

import os
import time
import weakref
from typing import Any, Dict

from .poptorch_core import createError

_holders: Dict[int, Any] = {}


def uses_ipu_model(options: Any) -> bool:
    """Whether the target is Graphcore's IPU Model rather than hardware, which makes fewer demands on a model."""
    if options.exists("use_model"):
        return bool(options.use_model)
    return any(
        os.environ.get(name, "0") not in ("", "0")
        for name in ("POPTORCH_IPU_MODEL", "POPTORCH_SMALL_IPU_MODEL")
    )


def acquire(executor: Any, options: Any) -> None:
    """Take the device with the id that the options name.

    Raises:
        poptorch.Error: another executor holds it. With ``POPTORCH_WAIT_FOR_IPU`` set, this waits instead.
    """
    if not options.exists("ipu_id") or uses_ipu_model(options):
        return
    ipu_id = options.ipu_id
    while _holder(ipu_id) not in (None, executor):
        if os.environ.get("POPTORCH_WAIT_FOR_IPU", "0") in ("", "0"):
            raise createError(
                f"Failed to acquire device with ID {ipu_id}: another model is attached to it. Call "
                "detachFromDevice() on that one, or set POPTORCH_WAIT_FOR_IPU=1 to wait."
            )
        time.sleep(0.05)
    _holders[ipu_id] = weakref.ref(executor)


def release(executor: Any) -> None:
    """Give back whatever the executor holds."""
    for ipu_id in [key for key in _holders if _holder(key) in (None, executor)]:
        del _holders[ipu_id]


def _holder(ipu_id: int) -> Any:
    reference = _holders.get(ipu_id)
    return reference() if reference is not None else None

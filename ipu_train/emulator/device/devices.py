"""Who holds which device. Devices are plentiful unless ``Options.useIpuId`` asks for a certain one."""

import itertools
import os
import time
import weakref
from typing import Any, Dict

from .._logging import logger, trace
from ..poptorch_core import createError
from . import locks

_holders: Dict[int, Any] = {}  # of devices asked for by id
_others: Dict[int, Any] = {}  # of devices that nobody asked for in particular: never in anyone's way


def uses_ipu_model(options: Any) -> bool:
    """Whether the target is Graphcore's IPU Model rather than hardware, which makes fewer demands on a model."""
    if options.exists("use_model"):
        return bool(options.use_model)
    return any(
        os.environ.get(name, "0") not in ("", "0")
        for name in ("POPTORCH_IPU_MODEL", "POPTORCH_SMALL_IPU_MODEL")
    )


def target_of(options: Any) -> int:
    """Id of the device to compile for: the one that the options name, else the first; it may be busy."""
    return options.ipu_id if options.exists("ipu_id") else 0


def acquire(executor: Any, options: Any) -> int:
    """Take the device with the id that the options name, else the free one with the lowest id.

    Returns:
        The device's id.

    Raises:
        poptorch.Error: another executor holds it, in this process or in one that shares the machine. With
            ``POPTORCH_WAIT_FOR_IPU`` set, this waits instead.
    """
    if uses_ipu_model(options):
        return 0
    if not options.exists("ipu_id"):
        return _take_any(executor)
    ipu_id = options.ipu_id
    waiting = False
    while _holder(_holders, ipu_id) not in (None, executor) or not locks.lock(ipu_id):
        if os.environ.get("POPTORCH_WAIT_FOR_IPU", "0") in ("", "0"):
            raise createError(
                f"Failed to acquire device with ID {ipu_id}: another model is attached to it. Call "
                "detachFromDevice() on that one, or set POPTORCH_WAIT_FOR_IPU=1 to wait."
            )
        if not waiting:
            logger.debug("No IPU available, sleeping until device %d is free", ipu_id)
            waiting = True
        time.sleep(0.05)
    _holders[ipu_id] = weakref.ref(executor, lambda gone: _forget(ipu_id, gone))
    return ipu_id


def attach(executor: Any, options: Any) -> None:
    """:func:`acquire`, and say so."""
    trace("Attached to device %d", acquire(executor, options))


def release(executor: Any) -> None:
    """Give back whatever the executor holds."""
    for table in (_holders, _others):
        for ipu_id in [key for key in table if _holder(table, key) in (None, executor)]:
            del table[ipu_id]
            if table is _holders:
                locks.unlock(ipu_id)


def _forget(ipu_id: int, gone: Any) -> None:
    """An executor that was dropped without giving its device back holds it no longer."""
    if _holders.get(ipu_id) is gone:
        del _holders[ipu_id]
        locks.unlock(ipu_id)


def _take_any(executor: Any) -> int:
    held = [ipu_id for ipu_id in _others if _holder(_others, ipu_id) is executor]
    if held:
        return held[0]
    free = (i for i in itertools.count() if _holder(_others, i) is None and _holder(_holders, i) is None)
    ipu_id = next(free)
    _others[ipu_id] = weakref.ref(executor)
    return ipu_id


def _holder(table: Dict[int, Any], ipu_id: int) -> Any:
    reference = table.get(ipu_id)
    return reference() if reference is not None else None

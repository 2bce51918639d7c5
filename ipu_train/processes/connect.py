"""From what a launcher says to processes that are connected, and what they cannot do together.

What is imported here at once imports no torch: a process that is alone must answer mistakes at once.
"""

import importlib
import os
import warnings
from typing import Any, Callable, Optional, Tuple

from ..config import Resolved
from ..config.device import AUTO_SPLITS
from .alone import ALONE, Processes
from .launched import OURS, Launched, LaunchError, launched

_TOTAL, _LOCAL, _IPUS = (
    "POPDIST_NUM_TOTAL_REPLICAS",
    "POPDIST_NUM_LOCAL_REPLICAS",
    "POPDIST_NUM_IPUS_PER_REPLICA",
)


def connect(found: Optional[Launched], emulated: bool, replicas: Optional[int] = None) -> Processes:
    """Connect this process with the others that its launcher started.

    Args:
        found: what the launcher says; None: this process is alone.
        emulated: whether the emulator's stand-ins for popdist and Horovod are to be used.
        replicas: of the training; what a launcher that knows of no replicas (torchrun) shares out evenly.

    Raises:
        LaunchError: a launcher that cannot start processes for IPUs, or no popdist.
    """
    if found is None or (emulated and found.count == 1):
        return ALONE
    from ..tracking import progress
    from .notice import Notice
    from .several import Several

    if found.index:  # process 0 speaks
        progress.silence()
        warnings.simplefilter("ignore")
    if emulated:
        stand_ins = "ipu_train.emulator.stand_ins."
        popdist = importlib.import_module(stand_ins + "popdist")
        options = importlib.import_module(stand_ins + "popdist_poptorch").Options
        hvd = importlib.import_module(stand_ins + "horovod")
        if replicas is not None and found.launcher != "poprun":
            OURS.update((_LOCAL, _TOTAL))
            os.environ[_LOCAL] = str(max(1, replicas // found.count))
            os.environ[_TOTAL] = str(replicas)
    else:
        popdist, options, hvd = _of_the_sdk(found)
    popdist.init()
    hvd.init()
    notice = Notice() if emulated else None
    return Several(found.index, found.count, found.local_index, options, hvd, notice)


def _of_the_sdk(found: Launched) -> Any:
    try:
        popdist = importlib.import_module("popdist")
        options = importlib.import_module("popdist.poptorch").Options
        hvd = importlib.import_module("horovod.torch")
    except ImportError as error:
        raise LaunchError(
            f"{found.count} processes on IPUs need popdist and horovod of the Poplar SDK: {error}. Install their "
            "wheels, or use device.target=emulator."
        ) from error
    if not popdist.isPopdistEnvSet():
        raise LaunchError(
            f"{found.launcher} has started {found.count} processes, but only poprun can start several that share IPUs: "
            "use poprun, or device.target=emulator."
        )
    return popdist, options, hvd


def check(resolved: Resolved, found: Optional[Launched], emulated: bool) -> None:
    """Refuse what does not fit what the launcher has started, or what several processes cannot do.

    Raises:
        ConfigError: with the place where the value is written.
    """
    if found is None:
        return
    config = resolved.config
    replicas, count = config.training.replicas, found.count
    total = _number(_TOTAL)
    if found.launcher == "poprun" and total not in (None, replicas):
        raise resolved.error(
            "training.replicas",
            f"is {replicas}, and poprun has started {count} instances with {total} replicas in all. Set "
            f"training.replicas={total}, or use poprun --num-replicas {replicas}",
        )
    check_ipus(resolved)
    if count == 1:
        return
    if replicas % count:
        raise resolved.error(
            "training.replicas",
            f"is {replicas} over all processes, and {found.launcher} has started {count}: each process needs as many "
            f"replicas as the others. Use a multiple of {count}, or as many processes as divide {replicas}",
        )
    check_together(resolved, count, emulated)


def check_together(resolved: Resolved, count: int, emulated: bool) -> None:
    """Refuse what ``count`` processes, which share out the replicas evenly, cannot do together.

    Raises:
        ConfigError: with the place where the value is written.
    """
    if count == 1:
        return
    config = resolved.config
    replicas = config.training.replicas
    local = replicas // count
    together = config.model.norm_replicas or replicas
    if config.model.norm == "sync_batch" and local % together:
        raise resolved.error(
            "model.norm" if config.model.norm_replicas is None else "model.norm_replicas",
            f"makes {together} replicas share their statistics, and a process has {local} of the {replicas}: replicas "
            "of several processes cannot. Use one process, or norm_replicas that divide a process's replicas",
        )
    if config.device.replicated_tensor_sharding and local == 1:
        raise resolved.error(
            "device.replicated_tensor_sharding",
            "has no effect: PopTorch spreads the optimizer state over the replicas of one process, and each process "
            "has one. Use fewer processes with more replicas each, or remove it",
        )
    if emulated and config.device.compute == "cuda":
        raise resolved.error(
            "device.compute",
            f"is cuda, and {count} processes would share the GPU: one process runs all replicas there. Use one "
            "process, or cpu",
        )
    if not emulated and config.device.target == "ipu_model":
        raise resolved.error("device.target", "is ipu_model, which simulates the IPUs of one process only")


def check_ipus(resolved: Resolved) -> None:
    """poprun has reserved so many IPUs for each replica.

    Raises:
        ConfigError: the configuration takes others.
    """
    config, reserved = resolved.config, _number(_IPUS)
    if config.device.pipeline_splits == AUTO_SPLITS and config.device.ipus_per_replica is None:
        return  # not known yet
    if reserved not in (None, config.ipus_per_replica):
        raise resolved.error(
            "device.pipeline_splits",
            f"take {config.ipus_per_replica} IPUs for a replica, and poprun has reserved {reserved}: use poprun "
            f"--ipus-per-replica {config.ipus_per_replica}",
        )


def _number(name: str) -> Optional[int]:
    text = os.environ.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise LaunchError(f"the variable {name} is {text!r}, and must be a number") from None


def join(
    read: Callable[[], Resolved], is_emulated: Callable[[Optional[Resolved]], bool]
) -> Tuple[Processes, Resolved]:
    """The processes that train a configuration together, as the launcher of this one says, and the configuration.

    Args:
        read: gives the configuration; its errors are told once.
        is_emulated: whether the emulator runs it; asked about None where it cannot be read.

    Raises:
        LaunchError, ConfigError: they cannot train it.
    """
    found = launched()
    if found is None:
        return ALONE, read()
    failure: Optional[Exception] = None
    resolved: Optional[Resolved] = None
    try:
        resolved = read()
    except Exception as error:  # raised below, when the others can hear of it
        failure = error
    emulated = is_emulated(resolved)
    processes = connect(found, emulated, resolved.config.training.replicas if resolved is not None else None)
    with processes.together():
        if failure is not None:
            raise failure
        assert resolved is not None
        check(resolved, found, emulated)
    return processes, resolved

"""Stand-in for ``popdist``: several processes that train one model, with ``torchrun`` or ``mpirun`` for ``poprun``.

Processes find each other through ``torch.distributed`` (gloo). How many replicas each of them has is ``poprun``'s
to say; here it is read from the variables that ``poprun`` sets (``POPDIST_NUM_LOCAL_REPLICAS``, ...) and is 1 without.
"""

import os
import zlib
from typing import Any, Callable, Dict, Iterable, Optional, Tuple

import torch

# rank, world size, local rank: of torchrun, then of mpirun
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
)

# collectives inside execute_on_instances are limited to this group
_group: Optional[Any] = None
_groups: Dict[Tuple[int, ...], Any] = {}


def _environment() -> Optional[Tuple[int, int, int]]:
    """Rank, world size and local rank that the launcher set, None without a launcher."""
    for rank, size, local_rank in _LAUNCHERS:
        if rank in os.environ and size in os.environ:
            number = int(os.environ[rank])
            return number, int(os.environ[size]), int(os.environ.get(local_rank, number))
    return None


def _integer(name: str, otherwise: int) -> int:
    return int(os.environ.get(name, otherwise))


def isPopdistEnvSet() -> bool:
    """Whether a launcher started this process as one of several."""
    return _environment() is not None


def init() -> None:
    """Connect the processes. Once is enough; more does no harm.

    Raises:
        RuntimeError: no launcher started this process.
    """
    environment = _environment()
    if environment is None:
        raise RuntimeError(
            "popdist.init() needs several processes: start the program with torchrun or mpirun, or ask "
            "popdist.isPopdistEnvSet() first"
        )
    if torch.distributed.is_initialized():
        return
    rank, size, _ = environment
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    if "MASTER_PORT" not in os.environ:
        # mpirun does not agree on a port for us: derive one from its job, the same in all its processes
        job = os.environ.get("PMIX_NAMESPACE", os.environ.get("OMPI_MCA_ess_base_jobid", ""))  # noqa: SIM112
        os.environ["MASTER_PORT"] = str(20000 + zlib.crc32(job.encode()) % 10000)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=size)


def getNumInstances() -> int:
    """Number of processes."""
    environment = _environment()
    return 1 if environment is None else environment[1]


def getInstanceIndex() -> int:
    """Index of this process."""
    environment = _environment()
    return 0 if environment is None else environment[0]


def getLocalInstanceIndex() -> int:
    """Index of this process among those on this machine."""
    environment = _environment()
    return 0 if environment is None else environment[2]


def getNumLocalReplicas() -> int:
    """Replicas of this process."""
    return _integer("POPDIST_NUM_LOCAL_REPLICAS", 1)


def getNumTotalReplicas() -> int:
    """Replicas of all processes."""
    return _integer("POPDIST_NUM_TOTAL_REPLICAS", getNumLocalReplicas() * getNumInstances())


def getReplicaIndexOffset() -> int:
    """Index of this process's first replica among those of all processes."""
    return _integer("POPDIST_REPLICA_INDEX_OFFSET", getNumLocalReplicas() * getInstanceIndex())


def getNumIpusPerReplica() -> int:
    """IPUs of one replica."""
    return _integer("POPDIST_NUM_IPUS_PER_REPLICA", 1)


def checkNumIpusPerReplica(ipusPerReplica: int) -> bool:
    """Whether the launcher reserved that many IPUs for a replica."""
    return ipusPerReplica == getNumIpusPerReplica()


def getDeviceId(ipusPerReplica: int = 0) -> int:
    """Id of the device for this process."""
    return getLocalInstanceIndex()


def execute_on_instances(
    instances: Iterable[int], func: Callable[..., Any], *args: Any, **kwargs: Any
) -> Optional[Any]:
    """Call a function on some of the processes; every process must come here.

    Args:
        instances: indices of the processes that call it. Collectives inside are among them.
        func: what to call.

    Returns:
        What it returned, None on the other processes.

    Raises:
        ValueError: there is no such process.
    """
    chosen = tuple(sorted(set(instances)))
    if not chosen or chosen[0] < 0 or chosen[-1] >= getNumInstances():
        raise ValueError(f"Instances are 0 to {getNumInstances() - 1}, not {sorted(set(instances))}")
    global _group
    group = None
    if torch.distributed.is_initialized():
        if chosen not in _groups:
            _groups[chosen] = torch.distributed.new_group(list(chosen), backend="gloo")
        group = _groups[chosen]
    if getInstanceIndex() not in chosen:
        return None
    before, _group = _group, group
    try:
        return func(*args, **kwargs)
    finally:
        _group = before

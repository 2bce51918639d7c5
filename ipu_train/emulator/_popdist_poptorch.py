"""Stand-in for ``popdist.poptorch``: options that follow the launcher of several processes."""

import os
from typing import Any, Callable

from . import _popdist, options
from ._sub_options import _DistributedOptions

__all__ = ["Options"]


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"Cannot call `{name}` with popdist.poptorch.Options: the launcher of the processes decides that"
        )

    return refuse


class _LauncherOptions(_DistributedOptions):
    """``opts.Distributed``, fixed to what the launcher says."""

    def __init__(self) -> None:
        super().__init__()
        self.set(
            num_distributed_processes=_popdist.getNumInstances(),
            distributed_process_id=_popdist.getInstanceIndex(),
        )

    setEnvVarNames = _refused("Distributed.setEnvVarNames")
    disable = _refused("Distributed.disable")
    configureProcessId = _refused("Distributed.configureProcessId")


class Options(options.Options):
    """``poptorch.Options`` with replicas, process and device as the launcher says.

    Connects the processes when ``popdist.init()`` or ``horovod.torch.init()`` did not.

    Args:
        ipus_per_replica: IPUs of one replica of the model.

    Raises:
        RuntimeError: the launcher reserved another number of IPUs for a replica.
    """

    def __init__(self, ipus_per_replica: int = 1) -> None:
        super().__init__()
        if "POPDIST_NUM_IPUS_PER_REPLICA" in os.environ and not _popdist.checkNumIpusPerReplica(
            ipus_per_replica
        ):
            raise RuntimeError(
                f"A replica was said to need {ipus_per_replica} IPUs, but the launcher reserved "
                f"{_popdist.getNumIpusPerReplica()} (POPDIST_NUM_IPUS_PER_REPLICA)"
            )
        if _popdist.isPopdistEnvSet():
            _popdist.init()
        self._create(_distributed=_LauncherOptions())
        self.set(replication_factor=_popdist.getNumLocalReplicas())
        self.createOrSet(ipu_id=_popdist.getDeviceId(ipus_per_replica))

    useIpuId = _refused("useIpuId")
    replicationFactor = _refused("replicationFactor")

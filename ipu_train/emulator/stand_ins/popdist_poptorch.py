"""Stand-in for ``popdist.poptorch``: options that follow the launcher of several processes."""

import os
from typing import Any, Callable

from .. import options
from ..settings.groups import _DistributedOptions
from . import popdist

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
            num_distributed_processes=popdist.getNumInstances(),
            distributed_process_id=popdist.getInstanceIndex(),
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
        if "POPDIST_NUM_IPUS_PER_REPLICA" in os.environ and not popdist.checkNumIpusPerReplica(
            ipus_per_replica
        ):
            raise RuntimeError(
                f"A replica was said to need {ipus_per_replica} IPUs, but the launcher reserved "
                f"{popdist.getNumIpusPerReplica()} (POPDIST_NUM_IPUS_PER_REPLICA)"
            )
        if popdist.isPopdistEnvSet():
            popdist.init()
        self._create(_distributed=_LauncherOptions())
        self.set(replication_factor=popdist.getNumLocalReplicas())
        self.createOrSet(ipu_id=popdist.getDeviceId(ipus_per_replica))

    useIpuId = _refused("useIpuId")
    replicationFactor = _refused("replicationFactor")

"""``poptorch.Options``: everything that can be set about how a model runs (PopTorch 3.4 API reference)."""

import copy
import os
from typing import Any, Dict, List, Optional

import torch

from . import enums
from .operators.blocks import Attribute
from .settings.base import OptionsDict
from .settings.groups import (
    _DistributedOptions,
    _EmulatorOptions,
    _JitOptions,
    _PrecisionOptions,
    _TrainingOptions,
)
from .settings.popart import _PopartOptions
from .settings.reporting import ReportingOptions
from .settings.strategies import (
    ParallelPhasedExecution,
    Phase,
    PipelinedExecution,
    SerialPhasedExecution,
    ShardedExecution,
    Stage,
    _IExecutionStrategy,
)
from .settings.tensor_locations import TensorLocationSettings, _TensorLocationOptions
from .settings.text import ConfigFileError, applyJson, loadFromFile

__all__ = [
    "Attribute",
    "ConfigFileError",
    "Options",
    "ParallelPhasedExecution",
    "Phase",
    "PipelinedExecution",
    "SerialPhasedExecution",
    "ShardedExecution",
    "Stage",
    "TensorLocationSettings",
]


class Options(ReportingOptions):
    """How a model runs. Every setter returns the options, so that calls can be chained.

    Passing options to a model or a ``DataLoader`` freezes them; :meth:`clone` gives an unfrozen copy.
    """

    def __init__(self) -> None:
        super().__init__(
            replication_factor=1,
            input_group_size=1,
            input_cgt=enums.CommGroupType.Consecutive,
            broadcast_buffers=True,
            device_iterations=1,
            log_dir=".",
            max_repeat_logs=4,
            auto_round_num_ipus=False,
            anchored_tensors={},
            output_mode=enums.OutputMode.Default.value,
            output_return_period=1,
            connection_type=enums.ConnectionType.Always.value,
            sync_pattern=enums.SyncPattern.Full.value,
            available_memory_proportion={},
        )
        popart = _PopartOptions()
        self._create(
            _popart=popart,
            _jit=_JitOptions(),
            _precision=_PrecisionOptions(popart),
            _training=_TrainingOptions(popart),
            _distributed=_DistributedOptions(),
            _tensor_locations=_TensorLocationOptions(),
            _emulator=_EmulatorOptions(),
            _execution_strategy=PipelinedExecution(),
            _module_namescope_enabled=True,
            _updatable_named_buffers=[],
            _show_compilation_progress_bar=True,
            _relax_optimizer_checks=False,
            _source_location_excludes=[],
            _profile_dir=None,
        )
        if os.environ.get("POPTORCH_CACHE_DIR"):
            self.enableExecutableCaching(os.environ["POPTORCH_CACHE_DIR"])
        if os.environ.get("POPTORCH_DEFAULT_OPTIONS"):
            self.from_json(os.environ["POPTORCH_DEFAULT_OPTIONS"])

    # -- groups of options

    @property
    def Jit(self) -> _JitOptions:
        """How models are captured."""
        return self._jit

    @property
    def Precision(self) -> _PrecisionOptions:
        """Numeric precision."""
        return self._precision

    @property
    def Training(self) -> _TrainingOptions:
        """Training only."""
        return self._training

    @property
    def Distributed(self) -> _DistributedOptions:
        """Several processes."""
        return self._distributed

    @property
    def TensorLocations(self) -> _TensorLocationOptions:
        """Where tensors live."""
        return self._tensor_locations

    @property
    def _Popart(self) -> _PopartOptions:
        """Settings handed through to PopART."""
        return self._popart

    @property
    def _Emulator(self) -> _EmulatorOptions:
        """Settings of the emulator; PopTorch on an IPU does not have them."""
        return self._emulator

    def _groups(self) -> Dict[str, OptionsDict]:
        return {
            "Jit": self._jit,
            "Precision": self._precision,
            "Training": self._training,
            "Distributed": self._distributed,
            "TensorLocations": self._tensor_locations,
            "_Popart": self._popart,
            "_Emulator": self._emulator,
        }

    def _freeze(self) -> None:
        super()._freeze()
        for group in self._groups().values():
            group._freeze()

    def _unfreeze(self) -> None:
        super()._unfreeze()
        for group in self._groups().values():
            group._unfreeze()

    def clone(self) -> "Options":
        """An unfrozen deep copy."""
        return copy.deepcopy(self)

    # -- batching and replication

    def deviceIterations(self, device_iterations: int) -> "Options":
        """Iterations of the device's loop in one call; each is one weight update when training."""
        self.set(device_iterations=device_iterations)
        return self

    def replicationFactor(self, replication_factor: int) -> "Options":
        """Copies of the model in this process, each on its own IPUs."""
        self.set(replication_factor=replication_factor)
        return self

    def inputReplicaGrouping(self, input_group_size: int, input_group_type: enums.CommGroupType) -> "Options":
        """Give the replicas of a group the same inputs. Call it after :meth:`replicationFactor`.

        Raises:
            ValueError: ``CommGroupType.All``, or a group size that does not divide the replicas.
        """
        if input_group_type == enums.CommGroupType.All:
            raise ValueError("CommGroupType.All is not supported for inputs: use Consecutive or Orthogonal")
        if input_group_type == enums.CommGroupType.NoGrouping:
            input_group_size, input_group_type = 1, enums.CommGroupType.Consecutive
        if input_group_size < 1 or self.replication_factor % input_group_size:
            raise ValueError(
                f"Input groups of {input_group_size} do not divide the replication factor "
                f"({self.replication_factor}): call replicationFactor() first"
            )
        self.set(input_group_size=input_group_size, input_cgt=input_group_type)
        return self

    def outputMode(
        self, output_mode: enums.OutputMode, output_return_period: Optional[int] = None
    ) -> "Options":
        """Which micro-batches come back; ``EveryN`` needs a period of device iterations."""
        assert isinstance(output_mode, enums.OutputMode), f"Expected an OutputMode, not {output_mode!r}"
        period = 1
        if output_mode == enums.OutputMode.EveryN:
            assert output_return_period is not None and output_return_period > 0, (
                "OutputMode.EveryN requires output_return_period, a number greater than 0"
            )
            period = output_return_period
        self.set(output_mode=output_mode.value, output_return_period=period)
        return self

    def defaultOutputMode(self) -> bool:
        """Whether the output mode was left to the kind of model."""
        return self.output_mode == enums.OutputMode.Default

    def broadcastBuffers(self, broadcast_buffers: bool = True) -> "Options":
        """Whether all replicas share buffers, which then cannot be updated by the model."""
        self.set(broadcast_buffers=broadcast_buffers)
        return self

    def anchorTensor(
        self,
        short_name: str,
        long_name: str,
        output_mode: Optional[enums.OutputMode] = None,
        output_return_period: int = 1,
    ) -> None:
        """Keep a tensor of the graph so that ``executor.getAnchoredTensor(short_name)`` can read it.

        Frozen options take anchors too, as PopTorch's do: a ``DataLoader`` may have frozen them.
        """
        mode_is_none = output_mode is None
        mode = self.output_mode if output_mode is None else output_mode
        if mode_is_none:
            period = self.output_return_period
        else:
            period = output_return_period if mode == enums.OutputMode.EveryN else 1
        self.anchored_tensors[short_name] = [long_name, mode_is_none, mode, period]

    # -- random numbers and data

    def randomSeed(self, random_seed: int) -> "Options":
        """Seed the device's random streams, and at once ``torch``'s generator on the host."""
        self.checkIsFrozen("randomSeed")
        assert isinstance(random_seed, int), f"A seed is an integer, not {random_seed!r}"
        torch.manual_seed(random_seed)
        self.createOrSet(random_seed=random_seed)
        return self

    def enableSyntheticData(self, enabled: Any) -> "Options":
        """Replace host I/O by data generated on the device: shapes stay, values mean nothing."""
        self._popart.set("syntheticDataMode", 2 if enabled else 0)
        return self

    def updatableNamedBuffers(self, buffers: List[str]) -> "Options":
        """Buffers that ``executor.copyNamedBuffersToDevice()`` uploads."""
        self._updatable_named_buffers = list(buffers)
        return self

    # -- device and execution

    def setExecutionStrategy(self, strategy: _IExecutionStrategy) -> "Options":
        """How a model is split over IPUs."""
        assert isinstance(strategy, _IExecutionStrategy), (
            f"Expected an execution strategy such as PipelinedExecution(), not {strategy!r}"
        )
        self._execution_strategy = strategy
        return self

    def setAvailableMemoryProportion(self, available_memory_proportion: Dict[str, float]) -> "Options":
        """Hint how much of each IPU's memory matmuls and convolutions may use, e.g. ``{"IPU0": 0.5}``."""
        proportions = {}
        for name, proportion in available_memory_proportion.items():
            assert isinstance(name, str) and name.startswith("IPU") and name[3:].isdigit(), (
                f"Available memory proportions are set per IPU as 'IPU0', 'IPU1', ...; got {name!r}"
            )
            assert 0 <= proportion <= 1, (
                f"The available memory proportion of {name} must be in 0..1, not {proportion}"
            )
            proportions[int(name[3:])] = proportion
        self.set(available_memory_proportion=proportions)
        return self

    def autoRoundNumIPUs(self, auto_round_num_ipus: bool = True) -> "Options":
        """Reserve the next power of two when a model needs another number of IPUs."""
        self.set(auto_round_num_ipus=auto_round_num_ipus)
        return self

    def useIpuModel(self, use_model: bool) -> "Options":
        """Simulate the device instead of using hardware; wins over ``POPTORCH_IPU_MODEL``."""
        self.createOrSet(use_model=use_model)
        return self

    def connectionType(self, connection_type: enums.ConnectionType) -> "Options":
        """When to attach to the device."""
        assert isinstance(connection_type, enums.ConnectionType), (
            f"Expected a ConnectionType, not {connection_type!r}"
        )
        self.set(connection_type=connection_type.value)
        return self

    def syncPattern(self, sync_pattern: enums.SyncPattern) -> "Options":
        """How IPUs synchronise."""
        assert isinstance(sync_pattern, enums.SyncPattern), f"Expected a SyncPattern, not {sync_pattern!r}"
        self.set(sync_pattern=sync_pattern.value)
        return self

    def useIpuId(self, ipu_id: int) -> "Options":
        """Use the device with this id."""
        assert isinstance(ipu_id, int), f"An IPU id is an integer, not {ipu_id!r}"
        self.createOrSet(ipu_id=ipu_id)
        return self

    def useOfflineIpuTarget(self, ipu_version: int = 2) -> "Options":
        """Compile for an IPU of this version without attaching to one; the model cannot run."""
        self.connectionType(enums.ConnectionType.Never)
        self.createOrSet(ipu_version=ipu_version)
        return self

    def enableStableNorm(self, enabled: bool) -> "Options":
        """Compute norms' variances in two passes."""
        self._popart.set("enableStableNorm", enabled)
        return self

    def logCycleCount(self, log_cycle_count: bool) -> "Options":
        """Count cycles, for ``executor.cycleCount()``."""
        self._popart.set("instrumentWithHardwareCycleCounter", log_cycle_count)
        return self

    # -- as text

    def loadFromFile(self, filepath: str) -> "Options":
        """Apply a file with one setter call a line, e.g. ``deviceIterations(2)``."""
        loadFromFile(self, filepath)
        return self

    def from_json(self, string: str) -> "Options":
        """Apply ``{"Training.gradientAccumulation": 4, "connectionType": "ConnectionType.OnDemand"}``."""
        applyJson(self, string)
        return self

    def toDict(self) -> Dict[str, Any]:
        """Settings of these options and all groups, as handed to the compiler."""
        assert not self.defaultOutputMode(), "The output mode must be set before options become a dict"
        settings = self._popart.toDict()
        settings.update(super().toDict())
        for name, group in self._groups().items():
            if name not in ("_Popart", "_Emulator"):
                settings.update(group.toDict())
        settings.update(self._execution_strategy.backendOptions())
        return settings

    def _described(self) -> Dict[str, Any]:
        described = super()._described()
        described.update(self._groups())
        for name in (
            "_execution_strategy",
            "_module_namescope_enabled",
            "_updatable_named_buffers",
            "_show_compilation_progress_bar",
            "_relax_optimizer_checks",
            "_source_location_excludes",
        ):
            described[name] = self.__dict__[name]
        return described

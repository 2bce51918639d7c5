"""``opts._Popart``: settings handed through to PopART, checked when a model is compiled."""

import logging
from typing import Any, Dict, Optional

from .._logging import logger
from ..poptorch_core import createError
from .base import OptionsDict

# The settings PopTorch 3.4 passes on to PopART's SessionOptions. Nearly all tune speed or memory and
# have no effect on the emulator; they are listed so that a misspelt one is refused as on an IPU.
_NAMES = """
    accumulateOuterFragmentSettings.excludedVirtualGraphs accumulateOuterFragmentSettings.schedule
    accumulationAndReplicationReductionType accumulationFactor aliasZeroCopy autoRecomputation
    automaticLossScalingSettings.binEdgeLocation automaticLossScalingSettings.enabled
    automaticLossScalingSettings.gradientTensorTrackingMethod
    automaticLossScalingSettings.thresholdUpperCountProportion
    automaticLossScalingSettings.toTrackTensors automaticLossScalingSettings.updatePeriod
    batchSerializationSettings.batchSchedule batchSerializationSettings.concatOnExecutionPhaseChange
    batchSerializationSettings.concatOnPipelineStageChange
    batchSerializationSettings.concatOnVirtualGraphChange batchSerializationSettings.factor
    batchSerializationSettings.method batchSerializationSettings.transformContext bufferingDepthMap
    cachePath compilationProgressTotal compileEngine constantWeights convolutionOptions
    createHostTransferableTensorWithOffset createImplicitPipeliningFwdOnlyProgram
    customCodeletCompileFlags customCodelets decomposeGradSum defaultBufferingDepth
    defaultPrefetchBufferingDepth delayVarUpdates disableGradAccumulationTensorStreams
    disableOptimizerStateTensorStreams dotChecks dotOpNames
    enableConstantFoldingOfMultipleConsumers enableDistributedReplicatedGraphs
    enableEfficientOverlapIOTopoCons
    enableEngineCaching enableExplicitIR enableExplicitMainLoops enableFloatingPointChecks
    enableFullyConnectedPass enableGradientAccumulation enableGroupedMatmuls
    enableInplaceAmbiguityChecking enableLoadAndOffloadRNGState enableMergeExchange enableNonStableSoftmax
    enableOutlining enableOutliningCopyCostPruning enablePipelining enablePrefetchDatastreams
    enableReplicatedGraphs enableSerializedMatmuls enableStableNorm enableStochasticRounding
    enableSupportedDataTypeCasting enableVariablesCaching enable_pipelining enable_stochastic_rounding
    engineOptions ensureFp32LossScaleTensor executionPhaseSettings.activationIOSchedule
    executionPhaseSettings.accumulatorIOSchedule executionPhaseSettings.optimizerStateIOSchedule
    executionPhaseSettings.phases executionPhaseSettings.schedule executionPhaseSettings.stages
    executionPhaseSettings.weightIOSchedule explicitPipeliningEnabled explicitRecomputation
    exportPoplarComputationGraph exportPoplarVertexGraph finalDotOp firstDotOp gclOptions
    globalReplicaOffset globalReplicationFactor groupHostSync groupNormStridedChannelGrouping
    hardwareInstrumentations hostAllReduce hostAllReduceRemoteBuffer hostWeightUpdate
    instrumentWithHardwareCycleCounter kahnTieBreaker logDir looseThresholdAtPeak lstmOptions matmulOptions
    mergeVarUpdate mergeVarUpdateMemThreshold numIOTiles opxAliasChecking opxModifyChecking
    outlineSequenceBreakCost outlineThreshold partialsTypeMatMuls
    rearrangeAnchorsOnHost rearrangeStreamsOnHost reportOptions
    replicatedCollectivesSettings.mergeAllGatherCollectives
    replicatedCollectivesSettings.mergeAllReduceCollectives
    replicatedCollectivesSettings.mergeReduceScatterCollectives
    replicatedCollectivesSettings.prepareScheduleForMergingCollectives
    saveInitializersToFile scheduleNonWeightUpdateGradientConsumersEarly separateCallOpPdfs
    serializedPoprithmsShiftGraphsDir strictOpVersions subgraphCopyingStrategy swapLimitScheduler
    syntheticDataMode timeLimitScheduler transitiveClosureOptimizationThreshold updatableNamedBuffers
    useHostCopyOps useLoopCandidateCreator virtualGraphMode
"""
_KNOWN = frozenset(_NAMES.split())

# PopTorch's own settings, which Options.toDict merges with PopART's. The options check their values.
_FRONT_END_NAMES = """
    accumulation_and_replication_reduction_type anchored_tensors auto_round_num_ipus available_memory_proportion
    broadcast_buffers connection_type device_iterations distributed_process_id execution_mode gradient_accumulation
    input_cgt input_group_size ipu_id ipu_version ipuof_configs location_accumulator location_activation
    location_optimizer location_weight log_dir max_repeat_logs meanAccumulationAndReplicationReductionStrategy
    model_name num_distributed_processes output_mode output_return_period patterns patterns_level random_seed
    replication_factor separate_backward_phase serial_phases_execution sync_pattern tensors_liveness use_model
"""
_FRONT_END = frozenset(_FRONT_END_NAMES.split())

_TYPE_NAMES = ((bool, "bool"), (int, "uint64"), (float, "double"), (str, "string"))


class _PopartOptions(OptionsDict):
    """Settings of PopART's session, by name. ``options`` is the plain dict that holds them."""

    def __init__(self) -> None:
        super().__init__()
        self._create(
            _options={"instrumentWithHardwareCycleCounter": False, "rearrangeAnchorsOnHost": False},
            _patterns={},
            _patterns_level=2,
        )

    @property
    def options(self) -> Dict[str, Any]:
        """All settings made so far."""
        return self._options

    @property
    def patterns(self) -> Dict[str, bool]:
        """Graph patterns switched on or off by name."""
        return self._patterns

    def set(self, key: str, value: Any) -> "_PopartOptions":  # type: ignore[override]  # PopTorch's signatures
        """Set one PopART setting. Names and value types are checked when a model is compiled."""
        self.checkIsFrozen(key)
        self._options[key] = value
        return self

    def setEngineOptions(self, engine_options: Dict[str, str]) -> "_PopartOptions":
        """Set Poplar's engine options, replacing earlier ones."""
        return self.set("engineOptions", dict(engine_options))

    def setPatterns(self, patterns: Dict[str, bool], level: int = 2) -> "_PopartOptions":
        """Switch PopART's graph patterns on or off, starting from a level (0 none, 2 default, 3 all)."""
        self.checkIsFrozen("patterns")
        self._create(_patterns=dict(patterns), _patterns_level=int(level))
        return self

    def toDict(self) -> Dict[str, Any]:
        """All settings, with the patterns as ``patterns`` and ``patterns_level``."""
        return self._described()

    def _described(self) -> Dict[str, Any]:
        return dict(self._options, patterns=self._patterns, patterns_level=self._patterns_level)


def checkPopartOptions(options: Dict[str, Any]) -> None:
    """Refuse what PopTorch refuses when a model is compiled.

    Raises:
        Error: a setting PopART does not have, or a value of a type that cannot be passed on.
    """
    for key, value in options.items():
        if key in _FRONT_END:
            continue
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            kind: Optional[str] = "container"
            members = list(value.values()) if isinstance(value, dict) else list(value)
        else:
            kind = next((name for cls, name in _TYPE_NAMES if isinstance(value, cls)), None)
            members = []
        if kind is None:
            raise createError(f"Unknown value type {type(value).__name__} for option {key}")
        for member in members:
            if not isinstance(member, (bool, int, float, str)):
                raise createError(f"Unknown value type {type(member).__name__} inside option {key}")
        if key not in _KNOWN:
            raise createError(f"Unknown {kind} option '{key}' for value {value!r}")


def logSettings(settings: Dict[str, Any]) -> None:
    """Say at debug level what each setting is, one line for each value."""

    def written(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(getattr(value, "value", value))

    for key, value in settings.items():
        if isinstance(value, dict):
            for name, item in value.items():
                logger.debug("poptorch.Options set %s[%s] to %s", key, name, written(item))
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                logger.debug("poptorch.Options added %s to %s", written(item), key)
        else:
            logger.debug("poptorch.Options set %s to value %s", key, written(value))


def validateOptions(options: Any) -> None:
    """Check what PopART would refuse at compile time: unknown settings and unsupported value types.

    The settings of an ``Options`` are also logged at debug level, as PopTorch does when it compiles.

    Args:
        options: an ``Options``, what its ``toDict`` gives, or the dict of its ``_Popart.options``.

    Raises:
        Error: ``Unknown ... option`` or ``Unknown value type``.
    """
    if isinstance(options, dict):
        settings = options
    elif options.defaultOutputMode():
        settings = dict(options._Popart.toDict(), **OptionsDict.toDict(options))
    else:
        settings = options.toDict()
    checkPopartOptions(settings)
    if logger.isEnabledFor(logging.DEBUG):
        logSettings(settings)

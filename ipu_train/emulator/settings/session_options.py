"""Which options PopTorch hands to its core, of which type, and what it says to others.

Sources: PopTorch 3.4, poptorch/source/SessionOptionsParser.cpp, popart_compiler/source/SessionOptions.cpp and
SessionOptionsImpl.hpp; PopART, willow/include/popart/sessionoptions.hpp for the sizes of enumerations.
"""

from typing import Any, Callable, Dict, Tuple

from ..poptorch_core import createError

# Nearly all tune speed or memory and have no effect on the emulator.
_BOOL = """
    aliasZeroCopy auto_round_num_ipus automaticLossScalingSettings.enabled
    batchSerializationSettings.concatOnExecutionPhaseChange batchSerializationSettings.concatOnPipelineStageChange
    batchSerializationSettings.concatOnVirtualGraphChange broadcast_buffers compileEngine constantWeights
    decomposeGradSum delayVarUpdates disableGradAccumulationTensorStreams disableOptimizerStateTensorStreams dotOpNames
    enableDistributedReplicatedGraphs enableEngineCaching enableExplicitIR enableExplicitMainLoops
    enableFloatingPointChecks enableFullyConnectedPass enableGradientAccumulation enableInplaceAmbiguityChecking
    enableLoadAndOffloadRNGState enableMergeExchange enableNonStableSoftmax enableOutlining
    enableOutliningCopyCostPruning enablePipelining enablePrefetchDatastreams enableReplicatedGraphs
    enableSerializedMatmuls enableStableNorm enableStochasticRounding enableSupportedDataTypeCasting
    ensureFp32LossScaleTensor explicitRecomputation exportPoplarComputationGraph exportPoplarVertexGraph groupHostSync
    groupNormStridedChannelGrouping instrumentWithHardwareCycleCounter opxAliasChecking opxModifyChecking
    rearrangeAnchorsOnHost rearrangeStreamsOnHost replicatedCollectivesSettings.mergeAllReduceCollectives
    replicatedCollectivesSettings.prepareScheduleForMergingCollectives scheduleNonWeightUpdateGradientConsumersEarly
    separateCallOpPdfs separate_backward_phase serial_phases_execution strictOpVersions useHostCopyOps use_model
"""
_UINT64 = """
    accumulationFactor automaticLossScalingSettings.updatePeriod batchSerializationSettings.factor
    compilationProgressTotal defaultBufferingDepth defaultPrefetchBufferingDepth device_iterations
    distributed_process_id executionPhaseSettings.phases executionPhaseSettings.stages finalDotOp firstDotOp
    globalReplicaOffset globalReplicationFactor gradient_accumulation input_cgt input_group_size ipu_id ipu_version
    looseThresholdAtPeak max_repeat_logs mergeVarUpdateMemThreshold numIOTiles num_distributed_processes
    output_return_period random_seed replication_factor swapLimitScheduler transitiveClosureOptimizationThreshold
"""
# integers that stand for a member of an enumeration: its name, and how many members it has
_MEMBERS: Dict[str, Tuple[str, int]] = {
    "accumulateOuterFragmentSettings.schedule": ("popart::AccumulateOuterFragmentSchedule", 4),
    "accumulationAndReplicationReductionType": ("ReductionType", 3),
    "accumulation_and_replication_reduction_type": ("popart::ReductionType", 3),
    "autoRecomputation": ("RecomputationType", 5),
    "autodiffSettings.stitchStrategy": ("AutodiffStitchStrategy", 4),
    "automaticLossScalingSettings.gradientTensorTrackingMethod": ("GradientTensorTrackingMethod", 3),
    "batchSerializationSettings.batchSchedule": ("BatchSerializationBatchSchedule", 4),
    "batchSerializationSettings.method": ("BatchSerializationMethod", 3),
    "batchSerializationSettings.transformContext": ("BatchSerializationTransformContext", 2),
    "connection_type": ("DeviceConnectionType", 3),
    "execution_mode": ("ExecutionMode", 3),
    "meanAccumulationAndReplicationReductionStrategy": ("MeanReductionStrategy", 2),
    "mergeVarUpdate": ("MergeVarUpdateType", 4),
    "output_mode": ("PopartOutputMode", 4),
    "subgraphCopyingStrategy": ("SubgraphCopyingStrategy", 2),
    "sync_pattern": ("SyncPattern", 3),
    "syntheticDataMode": ("SyntheticDataMode", 4),
    "tensors_liveness": ("Liveness", 4),
    "virtualGraphMode": ("VirtualGraphMode", 4),
}
_DOUBLE = """
    automaticLossScalingSettings.binEdgeLocation automaticLossScalingSettings.thresholdUpperCountProportion
    outlineSequenceBreakCost outlineThreshold timeLimitScheduler
"""
_STRING = """
    cachePath customCodeletCompileFlags kahnTieBreaker logDir log_dir model_name partialsTypeMatMuls
    saveInitializersToFile serializedPoprithmsShiftGraphsDir
"""
_CONTAINER = """
    accumulateOuterFragmentSettings.excludedVirtualGraphs convolutionOptions customCodelets dotChecks engineOptions
    gclOptions hardwareInstrumentations lstmOptions matmulOptions reportOptions updatableNamedBuffers
"""
_BOOLS, _DOUBLES, _STRINGS, _CONTAINERS = (
    frozenset(names.split()) for names in (_BOOL, _DOUBLE, _STRING, _CONTAINER)
)
_UINT64S = frozenset(_UINT64.split()).union(_MEMBERS)
NAMES = frozenset().union(_BOOLS, _UINT64S, _DOUBLES, _STRINGS, _CONTAINERS)
# elements of containers that become numbers, and by which function of C++
_NUMBERS = {
    "accumulateOuterFragmentSettings.excludedVirtualGraphs": "stoi",
    "hardwareInstrumentations": "stoul",
}
_LOCATIONS = ("location_activation", "location_weight", "location_optimizer", "location_accumulator")
_LOCATION_SETTINGS = (
    "minElementsForOffChip",
    "minElementsForReplicatedTensorSharding",
    "onChip",
    "useReplicatedTensorSharding",
    "useIOTilesToLoad",
    "useIOTilesToStore",
)
# The parser passes over the first two; the options themselves check the others.
_CHECKED_ELSEWHERE = ("anchored_tensors", "patterns_level", "patterns", "available_memory_proportion")


def checkSessionOptions(options: Dict[str, Any]) -> None:
    """Refuse what PopTorch refuses when a model is compiled. The Python type picks the table with the names.

    Raises:
        Error: no option of that type has this name, or a value cannot be passed on or stands for nothing.
    """
    for name, value in options.items():
        if name not in _CHECKED_ELSEWHERE:
            next(check for kind, check in _CHECKS if isinstance(value, kind))(name, value)


def _refuse_unknown(kind: str, name: str, known: bool) -> None:
    if not known:
        raise createError(f"Unknown {kind} option {name}")


def _bool(name: str, value: bool) -> None:
    _refuse_unknown("bool", name, name in _BOOLS)


def _double(name: str, value: float) -> None:
    _refuse_unknown("floating point", name, name in _DOUBLES)


def _uint64(name: str, value: int) -> None:
    _check_range(value)
    _refuse_unknown("uint64", name, name in _UINT64S)
    enumeration, members = _MEMBERS.get(name, ("", 2**64))
    if value >= members:
        raise createError(f"Value for {enumeration} out of range")


def _string(name: str, value: str) -> None:
    _refuse_unknown("string", name, name in _STRINGS)


def _elements(name: str, value: Any) -> None:
    for element in value:
        text = _text(element)
        _refuse_unknown("set / vector", name, name in _CONTAINERS)
        _check_number(name, text)


def _mapping(name: str, value: Dict[Any, Any]) -> None:
    for key, element in value.items():
        if name.startswith("location_"):
            _check_location(name, _text(key), element)
            continue
        text, _ = _text(key), _text(element)
        _refuse_unknown("map", name, name in _CONTAINERS)
        _check_number(name, text)


def _other(name: str, value: Any) -> None:
    raise createError(f"Unknown value type {type(value)} for option {name}")


_CHECKS: Tuple[Tuple[Any, Callable[[str, Any], None]], ...] = (
    (bool, _bool),
    (float, _double),
    (int, _uint64),
    (str, _string),
    ((set, list, tuple), _elements),
    (dict, _mapping),
    (object, _other),
)


def _text(value: Any) -> str:
    """What is inside containers becomes text."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        _check_range(value)
        return str(int(value))
    raise createError(f"Don't know how to convert type {type(value)} to string")


def _check_range(value: Any) -> None:
    if not isinstance(value, int) or not 0 <= value < 2**64:
        raise createError(f"Unable to cast Python instance of type {type(value)} to C++ type 'unsigned long'")


def _check_number(name: str, text: str) -> None:
    if name not in _NUMBERS:
        return
    try:
        number = int(text)
    except ValueError:
        raise createError(_NUMBERS[name]) from None
    if name == "hardwareInstrumentations" and number not in (0, 1):
        raise createError("Value for Instrumentation out of range")


def _check_location(name: str, setting: str, value: Any) -> None:
    _check_range(value)
    if name not in _LOCATIONS:
        raise createError(f"Unknown tensor location {name}")
    if setting not in _LOCATION_SETTINGS:
        raise createError(f"Unknown option '{setting}' for tensor location {name}")

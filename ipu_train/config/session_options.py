"""Options of PopART's session that PopTorch 3.4 hands through: their names, and what values they take.

Names and types are those of PopTorch's ``SessionOptions.cpp``; what a configuration has a key of its own for, and what
PopTorch works out for itself, is left out and refused by name.
"""

from typing import Any, Dict, Iterator, Mapping, Tuple

from .errors import nearest

_BOOL = """
    aliasZeroCopy batchSerializationSettings.concatOnExecutionPhaseChange
    batchSerializationSettings.concatOnPipelineStageChange batchSerializationSettings.concatOnVirtualGraphChange
    decomposeGradSum disableGradAccumulationTensorStreams dotOpNames enableExplicitIR enableExplicitMainLoops
    enableFullyConnectedPass enableInplaceAmbiguityChecking enableLoadAndOffloadRNGState enableMergeExchange
    enableNonStableSoftmax enableOutlining enableOutliningCopyCostPruning enablePrefetchDatastreams
    enableSerializedMatmuls enableStableNorm enableSupportedDataTypeCasting ensureFp32LossScaleTensor
    explicitRecomputation exportPoplarComputationGraph exportPoplarVertexGraph groupHostSync
    instrumentWithHardwareCycleCounter opxAliasChecking opxModifyChecking rearrangeAnchorsOnHost
    rearrangeStreamsOnHost replicatedCollectivesSettings.mergeAllReduceCollectives
    replicatedCollectivesSettings.prepareScheduleForMergingCollectives
    scheduleNonWeightUpdateGradientConsumersEarly separateCallOpPdfs strictOpVersions useHostCopyOps
"""
_WHOLE = """
    accumulateOuterFragmentSettings.schedule automaticLossScalingSettings.gradientTensorTrackingMethod
    automaticLossScalingSettings.updatePeriod autodiffSettings.stitchStrategy
    batchSerializationSettings.batchSchedule batchSerializationSettings.factor batchSerializationSettings.method
    batchSerializationSettings.transformContext finalDotOp firstDotOp looseThresholdAtPeak mergeVarUpdate
    mergeVarUpdateMemThreshold subgraphCopyingStrategy swapLimitScheduler transitiveClosureOptimizationThreshold
"""
_NUMBER = """
    automaticLossScalingSettings.binEdgeLocation automaticLossScalingSettings.thresholdUpperCountProportion
    outlineSequenceBreakCost outlineThreshold timeLimitScheduler
"""
_TEXT = "customCodeletCompileFlags kahnTieBreaker saveInitializersToFile serializedPoprithmsShiftGraphsDir"
_LIST = (
    "accumulateOuterFragmentSettings.excludedVirtualGraphs customCodelets dotChecks hardwareInstrumentations"
)
_MAPPING = "gclOptions lstmOptions matmulOptions reportOptions"

KINDS: Dict[str, str] = {
    name: kind
    for kind, names in (
        ("true or false", _BOOL),
        ("a whole number from 0 on", _WHOLE),
        ("a number", _NUMBER),
        ("text", _TEXT),
        ("a list", _LIST),
        ("a mapping of names to texts", _MAPPING),
    )
    for name in names.split()
}
# PopART option -> the key that sets it
OWN_KEYS: Dict[str, str] = {
    "accumulationAndReplicationReductionType": "training.reduction",
    "accumulationFactor": "training.gradient_accumulation",
    "autoRecomputation": "device.recompute",
    "automaticLossScalingSettings.enabled": "optimizer.automatic_loss_scaling",
    "cachePath": "device.executable_cache",
    "convolutionOptions": "device.partials and device.available_memory_proportion",
    "defaultBufferingDepth": "device.prefetch_depth",
    "defaultPrefetchBufferingDepth": "device.prefetch_depth",
    "enableEngineCaching": "device.executable_cache",
    "enableFloatingPointChecks": "device.fp_exceptions",
    "enableStochasticRounding": "training.stochastic_rounding",
    "engineOptions": "device.engine_options",
    "numIOTiles": "device.io_tiles",
    "partialsTypeMatMuls": "device.partials",
    "syntheticDataMode": "device.synthetic_data",
}
_POPTORCH_SETS = """
    compilationProgressTotal enableDistributedReplicatedGraphs enableGradientAccumulation enablePipelining
    enableReplicatedGraphs executionPhaseSettings.phases executionPhaseSettings.stages globalReplicaOffset
    globalReplicationFactor logDir meanAccumulationAndReplicationReductionStrategy updatableNamedBuffers
    virtualGraphMode
"""
# PopART option -> why it cannot be handed through
REFUSED: Dict[str, str] = {
    **dict.fromkeys(_POPTORCH_SETS.split(), "PopTorch sets it itself"),
    "compileEngine": "nothing would be compiled",
    "constantWeights": "weights are trained",
    "delayVarUpdates": "PopTorch orders weight updates itself",
    "disableOptimizerStateTensorStreams": "checkpoints could not read the optimizer state",
    "groupNormStridedChannelGrouping": "channel i * G + g would be in group g, which changes what weights mean",
}


def as_popart_takes(options: Any) -> Any:
    """Without nulls, and with whole numbers as floating ones where PopART has those: PopTorch goes by their type."""
    if not isinstance(options, Mapping):
        return options
    given = {name: value for name, value in options.items() if value is not None}
    numbers = {n: float(v) for n, v in given.items() if KINDS.get(n) == "a number" and type(v) is int}
    return {**given, **numbers}


def session_option_complaints(options: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    """What is wrong with ``device.session_options``."""
    for name, value in options.items():
        key = f"session_options.{name}"
        if name in OWN_KEYS:
            yield key, f"is set by {OWN_KEYS[name]}"
        elif name in REFUSED:
            yield key, f"cannot be set here: {REFUSED[name]}"
        elif name not in KINDS:
            near = nearest(name, KINDS)
            yield key, "PopTorch hands no such option to PopART" + (f"; did you mean {near}?" if near else "")
        elif not _fits(value, KINDS[name]):
            yield key, f"must be {KINDS[name]}, got {value!r}"


def _fits(value: Any, kind: str) -> bool:
    if kind == "true or false":
        return isinstance(value, bool)
    if kind == "a whole number from 0 on":
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if kind == "a number":
        return isinstance(value, float)
    if kind == "text":
        return isinstance(value, str)
    if kind == "a list":
        return isinstance(value, list) and all(isinstance(v, (str, int)) for v in value)
    return isinstance(value, dict) and all(isinstance(v, str) for pair in value.items() for v in pair)

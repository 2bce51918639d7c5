"""Stand-in for ``popart``: the enumerations that scripts turn into integers for ``opts._Popart.set``.

Values are those of PopART's session options. Of PopART itself nothing else is emulated.
"""

import enum


class SyntheticDataMode(enum.IntEnum):
    """What replaces host I/O."""

    Off = 0
    Zeros = 1
    RandomNormal = 2
    RandomUniform = 3


# ``None`` is a member's name in PopART, which a class body cannot write
RecomputationType = enum.IntEnum(
    "RecomputationType",
    {"None": 0, "NoRecompute": 0, "Standard": 1, "NormOnly": 2, "Pipeline": 3, "RecomputeAll": 4},
)
RecomputationType.__doc__ = "Which activations are computed again in the backward pass."


class AccumulateOuterFragmentSchedule(enum.IntEnum):
    """How weight updates are scheduled."""

    Scheduler = 0
    Serial = 1
    OverlapCycleOptimized = 2
    OverlapMemoryOptimized = 3


class SubgraphCopyingStrategy(enum.IntEnum):
    """When inputs of a subgraph are copied."""

    OnEnterAndExit = 0
    JustInTime = 1


class VirtualGraphMode(enum.IntEnum):
    """How operations are put on IPUs."""

    Off = 0
    Manual = 1
    Auto = 2
    ExecutionPhases = 3


class TensorStorage(enum.IntEnum):
    """Where a tensor lives."""

    OffChip = 0
    OnChip = 1


class MergeVarUpdateType(enum.IntEnum):
    """Which weight updates become one."""

    Off = 0
    All = 1
    AutoLoose = 2
    AutoTight = 3


class BatchSerializationTransformContext(enum.IntEnum):
    """When batches are serialised."""

    Fwd = 0
    Bwd = 1
    Forward = 0
    Backward = 1


class BatchSerializationMethod(enum.IntEnum):
    """How batches are serialised."""

    UnrollDynamic = 0
    UnrollStatic = 1
    Loop = 2


class BatchSerializationBatchSchedule(enum.IntEnum):
    """In which order the parts of a batch run."""

    Scheduler = 0
    Isomorphic = 1
    OverlapOnIo = 2
    OverlapOnCompute = 3


class AutodiffStitchStrategy(enum.IntEnum):
    """Where the backward pass has its activations from."""

    RecomputeMinimal = 0
    RecomputeAllNonInputs = 1
    AddFwdOutputs = 2
    SafeAddFwdOutputs = 3


class ExecutionPhaseIOSchedule(enum.IntEnum):
    """When a phase loads its weights."""

    Preload = 0
    OnDemand = 1


class ExecutionPhaseSchedule(enum.IntEnum):
    """In which order a phase handles its weights."""

    Interleaving = 0
    Batch = 1
    BatchClusteredIO = 2


class GradientTensorTrackingMethod(enum.IntEnum):
    """Which gradients automatic loss scaling looks at."""

    AllNonViewChangingGradientTensors = 0
    ConvAndMatmulGradients = 1
    GradientsOfUserSpecifiedTensors = 2


class ReductionType(enum.IntEnum):
    """How values of several samples become one."""

    Sum = 0
    Mean = 1
    NoReduction = 2


class MeanReductionStrategy(enum.IntEnum):
    """When the mean of accumulated gradients is taken."""

    Running = 0
    Post = 1


class ReplicatedTensorSharding(enum.IntEnum):
    """Whether replicas share a tensor."""

    Off = 0
    On = 1


class SyncPattern(enum.IntEnum):
    """Which IPUs wait for each other."""

    Full = 0
    SinglePipeline = 1
    ReplicaAndLadder = 2


class Instrumentation(enum.IntEnum):
    """Which loops cycles are counted of."""

    Outer = 0
    Inner = 1


class DeviceConnectionType(enum.IntEnum):
    """When a program takes an IPU."""

    Always = 0
    OnDemand = 1
    Never = 2


def __getattr__(name: str) -> object:
    raise AttributeError(
        f"popart.{name} is not emulated: only the enumerations for PopTorch's options are. Programs written "
        "for PopART itself need the Poplar SDK"
    )

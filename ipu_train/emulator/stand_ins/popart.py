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
    Hybrid = 4


class TensorStorage(enum.IntEnum):
    """Where a tensor lives."""

    OffChip = 0
    OnChip = 1


def __getattr__(name: str) -> object:
    raise AttributeError(
        f"popart.{name} is not emulated: only the enumerations for PopTorch's options are. Programs written "
        "for PopART itself need the Poplar SDK"
    )

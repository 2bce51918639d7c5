"""Execution strategies: which blocks form which stage on which IPU.

Source: PopTorch 3.4 user guide, the section on multi-IPU execution strategies.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .. import enums

# values of the ``execution_mode`` setting
PIPELINED, SHARDED, PHASED = 0, 1, 2


class Stage:
    """Blocks that run one after the other on one IPU.

    Args:
        block_ids: ids of the blocks, strings.
    """

    def __init__(self, *block_ids: str) -> None:
        assert all(isinstance(block_id, str) for block_id in block_ids), (
            f"A Stage is made of block ids, which are strings: {block_ids}"
        )
        self._blocks = block_ids
        self._stage_id = -1
        self._phase_id = -1
        self._ipu: Optional[int] = None

    @property
    def blocks(self) -> Tuple[str, ...]:
        """Ids of the blocks."""
        return self._blocks

    def ipu(self, ipu: int) -> "Stage":
        """Put the stage on this IPU."""
        assert isinstance(ipu, int), f"An IPU is an integer, not {ipu!r}"
        self._ipu = ipu
        return self

    def __repr__(self) -> str:
        where = "" if self._ipu is None else f".ipu({self._ipu})"
        return f"Stage({', '.join(map(repr, self._blocks))}){where}"


class Phase:
    """Stages that run at the same time on different IPUs.

    Args:
        args: stages; or block ids, which together make one stage.
    """

    def __init__(self, *args: Union[str, Stage]) -> None:
        stages = [arg for arg in args if isinstance(arg, Stage)]
        block_ids = [arg for arg in args if isinstance(arg, str)]
        assert len(args) in (len(stages), len(block_ids)), (
            f"A Phase is made of Stages only, or of block ids only: {args}"
        )
        self._stages = stages or [Stage(*block_ids)]

    @property
    def stages(self) -> List[Stage]:
        """The stages."""
        return self._stages

    def stage(self, idx: int) -> Stage:
        """Stage number ``idx``."""
        return self._stages[idx]

    def ipus(self, *ipus: int) -> "Phase":
        """Put the stages on these IPUs, one for each."""
        assert len(ipus) == len(self._stages), (
            f"{len(ipus)} IPUs given for a phase of {len(self._stages)} stages: give one for each"
        )
        for stage, ipu in zip(self._stages, ipus):
            stage.ipu(ipu)
        return self

    def __repr__(self) -> str:
        return f"Phase({', '.join(map(repr, self._stages))})"


class _IExecutionStrategy:
    """What every strategy has: stages that can be looked up by the id of a block in them."""

    execution_mode = PIPELINED

    def __init__(self) -> None:
        self._block_map: Dict[str, Stage] = {}
        self._auto_stage: Optional[enums.AutoStage] = None

    def _addStage(self, stage: Stage, stage_id: int, phase_id: int = -1) -> None:
        stage._stage_id = stage_id
        stage._phase_id = phase_id
        for block in stage.blocks:
            assert block not in self._block_map, f"Block {block!r} is in two stages: it can be in one only"
            self._block_map[block] = stage

    def stage(self, block_id: str) -> Stage:
        """The stage that holds a block."""
        assert block_id in self._block_map, (
            f"Unknown block {block_id!r}, known blocks: {', '.join(map(repr, self._block_map))}"
        )
        return self._block_map[block_id]

    def onStartTracing(self) -> None:
        """Called before a model's forward is captured."""

    def onEndTracing(self) -> None:
        """Called after a model's forward has been captured."""

    def backendOptions(self) -> Dict[str, Any]:
        """Settings of the strategy, for ``Options.toDict``."""
        return {"execution_mode": self.execution_mode}

    def _described(self) -> List[str]:
        if self._auto_stage is not None:
            return [str(self._auto_stage)]
        stages: List[Stage] = []
        for stage in self._block_map.values():
            if stage not in stages:
                stages.append(stage)
        return [repr(stage) for stage in stages]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._described())})"


class PipelinedExecution(_IExecutionStrategy):
    """Stages work on different micro-batches at the same time.

    Args:
        args: one :class:`AutoStage`; or any mix of :class:`Stage`, block id and list of block ids, each
            becoming a stage. Nothing at all means ``AutoStage.SameAsIpu``.
    """

    def __init__(self, *args: Union[enums.AutoStage, Stage, str, Sequence[str]]) -> None:
        super().__init__()
        if not args:
            self._auto_stage = enums.AutoStage.SameAsIpu
        elif isinstance(args[0], enums.AutoStage):
            assert len(args) == 1, "An AutoStage stands alone: no other stages can be listed beside it"
            self._auto_stage = args[0]
        else:
            for stage_id, arg in enumerate(args):
                self._addStage(_asStage(arg), stage_id)


class ShardedExecution(PipelinedExecution):
    """Stages take turns on one micro-batch. Same arguments as :class:`PipelinedExecution`."""

    execution_mode = SHARDED


class _IPhasedExecution(_IExecutionStrategy):
    """Phases one after the other, tensors leaving the chip in between.

    Args:
        phases: each a :class:`Phase`, a list of stages, a list of block ids, or one block id.
    """

    execution_mode = PHASED
    serial = True

    def __init__(self, *phases: Union[Phase, Sequence[Stage], Sequence[str], str]) -> None:
        super().__init__()
        assert phases, f"{type(self).__name__} needs at least one phase"
        self._phases = [_asPhase(phase) for phase in phases]
        self._separate_backward_phase = False
        for phase_id, phase in enumerate(self._phases):
            for stage_id, stage in enumerate(phase.stages):
                self._addStage(stage, stage_id, phase_id)

    def phase(self, phase: int) -> Phase:
        """Phase number ``phase``."""
        return self._phases[phase]

    def useSeparateBackwardPhase(self, use: bool = True) -> "_IPhasedExecution":
        """Start the backward pass in a phase of its own."""
        self._separate_backward_phase = use
        return self

    def backendOptions(self) -> Dict[str, Any]:
        return {
            "execution_mode": self.execution_mode,
            "separate_backward_phase": self._separate_backward_phase,
            "serial_phases_execution": self.serial,
        }

    def _described(self) -> List[str]:
        described = [repr(phase) for phase in self._phases]
        return described + (["separate_backward_phase"] if self._separate_backward_phase else [])


class SerialPhasedExecution(_IPhasedExecution):
    """Phases one after the other, each possibly over several IPUs."""

    def __init__(self, *phases: Union[Phase, Sequence[Stage], Sequence[str], str]) -> None:
        super().__init__(*phases)
        self._tensors_liveness = enums.Liveness.AlwaysLive

    def setTensorsLiveness(self, liveness: enums.Liveness) -> "SerialPhasedExecution":
        """When tensors leave the chip."""
        assert isinstance(liveness, enums.Liveness), f"Expected a Liveness, not {liveness!r}"
        self._tensors_liveness = liveness
        return self

    def backendOptions(self) -> Dict[str, Any]:
        return dict(super().backendOptions(), tensors_liveness=self._tensors_liveness.value)

    def _described(self) -> List[str]:
        return super()._described() + [str(self._tensors_liveness)]


class ParallelPhasedExecution(_IPhasedExecution):
    """Even phases on even IPUs and odd phases on odd ones, so that they overlap."""

    serial = False

    def __init__(self, *phases: Union[Phase, Sequence[Stage], Sequence[str], str]) -> None:
        super().__init__(*phases)
        self._tensors_liveness = enums.Liveness.OffChipAfterFwd

    def sendTensorsOffChipAfterFwd(self, off_chip: bool = True) -> "ParallelPhasedExecution":
        """Whether tensors leave the chip after the forward pass."""
        self._tensors_liveness = enums.Liveness.OffChipAfterFwd if off_chip else enums.Liveness.AlwaysLive
        return self

    def backendOptions(self) -> Dict[str, Any]:
        return dict(super().backendOptions(), tensors_liveness=self._tensors_liveness.value)

    def _described(self) -> List[str]:
        return super()._described() + [str(self._tensors_liveness)]


def _asStage(arg: Union[enums.AutoStage, Stage, str, Sequence[str]]) -> Stage:
    if isinstance(arg, Stage):
        return arg
    if isinstance(arg, str):
        return Stage(arg)
    assert isinstance(arg, (list, tuple)), f"Expected a Stage, a block id or a list of block ids, not {arg!r}"
    return Stage(*arg)


def _asPhase(arg: Union[Phase, Sequence[Stage], Sequence[str], str]) -> Phase:
    if isinstance(arg, Phase):
        return arg
    if isinstance(arg, (str, Stage)):
        return Phase(arg)
    assert isinstance(arg, (list, tuple)), (
        f"Expected a Phase, a list of stages, a list of block ids or a block id, not {arg!r}"
    )
    return Phase(*arg)

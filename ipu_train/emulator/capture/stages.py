"""From blocks to stages and IPUs, and what a pipeline demands of the batching options.

Source: PopTorch 3.4 user guide, the sections on execution strategies and on pipelining.
"""

from functools import lru_cache
from typing import Any, Dict, List, NamedTuple, Optional

from .. import enums
from .._logging import logger
from ..poptorch_core import MAX_IPUS_PER_PROCESS, createError
from ..settings.strategies import (
    ParallelPhasedExecution,
    PipelinedExecution,
    ShardedExecution,
    _IExecutionStrategy,
    _IPhasedExecution,
)


class Placement(NamedTuple):
    """Where an operation sits."""

    ipu: int
    stage: int
    phase: int = 0


BEFORE_ANY_BLOCK = Placement(ipu=0, stage=0)


class StageTracker:
    """Follows the blocks of one capture and says where each operation belongs.

    Args:
        strategy: the options' execution strategy.
    """

    def __init__(self, strategy: _IExecutionStrategy) -> None:
        self._strategy = strategy
        self._active: Optional[Placement] = BEFORE_ANY_BLOCK
        self._placements: Dict[str, Placement] = {}
        self._next_auto_id = 0
        self._next_stage = 1  # 0 is for operations before any block
        self._ipus: List[int] = []  # IPU of each operation, runs of the same one merged

    # -- what the annotations report

    def useAutoId(self) -> None:
        """Number blocks without an id from 0 again."""
        self._next_auto_id = 0

    def nextAutoId(self) -> str:
        """The id of the next block without one."""
        self._next_auto_id += 1
        return str(self._next_auto_id - 1)

    def enter(self, user_id: Optional[Any] = None, ipu_id: Optional[int] = None) -> None:
        """A block begins. Same ``user_id``: same block, hence same stage as before."""
        if user_id is None:
            user_id = self.nextAutoId()
        user_id = str(user_id)
        if user_id not in self._placements:
            self._placements[user_id] = self._place(user_id, ipu_id)
        self._active = self._placements[user_id]
        logger.debug("Begin block %s: %s", user_id, self._active)

    def exit(self) -> None:
        """A ``with Block`` scope ends: no block is active until the next begins."""
        self._active = None

    # -- what the recorder asks

    def current(self) -> Placement:
        """Where the operation that is about to be recorded sits.

        Raises:
            Error: the operation follows a ``with Block`` scope and is in no block itself.
        """
        if self._active is None:
            raise createError(
                "No active Block: this operation comes after a poptorch.Block scope and belongs to no block. "
                "Put it inside a block of its own"
            )
        if not self._ipus or self._ipus[-1] != self._active.ipu:
            self._ipus.append(self._active.ipu)
        return self._active

    @property
    def mode(self) -> str:
        """How the stages are executed: ``Pipelined``, ``Sharded`` or ``Phased``."""
        if isinstance(self._strategy, _IPhasedExecution):
            return "Phased"
        return "Sharded" if isinstance(self._strategy, ShardedExecution) else "Pipelined"

    @property
    def several_ipus(self) -> bool:
        """Whether more than one IPU holds operations."""
        return len(set(self._ipus)) > 1

    @property
    def num_ipus(self) -> int:
        """IPUs per replica: all up to the highest that holds an operation, those left out between them too."""
        return max(self._ipus, default=0) + 1

    @property
    def forward_stages(self) -> int:
        """Pipeline stages of the forward pass; returning to an IPU is a stage of its own."""
        return forwardStages(self._ipus)

    def validate(self, options: Any, training: bool, hardware: bool = True) -> int:
        """Check pipeline, phases and number of IPUs at the end of a capture.

        Args:
            options: the executor's ``Options``.
            training: whether the model is trained.
            hardware: whether the target is hardware, not the IPU model. The model takes any number of IPUs, and so
                does offline compilation (``ConnectionType.Never``), which reserves none.

        Returns:
            The number of IPUs to reserve, all replicas together.

        Raises:
            Error: too few micro-batches to fill the pipeline, phases on the wrong IPUs, too many IPUs.
        """
        hardware = hardware and options.connection_type != enums.ConnectionType.Never.value
        reserved = reservedIpus(
            self.num_ipus,
            options.replication_factor,
            options.auto_round_num_ipus or not hardware,
            round_up=hardware,
        )
        if isinstance(self._strategy, _IPhasedExecution):
            checkPhases(self._strategy, self._placements.values())
        elif not isinstance(self._strategy, ShardedExecution):
            checkPipeline(self.forward_stages, options, training)
            if self.several_ipus and options.output_mode == enums.OutputMode.EveryN:
                raise createError(
                    "OutputMode.EveryN is not supported for pipelined models: use All, Sum or Final",
                    "popart_exception",
                )
        return reserved

    # -- resolution

    def _place(self, block_id: str, ipu_id: Optional[int]) -> Placement:
        strategy = self._strategy
        auto = strategy._auto_stage if isinstance(strategy, PipelinedExecution) else None
        if auto == enums.AutoStage.SameAsIpu:
            assert ipu_id is not None, (
                f"Block {block_id!r} needs an ipu_id, because AutoStage.SameAsIpu makes stages out of IPUs"
            )
            return Placement(ipu_id, ipu_id)
        if auto == enums.AutoStage.AutoIncrement:
            number, self._next_stage = self._next_stage, self._next_stage + 1
            return Placement(number if ipu_id is None else ipu_id, number)
        stage = strategy.stage(block_id)
        if stage._ipu is not None:
            ipu_id = stage._ipu
        elif ipu_id is None:
            ipu_id = stage._stage_id
        return Placement(ipu_id, stage._stage_id, max(0, stage._phase_id))


def forwardStages(ipus: List[int]) -> int:
    """1 + the number of times the active IPU changes, starting from IPU 0.

    Args:
        ipus: IPU of each operation, in order of execution.
    """
    changes, active = 0, 0
    for ipu in ipus:
        changes += ipu != active
        active = ipu
    return 1 + changes


def checkPipeline(forward_stages: int, options: Any, training: bool) -> None:
    """Refuse a pipeline that its micro-batches cannot fill.

    A training pipeline runs the stages forwards and all but the last backwards again, 2F - 1 in all, and
    each needs a micro-batch of the same weight update.

    Raises:
        Error: fewer device iterations than stages (inference) or less accumulation than stages (training).
    """
    if forward_stages == 1:
        return
    if not training:
        if options.device_iterations < forward_stages:
            raise createError(
                "poptorch.Options().deviceIterations must be greater than or equal to the number of pipeline stages "
                f"({forward_stages}) when using poptorch.PipelinedExecution: {options.device_iterations} cannot fill "
                "the pipeline"
            )
        return
    total = 2 * forward_stages - 1
    accumulation = options.Training.gradient_accumulation
    if accumulation < total:
        raise createError(
            "poptorch.Options().Training.gradientAccumulation must be greater than or equal to the number of pipeline "
            f"stages ({total}) when using poptorch.PipelinedExecution. Please note that a model with {forward_stages} "
            f"pipeline stages in PopTorch will have an additional {forward_stages - 1} stages when training. "
            f"{accumulation} micro-batches cannot fill them"
        )


def checkPhases(strategy: _IPhasedExecution, placements: Any) -> None:
    """Parallel phases alternate between even and odd IPUs.

    Raises:
        Error: a phase on an IPU of the other kind.
    """
    if not isinstance(strategy, ParallelPhasedExecution):
        return
    for placement in placements:
        if placement.ipu % 2 != placement.phase % 2:
            kind = "even" if placement.phase % 2 == 0 else "odd"
            raise createError(
                f"Phase {placement.phase} of a ParallelPhasedExecution must use {kind} IPUs, not IPU "
                f"{placement.ipu}: place its stages with .ipus() or .ipu()"
            )


def reservedIpus(per_replica: int, replicas: int, any_number: bool, round_up: bool = True) -> int:
    """IPUs to reserve for all replicas of this process.

    Args:
        per_replica: IPUs of one replica.
        replicas: replication factor.
        any_number: do not complain when the total is no power of two.
        round_up: then reserve the next power of two rather than the exact number.

    Raises:
        Error: no power of two (unless ``any_number``), or more than a process may use.
    """
    total = per_replica * replicas
    if total > MAX_IPUS_PER_PROCESS:
        raise createError(
            f"Too many IPUs requested ({total}). Experiments that need more than {MAX_IPUS_PER_PROCESS} IPUs "
            "require distributed execution."
        )
    reserved = 1 << (total - 1).bit_length()
    if reserved != total and not any_number:
        raise createError(
            f"The model specifies the use of {total} IPUs, however PopTorch must reserve a minimum of {reserved} in "
            "order to allow the model to run, because PopTorch must reserve a power of 2 or maximum of "
            f"{MAX_IPUS_PER_PROCESS} IPUs per process. Please reconfigure your model to use a different number of IPUs "
            "or set poptorch.Options().autoRoundNumIPUs(True)."
        )
    if reserved == total or not round_up:
        return total
    _warn_of_rounding(reserved, total)
    return reserved


@lru_cache(maxsize=None)  # a training and a validation program of one run take the same IPUs: said once
def _warn_of_rounding(reserved: int, total: int) -> None:
    logger.warning(
        "Reserving %d IPUs where %d are used: autoRoundNumIPUs rounds up to a power of 2", reserved, total
    )

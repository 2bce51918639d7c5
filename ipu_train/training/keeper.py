"""Keeps a run's state: what the device was told, checkpoints, and what is undone when a run diverges."""

import contextlib
import math
from typing import Any, Dict, Iterator, Optional

import torch

from ..config import Resolved
from ..tracking import tell
from . import checkpoint, checkpoint_folder, run_state
from .assembly import Assembly
from .bystanders import NoWriter
from .checkpoint import Checkpoint
from .checkpoint_writer import CheckpointWriter, NotFinite, is_finite
from .divergence import ROLLBACK, SKIP, STOP, Diverged, Limit, gone
from .prepared import Prepared
from .reporter import Reporter
from .resuming import TakenUp
from .run_folder import Claim
from .run_state import Position, Sent


class Keeper:
    """Between the training loop and what outlasts it.

    Args:
        run: compiled and attached.
        claim: of the run folder.
        resolved: the configuration.
        reporter: its state is part of checkpoints.
        environment: what the run computes with, see ``resume.environment``.
        before: the run that goes on; None for a new one.
        images: how they are prepared, for who uses the model later.
    """

    def __init__(
        self,
        run: Assembly,
        claim: Claim,
        resolved: Resolved,
        reporter: Reporter,
        environment: Dict[str, Any],
        before: Optional[TakenUp],
        images: Optional[Prepared] = None,
    ) -> None:
        config = resolved.config
        self.images = images.as_dict() if images is not None else {}
        self.run, self.claim, self.reporter, self.environment = run, claim, reporter, environment
        self.config, self.config_text = config, resolved.dump()
        self.folder = claim.folder
        self.infinite = [  # buffers of a network of the user's own, such as masks
            name
            for name, buffer in run.network.named_buffers()
            if buffer.is_floating_point() and bool(torch.isinf(buffer).any())
        ]
        self.writer: Any = NoWriter()
        if run.processes.is_first:
            self.writer = CheckpointWriter(
                self.folder.checkpoints,
                config.checkpoint.keep,
                bool(config.checkpoint.keep_best),
                self.infinite,
            )
        self.sent, self.limit = Sent(), Limit(config.training.divergence_limit or 0)
        self.position = Position()  # of the last checkpoint
        self.validation: Dict[str, float] = {}
        if before is not None:
            state = before.state
            self.sent = Sent(state.learning_rate, state.loss_scaling)
            self.limit = Limit(config.training.divergence_limit or 0, **state.undone)
            self.validation = state.validation
            if not claim.place.is_new:
                self.position = state.position
        self._branches_at = before.state.position if before is not None and claim.place.is_new else None
        self._rolled_back_at: Optional[int] = None
        self._good: Optional[Checkpoint] = None  # the state that skip returns to
        if config.training.on_divergence == SKIP:
            self._good = self._capture(Position())

    def tell_device(self, rate: float, scaling: float) -> None:
        """Learning rate and loss scaling of the next call, if they are other than those that the device has.

        Raises:
            CheckpointError, Diverged: of a checkpoint that was being written meanwhile.
        """
        if not self.writer.is_writing:
            self.wait()
        self.validation = {}
        automatic = self.config.optimizer.automatic_loss_scaling
        if self.sent != (rate, scaling):
            self.run.attach()
            run_state.send(self.run, rate, None if automatic else scaling)
            self.sent = Sent(rate, scaling)

    # -- divergence ----------------------------------------------------------------------------------------------

    def accepts(self, loss: torch.Tensor, position: Position) -> bool:
        """Whether the call that led to ``position`` counts; False when its weight updates were undone.

        Raises:
            Diverged: the run ends here.
        """
        policy = self.config.training.on_divergence
        if self.config.device.synthetic_data:
            return True
        finite = all(map(math.isfinite, loss.flatten().tolist()))
        if finite and policy != SKIP:
            return True
        if finite:
            after = self._capture(position)
            if self._is_finite(after):
                self._good = after
                self.limit.reset()
                return True
        if policy == STOP:
            raise self._gone("The training loss is", position)
        self._undo("The training loss is" if not finite else "The weights are", position)
        return False

    @contextlib.contextmanager
    def ending_at_exceptions(self, poptorch: Any, position: Position) -> Iterator[None]:
        """A training call: a floating-point exception in it ends the run as a loss does that is not finite.

        Raises:
            Diverged: with ``device.fp_exceptions``, where the device stopped.
        """
        try:
            yield
        except poptorch.Error as error:
            if not self.config.device.fp_exceptions:
                raise
            reason = str(getattr(error, "message", "") or error).rstrip(".")
            after = position.after_call(self.config.training.device_iterations)
            raise self._gone(
                f"The device stopped (device.fp_exceptions: {reason}). A value was", after
            ) from error

    def _undo(self, what: str, position: Position) -> None:
        allowed = self.limit.count()
        if not allowed:
            done = "skipped" if self.config.training.on_divergence == SKIP else "rolled back"
            why = f" It was {done} {self.limit.most} times in a row (training.divergence_limit)."
            raise self._gone(what, position, why)
        if self.config.training.on_divergence == ROLLBACK:
            self._roll_back(what, position)
            return
        assert self._good is not None
        if self.config.optimizer.automatic_loss_scaling:
            self._keep_the_lowered_scaling(self._good, position)
        self._take(self._good)
        tell(f"{what} not finite at step {position.step}: this update is left out")

    def _keep_the_lowered_scaling(self, good: Checkpoint, position: Position) -> None:
        """What the device has learned of an overflow outlasts it, else every call would overflow again."""
        for name, value in self._capture(position).optimizer.items():
            if name.rpartition("/")[2].startswith(run_state.LOSS_SCALE):
                good.optimizer[name] = value

    def _roll_back(self, what: str, position: Position) -> None:
        self._wait()
        found, _ = self.run.processes.first(
            lambda: checkpoint.newest_sound(self.folder.checkpoints, position.step)
        )
        if found is None:
            raise self._gone(what, position)
        path, saved = found
        self._take(saved)
        self._rolled_back_at = position.step
        tell(
            f"{what} not finite at step {position.step}: back to the weights of {path.name}, on with the next images"
        )

    def _take(self, saved: Checkpoint) -> None:
        state = run_state.restore(self.run, saved)
        self.sent = Sent(state.learning_rate, state.loss_scaling)

    def _is_finite(self, state: Checkpoint) -> bool:
        return self.run.processes.first(lambda: is_finite(state, self.infinite))

    def _gone(self, what: str, position: Position, why: str = "") -> Diverged:
        self._wait()
        self.reporter.diverged(position.epoch, position.step)
        good = checkpoint_folder.list_checkpoints(self.folder.checkpoints, position.step)
        return gone(what, position.step, good[-1] if good else None, why)

    def _wait(self) -> None:
        with contextlib.suppress(NotFinite):
            self.writer.wait()

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _capture(self, position: Position) -> Checkpoint:
        reported = self.reporter.state()
        captured = run_state.capture(self.run, position, self.sent, reported)
        captured.state.update(
            undone=self.limit.state(),
            validation=self.validation,
            metric=self.config.validation.metric,
            environment=self.environment,
            images=self.images,
        )
        return captured

    def save(self, position: Position) -> None:
        """Write a checkpoint beside the training.

        Raises:
            CheckpointError: the file system refused this or the last one.
            Diverged: the weights are not finite.
        """
        if position == self.position or position.step == 0 or self.config.device.synthetic_data:
            return
        state = self._capture(position)._replace(config=self.config_text, metrics=self.reporter.metrics())
        if self.config.training.on_divergence == ROLLBACK:
            if not self._is_finite(state):  # found out at the same step in every run
                self._undo("The weights are", position)
                return
            if position.step != self._rolled_back_at:  # else nothing has been trained since
                self.limit.reset()
            state.state.update(undone=self.limit.state())
        self.wait()
        self.writer.submit(state)
        self.position = position

    def wait(self) -> None:
        """Until the last checkpoint is on the disk.

        Raises:
            CheckpointError: the file system refused.
            Diverged: the weights are not finite.
        """
        try:
            self.writer.wait()
        except NotFinite:
            raise self._gone("The weights are", self.position) from None

    def finish(self, position: Position) -> None:
        """See to it that ``position`` is on the disk."""
        self.save(position)
        self.wait()

    def validated(self, measured: Dict[str, float]) -> None:
        """The next checkpoint is of weights with these figures."""
        figures = {key: value for key, value in measured.items() if key != "images_per_second"}
        self.validation = run_state.only_finite(figures)

    def averaged(self, position: Position) -> None:
        """The weights have entered their average: what ``skip`` returns to has it, too."""
        if self._good is not None:
            self._good = self._capture(position)

    def __enter__(self) -> "Keeper":
        self.writer.__enter__()
        if self._branches_at is not None:  # the new folder must not depend on the old one
            self.save(self._branches_at)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.writer.__exit__(*exc_info)

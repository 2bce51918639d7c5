"""What a run tells while it goes on: sums the calls between two lines of metrics and passes them to tracking."""

import math
import time
from typing import Any, Dict, Optional

from ..config import Resolved
from ..tracking import Progress, Tracker, epoch_line, plot_run, results, tell
from ..tracking.powers import PowerRecord
from ..tracking.powers_picture import draw_run
from .run_folder import RunFolder

_DIVERGED = (
    "The training loss is not finite at step {}: lower optimizer.learning_rate or, in half precision, "
    "optimizer.loss_scaling. The run goes on, but hardly recovers."
)


class Reporter:
    """Metrics file, progress bar, table and picture of one run.

    Args:
        resolved: the configuration.
        folder: of the run.
        steps_per_epoch: weight updates of an epoch.
        resumed: ``state()`` of the interrupted run with its ``step``; None for a new run.
    """

    def __init__(
        self, resolved: Resolved, folder: RunFolder, steps_per_epoch: int, resumed: Optional[Dict[str, Any]]
    ) -> None:
        self.config = resolved.config
        self.name = resolved.name
        self.folder = folder
        self.images_per_step = self.config.global_batch_size
        done = resumed["step"] if resumed else 0
        images = steps_per_epoch * self.config.training.epochs * self.images_per_step
        self.tracker = Tracker(
            folder.path,
            self.config.logging,
            self.config.model_dump(),
            name=resolved.name,
            resume_step=done if resumed else None,
        )
        self.progress = Progress(
            images, self.config.training.epochs, done * self.images_per_step, self.config.logging.progress
        )
        # sums over the steps since the last training line; part of a checkpoint, so that lines do not change
        self.sums: Dict[str, float] = (resumed or {}).get("sums", {"loss": 0.0, "accuracy": 0.0, "steps": 0})
        self.since = time.perf_counter()
        self.timed_steps = 0
        self.last_learning_rate = (resumed or {}).get("learning_rate")
        self.power_record: Optional[PowerRecord] = None
        if self.config.logging.inspect_every is not None:
            self.power_record = PowerRecord(
                folder.path,
                _norm_name(self.config),
                self.config.logging.inspect_every,
                done if resumed else None,
                (resumed or {}).get("powers"),
            )
        self.diverged = False

    def announce(self, running_on: str, run: Any, source: Any, resumed_at: int) -> None:
        """What is about to run, in a few lines."""
        training = self.config.training
        parameters = sum(parameter.numel() for parameter in run.network.parameters())
        tell(f"{self.name}: {running_on}{', micro-batches of a weight update fused' if run.fused else ''}")
        tell(
            f"  {self.config.model.name}, {_norm_name(self.config)}, {parameters:,} parameters, precision "
            f"{training.precision}"
        )
        tell(
            f"  {source.name}: {len(source.train):,} training and {len(source.validation):,} validation images, "
            f"{source.channels} x {source.image_size} x {source.image_size}, {source.num_classes} classes"
        )
        tell(
            f"  global batch size {self.config.global_batch_size} = micro-batch {training.micro_batch_size} x "
            f"gradient accumulation {training.gradient_accumulation} x replicas {training.replicas}; "
            f"{training.device_iterations} weight update(s) a call; learning rate {run.base_learning_rate:g} "
            f"({256 * run.base_learning_rate / self.config.global_batch_size:g} per 256 images)"
        )
        tell(f"  run folder {self.folder.path}" + (f", resumed at step {resumed_at}" if resumed_at else ""))

    def training(self, epoch: int, step: int, learning_rate: float, loss: float, accuracy: float) -> None:
        """One training call: ``epoch`` counts epochs done, loss and accuracy are its means."""
        steps = self.config.training.device_iterations
        self.sums["loss"] += loss * steps
        self.sums["accuracy"] += accuracy * steps
        self.sums["steps"] += steps
        self.timed_steps += steps
        self.last_learning_rate = learning_rate
        if not (self.diverged or math.isfinite(loss)):
            self.diverged = True
            tell(_DIVERGED.format(step))
        self.progress.update(steps * self.images_per_step, epoch + 1, loss, accuracy)
        if step % self.config.logging.every_steps < steps:
            self._write_training_line(epoch, step)

    def _write_training_line(self, epoch: int, step: int) -> None:
        steps = self.sums["steps"]
        now = time.perf_counter()
        self.tracker.train(
            epoch + 1,
            step,
            self.sums["loss"] / steps,
            self.sums["accuracy"] / steps,
            self.last_learning_rate,
            self.timed_steps * self.images_per_step / (now - self.since),
        )
        self.sums = {"loss": 0.0, "accuracy": 0.0, "steps": 0}
        self.restart_clock()

    def powers(self, epoch: int, statistics: Any, moments: Any) -> None:
        """The statistics of every norm that one training call returned; ``epoch`` counts epochs done."""
        if self.power_record is not None and self.power_record.is_due(epoch + 1):
            images = self.images_per_step * self.config.training.device_iterations
            self.power_record.add(statistics.powers(moments, images))

    def end_epoch(self, epoch: int, step: int) -> None:
        """After ``epoch`` epochs, before what is measured then."""
        if self.power_record is not None and self.power_record.is_due(epoch):
            self.tracker.powers(epoch, step, self.power_record.end_epoch(epoch, step))

    def restart_clock(self) -> None:
        """Leave out what is not training from images per second."""
        self.since, self.timed_steps = time.perf_counter(), 0

    def validation(self, epoch: int, step: int, measured: Dict[str, float]) -> None:
        """A pass over the validation images after ``epoch`` epochs."""
        record = self.tracker.validation(epoch, step, learning_rate=self.last_learning_rate, **measured)
        tell(epoch_line(record, self.config.training.epochs))
        self.restart_clock()

    def state(self) -> Dict[str, Any]:
        """What a checkpoint needs so that the lines after a resume are those of an uninterrupted run."""
        state = {"sums": dict(self.sums), "learning_rate": self.last_learning_rate}
        return state if self.power_record is None else {**state, "powers": self.power_record.state()}

    def finish(self, stopped: bool) -> None:
        """Table of results and picture; after a stop, how to go on."""
        self.close()
        if stopped:
            tell(f"Stopped and saved. Go on with: ipu-train --config {self.folder.config} --resume")
            return
        print(results(self.tracker.records()), flush=True)
        pictures = []
        if self.config.logging.plots:
            pictures.append(plot_run(self.folder.path, title=self.name))
            if self.power_record is not None:
                pictures.append(draw_run(self.folder.path, self.name))
        tell(f"metrics  {self.folder.metrics}" + "".join(f"\npicture  {path}" for path in pictures if path))

    def close(self) -> None:
        self.progress.close()
        self.tracker.close()
        if self.power_record is not None:
            self.power_record.close()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()


def _norm_name(config: Any) -> str:
    return config.model.norm + ("+pn" if config.model.proxy_norm else "")

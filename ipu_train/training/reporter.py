"""What a run tells while it goes on: sums the calls between two lines of metrics and passes them to tracking."""

import sys
import time
from typing import Any, Callable, Dict, Optional

from ..config import Resolved
from ..models.proxy_norm import HELD
from ..outputs import going_on
from ..tracking import Progress, Tracker, epoch_line, plot_run, results, tell
from ..tracking.epoch_words import EpochWords
from ..tracking.metrics import VALIDATION
from ..tracking.patience import Patience
from ..tracking.powers import PowerRecord, forget_after
from ..tracking.powers_picture import draw_run
from .callbacks import Callbacks
from .resuming import TakenUp
from .run_folder import RunFolder, go_on


class Reporter:
    """Metrics file, progress bar, table and picture of one run.

    Args:
        resolved: the configuration.
        folder: of the run.
        steps_per_epoch: weight updates of an epoch.
        resumed: the interrupted run; None for a new one.
        put_back: makes the run folder again when somebody has deleted it.
        told: callbacks of the user's own.
    """

    def __init__(
        self,
        resolved: Resolved,
        folder: RunFolder,
        steps_per_epoch: int,
        resumed: Optional[TakenUp],
        put_back: Callable[[], None],
        told: Optional[Callbacks] = None,
    ) -> None:
        self.told = told or Callbacks()
        self.config = resolved.config
        self.name = resolved.name
        self.folder = folder
        self.images_per_step = self.config.global_batch_size
        self._put_back = put_back
        done = resumed.state.step if resumed else 0
        before = resumed.state.reported if resumed else {}
        images = steps_per_epoch * self.config.training.epochs * self.images_per_step
        self.tracker = Tracker(
            folder.path,
            self.config.logging,
            self.config.model_dump(),
            name=resolved.name,
            beginning=resumed.metrics if resumed else b"",
            put_back=self._restore_folder,
        )
        self.progress = Progress(
            images, self.config.training.epochs, done * self.images_per_step, self.config.logging.progress
        )
        validation = self.config.validation
        self.patience = Patience(validation.metric, validation.patience, resumed.metrics if resumed else b"")
        self.words = EpochWords(self.config.training.epochs, silent=self.progress.visible)
        self._steps_per_epoch = steps_per_epoch
        self._last_call = time.perf_counter()
        # sums over the steps since the last training line; part of a checkpoint, so that lines do not change
        self.sums: Dict[str, float] = before.get("sums", {"loss": 0.0, "accuracy": 0.0, "steps": 0})
        self.undone_updates: int = before.get("undone_updates", 0)
        self.since = time.perf_counter()
        self.timed_steps = 0
        self.last_learning_rate: Any = before.get("learning_rate")  # None before the first call
        self.power_record: Optional[PowerRecord] = None
        if self.config.logging.inspect_every is not None:
            self.power_record = PowerRecord(
                folder.path,
                _norm_name(self.config),
                self.config.logging.inspect_every,
                done if resumed else None,
                before.get("powers"),
            )
        elif resumed:
            forget_after(folder.path, done)

    def announce(self, running_on: str, run: Any, source: Any, note: str = "") -> None:
        """What is about to run, in a few lines."""
        training = self.config.training
        trained = [p for name, p in run.network.named_parameters() if name.rpartition(".")[2] not in HELD]
        parameters = sum(parameter.numel() for parameter in trained)
        together = "" if run.processes.alone else f", {run.processes.count} processes"
        fused = ", micro-batches of a weight update fused" if run.fused else ""
        tell(f"{self.name}: {running_on}{together}{fused}")
        tell(
            f"  {self.config.model.name}, {_norm_name(self.config)}, {parameters:,} parameters, precision "
            f"{training.precision}"
        )
        tell(
            f"  {source.name}: {len(source.train):,} training and {len(source.validation):,} validation images, "
            f"{source.channels} x {source.image_size} x {source.image_size}, {source.num_classes} classes"
            + (f"\n    {source.note}" if source.note else "")
        )
        tell(
            f"  global batch size {self.config.global_batch_size} = micro-batch {training.micro_batch_size} x "
            f"gradient accumulation {training.gradient_accumulation} x replicas {training.replicas}; "
            f"{training.device_iterations} weight update(s) a call; learning rate {run.base_learning_rate:g} "
            f"({256 * run.base_learning_rate / self.config.global_batch_size:g} per 256 images)"
        )
        if self.config.device.synthetic_data:
            tell("  device.synthetic_data: images/s is all that means anything here; no checkpoint is kept")
        tell(f"  run folder {self.folder.path}" + (f"\n  {note}" if note else ""))
        if self.has_ended:  # a run that ended early is taken up again
            tell(f"  {self._out_of_patience()}")
        try:
            self.told.started(self.folder.path)
        except BaseException:  # nothing else would close what has been opened
            self.close()
            raise

    def training(self, epoch: int, step: int, learning_rate: float, loss: float, accuracy: float) -> None:
        """One training call: ``epoch`` counts epochs done, loss and accuracy are its means."""
        steps = self.config.training.device_iterations
        self.sums["loss"] += loss * steps
        self.sums["accuracy"] += accuracy * steps
        self.sums["steps"] += steps
        self.timed_steps += steps
        self.last_learning_rate = learning_rate
        images = steps * self.images_per_step
        self.progress.update(images, epoch + 1, loss, accuracy)
        now, before = time.perf_counter(), self._last_call
        self._last_call = now
        self.words.add(step / self._steps_per_epoch, steps, images, loss, accuracy, now - before)
        if step % self.config.logging.every_steps < steps:
            self._write_training_line(epoch, step)

    def _write_training_line(self, epoch: int, step: int) -> None:
        steps = self.sums["steps"]
        now = time.perf_counter()
        more = {"undone_updates": self.undone_updates} if self.undone_updates else {}
        record = self.tracker.train(
            epoch + 1,
            step,
            self.sums["loss"] / steps if steps else float("nan"),
            self.sums["accuracy"] / steps if steps else float("nan"),
            self.last_learning_rate,
            self.timed_steps * self.images_per_step / (now - self.since),
            **more,
        )
        self.sums = {"loss": 0.0, "accuracy": 0.0, "steps": 0}
        self.undone_updates = 0
        self.told.training(record)
        self.restart_clock()

    def powers(self, epoch: int, statistics: Any, moments: Any) -> None:
        """The statistics of every norm that one training call returned; ``epoch`` counts epochs done."""
        if self.power_record is not None and self.power_record.is_due(epoch + 1):
            images = self.images_per_step * self.config.training.device_iterations
            self.power_record.add(statistics.powers(moments, images))

    def end_epoch(self, epoch: int, step: int) -> None:
        """After ``epoch`` epochs, before what is measured then."""
        self.words.end_epoch(epoch)
        if self.config.logging.every_steps > self._steps_per_epoch and self.sums["steps"]:
            self._write_training_line(epoch - 1, step)  # no epoch is without a line
        if self.power_record is not None and self.power_record.is_due(epoch):
            self.tracker.powers(epoch, step, self.power_record.end_epoch(epoch, step))

    def undone(self, epoch: int, step: int, learning_rate: float) -> None:
        """The weight updates of one training call, which are undone and count in no mean."""
        steps = self.config.training.device_iterations
        self.undone_updates += steps
        self.last_learning_rate = learning_rate
        self.progress.update(steps * self.images_per_step, epoch + 1)
        if step % self.config.logging.every_steps < steps:
            self._write_training_line(epoch, step)

    def diverged(self, epoch: int, step: int) -> None:
        """The last line of a run that ends here: it says so with losses that are no numbers."""
        self.sums = {
            "loss": float("nan"),
            "accuracy": self.sums["accuracy"],
            "steps": max(1, self.sums["steps"]),
        }
        self._write_training_line(epoch, step)

    def _restore_folder(self) -> None:
        self._put_back()
        tell(
            f"Somebody has deleted or replaced {self.folder.metrics}: it is there again, with all its lines."
        )

    def metrics(self) -> bytes:
        """All lines so far."""
        return self.tracker.content()

    def restart_clock(self) -> None:
        """Leave out what is not training from images per second."""
        self.since, self.timed_steps = time.perf_counter(), 0
        self._last_call = self.since

    def validation(self, epoch: int, step: int, measured: Dict[str, float]) -> bool:
        """A pass over the validation images after ``epoch`` epochs; True when the run is to end here."""
        record = self.tracker.validation(epoch, step, learning_rate=self.last_learning_rate, **measured)
        tell(epoch_line(record, self.config.training.epochs))
        ended = self.told.validation(record)
        if self.patience.see(record):
            tell(self._out_of_patience())
        self.restart_clock()
        return ended or self.has_ended

    def _out_of_patience(self) -> str:
        waited, metric = self.patience.waited, self.patience.metric
        return f"{metric} has not improved in {waited} validations (validation.patience): the run ends"

    @property
    def has_ended(self) -> bool:
        """Whether the run has waited long enough for a better validation."""
        return self.patience.is_exhausted

    @property
    def last_accuracy(self) -> float:
        """Of the last validation, also before a resume; 0 without one."""
        lines = reversed(self.tracker.records())
        return next((float(line["accuracy"]) for line in lines if line["split"] == VALIDATION), 0.0)

    def state(self) -> Dict[str, Any]:
        """What a checkpoint needs so that the lines after a resume are those of an uninterrupted run."""
        state = {
            "sums": dict(self.sums),
            "learning_rate": self.last_learning_rate,
            "undone_updates": self.undone_updates,
        }
        return state if self.power_record is None else {**state, "powers": self.power_record.state()}

    def stopped(self, saved: Optional[int]) -> None:
        """After a signal: what is saved and how to go on."""
        self.close()
        if saved is None:
            tell("Stopped before the first weight update: nothing to save.")
        else:
            tell(f"Stopped; all {saved} steps are saved. {go_on(self.folder)}")

    def finish(self) -> None:
        """Table of results and picture."""
        self.close()
        with going_on(sys.stdout):
            print(results(self.tracker.records(), self.config.validation.metric), flush=True)
        pictures = []
        if self.config.logging.plots:
            pictures.append(plot_run(self.folder.path, title=self.name))
            if self.power_record is not None:
                pictures.append(draw_run(self.folder.path, self.name))
        tell(f"metrics  {self.folder.metrics}" + "".join(f"\npicture  {path}" for path in pictures if path))

    def finished(self, status: int) -> None:
        """The very last."""
        self.told.finished(self.folder.path, status)

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

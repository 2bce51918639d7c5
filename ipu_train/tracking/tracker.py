"""Everything a run tells, in one place: the metrics file and, when asked, Weights & Biases."""

import contextlib
from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional

from ..config import LoggingConfig
from .csv_file import write_csv
from .metrics import TRAIN, VALIDATION, MetricsError, MetricsFile, PathLike, Record, read_metrics
from .tensorboard import TensorBoardRun
from .weights_and_biases import WandbRun


class Tracker:
    """Writes metrics of a run.

    Args:
        run_dir: run folder; ``metrics.jsonl`` is in it.
        logging: the logging section of the configuration.
        config: the whole configuration as plain values, for Weights & Biases.
        name: of the run there.
        put_back: called when somebody has deleted the run folder or its metrics, which are there again.
        beginning: lines of ``metrics.jsonl`` to go on after, those of a checkpoint; nothing for a new run.
    """

    def __init__(
        self,
        run_dir: PathLike,
        logging: LoggingConfig,
        config: Mapping[str, Any],
        name: Optional[str] = None,
        beginning: bytes = b"",
        put_back: Callable[[], None] = lambda: None,
    ):
        folder = Path(run_dir)
        self.path = folder / "metrics.jsonl"
        self._put_back = put_back
        self._file = MetricsFile(self.path, beginning)
        self._wandb: Optional[WandbRun] = None
        self._csv = folder / "metrics.csv" if logging.csv else None
        self._tensorboard: Optional[TensorBoardRun] = None
        if logging.tensorboard:
            self._tensorboard = TensorBoardRun(
                folder, max((r.get("step", 0) for r in self.records()), default=0)
            )
        if logging.wandb:
            self._wandb = WandbRun(folder, config, logging.wandb_project, logging.wandb_entity, name)

    def train(
        self,
        epoch: float,
        step: int,
        loss: float,
        accuracy: float,
        learning_rate: float,
        images_per_second: float,
        **more: Any,
    ) -> Record:
        """Means over the weight updates since the last training line.

        Args:
            epoch: number of the epoch, from 1 (a fraction is allowed).
            step: weight updates done.
            loss, accuracy: means; accuracy in 0..1.
            learning_rate: of the last weight update.
            images_per_second: training images in a second.
            more: further values, as numbers or text.
        """
        values = {
            "loss": loss,
            "accuracy": accuracy,
            "learning_rate": learning_rate,
            "images_per_second": images_per_second,
        }
        return self._write(TRAIN, epoch, step, {**values, **more})

    def validation(
        self,
        epoch: float,
        step: int,
        loss: float,
        accuracy: float,
        images_per_second: Optional[float] = None,
        learning_rate: Optional[float] = None,
        **more: Any,
    ) -> Record:
        """Means over all validation images after ``step`` weight updates; ``epoch`` counts epochs done."""
        values = {
            "loss": loss,
            "accuracy": accuracy,
            "learning_rate": learning_rate,
            "images_per_second": images_per_second,
        }
        given = {key: value for key, value in values.items() if value is not None}
        return self._write(VALIDATION, epoch, step, {**given, **more})

    def powers(self, epoch: float, step: int, values: Mapping[str, float]) -> None:
        """The power terms of every norm over an epoch, ``NAME/TERM`` -> value; a file of their own has them too."""
        if self._wandb is not None:
            self._wandb.log("powers", step, {"epoch": epoch, **values})

    def _write(self, split: str, epoch: float, step: int, values: Mapping[str, Any]) -> Record:
        record = {"split": split, "epoch": epoch, "step": step, **values}
        if self._file.ensure_in_place():
            self._put_back()
        self._file.write(**record)
        if self._wandb is not None:
            self._wandb.log(split, step, {"epoch": epoch, **values})
        if self._tensorboard is not None:
            self._tensorboard.log(split, step, {"epoch": epoch, **values})
        if self._csv is not None and split == VALIDATION:
            write_csv(self._csv, self.records())
        return record

    def content(self) -> bytes:
        """``metrics.jsonl`` so far."""
        if self._file.ensure_in_place():
            self._put_back()
        return self._file.content()

    def records(self) -> List[Record]:
        """All lines written so far, by an interrupted run too."""
        return read_metrics(self.path)

    def close(self) -> None:
        self._file.close()
        if self._csv is not None:
            with contextlib.suppress(MetricsError, OSError):  # somebody has deleted the folder
                write_csv(self._csv, self.records())
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.close()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

"""Metrics to TensorBoard: ``tensorboard --logdir runs`` shows all runs below a folder."""

from pathlib import Path
from typing import Any, Mapping

FOLDER = "tensorboard"


class TensorBoardError(ValueError):
    """TensorBoard that is not installed; the message says what to install."""


class TensorBoardRun:
    """Event files in ``tensorboard/`` of a run folder; ``split/key`` is the name of each curve.

    Args:
        run_dir: the run folder.
        step: weight updates done by the run that goes on, 0 where it begins, perhaps once more; what is there of
            later ones is hidden.

    Raises:
        TensorBoardError: the package is not installed.
    """

    def __init__(self, run_dir: Path, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise TensorBoardError(
                "logging.tensorboard needs the package tensorboard; install ipu-train[tensorboard]"
            ) from None
        self._writer: Any = SummaryWriter(str(run_dir / FOLDER), purge_step=step + 1)

    def log(self, split: str, step: int, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._writer.add_scalar(f"{split}/{key}", value, step)

    def close(self) -> None:
        self._writer.close()

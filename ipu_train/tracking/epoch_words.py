"""What a run without a progress bar says of its training: one line an epoch, and one a minute within it."""

import time

from .metrics import TRAIN
from .progress import tell
from .table import epoch_line

_SECONDS = 60.0  # between two lines within one epoch


class EpochWords:
    """Means over an epoch so far, told as a line when it ends or when the last line is a minute old.

    Args:
        epochs: of the run.
        silent: say nothing, because a progress bar shows it.
    """

    def __init__(self, epochs: int, silent: bool = False) -> None:
        self.epochs, self.silent = epochs, silent
        self._told = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self._loss = self._accuracy = self._seconds = 0.0
        self._steps = self._images = 0

    def add(
        self, epoch: float, steps: int, images: int, loss: float, accuracy: float, seconds: float
    ) -> None:
        """One training call of ``steps`` weight updates; ``epoch`` counts epochs done, with the part of this one."""
        self._steps, self._images, self._seconds = (
            self._steps + steps,
            self._images + images,
            self._seconds + seconds,
        )
        self._loss, self._accuracy = self._loss + loss * steps, self._accuracy + accuracy * steps
        if time.monotonic() - self._told >= _SECONDS:
            self._tell(round(epoch, 2))

    def end_epoch(self, epoch: int) -> None:
        """After ``epoch`` epochs; nothing is said of one whose weight updates were all undone."""
        if self._steps:
            self._tell(epoch)
        self._begin()

    def _tell(self, epoch: float) -> None:
        self._told = time.monotonic()
        if self.silent:
            return
        record = {
            "split": TRAIN,
            "epoch": epoch,
            "loss": self._loss / self._steps,
            "accuracy": self._accuracy / self._steps,
            "images_per_second": self._images / self._seconds if self._seconds else None,
        }
        tell(epoch_line(record, self.epochs))

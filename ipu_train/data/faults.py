"""What happens when an image cannot be used: the run ends, or goes on without it and counts."""

import logging

import numpy as np
import torch
from typing_extensions import Literal

from .errors import DataError

OnError = Literal["error", "skip"]
_LOG = logging.getLogger("ipu_train.data")
MOST_NAMED = 20  # images that cannot be used are named one by one up to here, then only counted


class Faults:
    """The images of one part of a data set that turned out not to be usable, known to all processes that load.

    Args:
        images: of the part.
        on_error: raise the error of the first one, or leave it out.
        most: share of the images that may be left out; one always may.
        left_out: images that were not even listed, because they are no files.
    """

    def __init__(self, images: int, on_error: OnError = "error", most: float = 0.01, left_out: int = 0):
        self.images, self.on_error, self.most, self.left_out = images, on_error, most, left_out
        # shared memory: workers find the images, and the main process counts them
        self._known = torch.zeros(max(images, 1), dtype=torch.uint8).share_memory_()

    @property
    def count(self) -> int:
        """Images that were found unusable up to now, by whichever process."""
        return int(self._known.sum()) + self.left_out

    @property
    def known(self) -> torch.Tensor:
        """1 for each image that was found unusable."""
        return self._known

    def know(self, known: torch.Tensor) -> None:
        """Take over what all processes of a training have found: positive for those images."""
        self._known.copy_(known > 0)

    @property
    def indices(self) -> np.ndarray:
        """Their numbers, rising."""
        return np.flatnonzero(self._known.numpy())

    def note(self, index: int, error: DataError) -> None:
        """Take notice of an image that cannot be used.

        Raises:
            DataError: nothing is left out, or too many images would be.
        """
        if self.on_error == "error":
            raise error
        if self._known[index]:
            return
        self._known[index] = 1
        self._say(error, self.count)

    def not_listed(self, error: DataError) -> None:
        """Take notice of something among the images that is no file.

        Raises:
            DataError: nothing is left out.
        """
        if self.on_error == "error":
            raise error
        self.left_out += 1
        self._say(error, self.left_out, check=False)

    def _say(self, error: DataError, count: int, check: bool = True) -> None:
        if count <= MOST_NAMED:
            _LOG.warning("skipped: %s (%d so far)", error, count)
        elif count & (count - 1) == 0:
            _LOG.warning("skipped: %d images so far", count)
        if check and count > max(1, self.most * self.images):
            raise DataError(
                f"{count} of {self.images:,} images cannot be used, more than data.most_skipped ({self.most:g}) "
                f"allows; the last one: {error}"
            )

    def __str__(self) -> str:
        return f"{self.count} of {self.images + self.left_out:,} images could not be used and were skipped"

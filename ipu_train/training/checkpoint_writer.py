"""Writes checkpoints beside the training: the loop waits only for the copy of the state, and for an earlier write."""

import math
import threading
from pathlib import Path
from typing import Any, Collection, Optional, Tuple

import torch

from . import checkpoint
from .checkpoint import Checkpoint


class NotFinite(ValueError):
    """A state with NaN in it, which is never written."""


class CheckpointWriter:
    """One thread that writes at most one checkpoint at a time.

    Leaving the context waits for the write at hand, except on a second Ctrl-C; an unfinished folder is no checkpoint,
    and the next start removes it.

    Args:
        folder: of the checkpoints.
        keep, keep_best: what stays there, see ``checkpoint_folder.prune``.
        infinite: see :func:`is_finite`.
    """

    def __init__(
        self, folder: Path, keep: int, keep_best: bool = True, infinite: Collection[str] = ()
    ) -> None:
        self.folder, self.keep, self.keep_best, self.infinite = folder, keep, keep_best, infinite
        self._thread: Optional[threading.Thread] = None
        self._error: Optional[BaseException] = None

    def submit(self, state: Checkpoint) -> None:
        """Begin to write a state that nobody changes any more.

        Raises:
            CheckpointError, NotFinite: of the write before.
        """
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(state,), name="checkpoint", daemon=True)
        self._thread.start()

    def _write(self, state: Checkpoint) -> None:
        try:
            if not is_finite(state, self.infinite):
                raise NotFinite(f"the state after step {state.state['step']} is not finite")
            checkpoint.save(self.folder, state, self.keep, self.keep_best)
        except BaseException as error:  # raised where the loop asks
            self._error = error

    @property
    def is_writing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Until what was submitted is on the disk.

        Raises:
            CheckpointError: the file system refused.
            NotFinite: the state held NaN.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: Any, *exc_info: Any) -> None:
        if kind is None:
            self.wait()
        elif self._thread is not None and not issubclass(kind, KeyboardInterrupt):
            self._thread.join()


def is_finite(state: Checkpoint, infinite: Collection[str] = ()) -> bool:
    """Whether no weight is NaN or infinite, and nothing of the optimizer NaN.

    Args:
        infinite: names of weights that may be infinite: buffers that were from the start, such as masks.
    """
    masks = [tensor for name, tensor in state.weights.items() if name in infinite]
    trained = (tensor for name, tensor in state.weights.items() if name not in infinite)
    weights = (value for tensor in trained for value in _extremes(tensor))
    others = (value for tensor in [*masks, *state.optimizer.values()] for value in _extremes(tensor))
    return all(math.isfinite(value) for value in weights) and not any(math.isnan(value) for value in others)


def _extremes(tensor: torch.Tensor) -> Tuple[float, ...]:
    """The least and the greatest value, both NaN where one is: one pass, where ``isfinite`` takes ten times as long."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return ()
    if tensor.element_size() < 4:
        tensor = tensor.float()  # torch 2.0 has no aminmax of half types on CPUs
    return tuple(value.item() for value in tensor.aminmax())

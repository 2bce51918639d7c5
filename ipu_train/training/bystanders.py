"""What the other processes of a training have in place of what writes the run folder: only the first one does."""

from typing import Any, Dict

from .checkpoint import Checkpoint
from .run_folder import Place


class _Context:
    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        pass


class NoClaim(_Context):
    """In place of :class:`~ipu_train.training.run_folder.Claim`."""

    def __init__(self, where: Place) -> None:
        self.place, self.folder = where, where.folder
        self.has_begun = False

    def write_config(self) -> None:
        pass

    def put_back(self) -> None:
        pass


class NoWriter(_Context):
    """In place of :class:`~ipu_train.training.checkpoint_writer.CheckpointWriter`."""

    is_writing = False

    def submit(self, state: Checkpoint) -> None:
        pass

    def wait(self) -> None:
        pass


class NoReporter(_Context):
    """In place of :class:`~ipu_train.training.reporter.Reporter`."""

    has_ended = False
    last_accuracy = 0.0

    def metrics(self) -> bytes:
        return b""

    def state(self) -> Dict[str, Any]:
        return {}

    def _nothing(self, *args: Any) -> None:
        pass

    announce = training = undone = diverged = validation = powers = end_epoch = _nothing
    restart_clock = stopped = finish = finished = close = _nothing

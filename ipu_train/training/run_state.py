"""A run's state to and from checkpoints, through the PopTorch API alone.

What makes a resumed run equal to an uninterrupted one: weights and buffers, optimizer state, the device's and the
host's random state, the position in the data (the order is a function of seed, epoch and position), the average of the
weights, and the sums behind the next line of metrics.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch

from . import checkpoint
from .assembly import Assembly
from .run_folder import RunFolder

_OPTIMIZER_PARTS = ("ipu_state", "ipu_param")


class Position(NamedTuple):
    """Where a run is: ``call`` training calls of ``epoch`` are done, ``step`` weight updates in all."""

    epoch: int = 0
    call: int = 0
    step: int = 0

    def after_call(self, device_iterations: int) -> "Position":
        return Position(self.epoch, self.call + 1, self.step + device_iterations)

    def next_epoch(self) -> "Position":
        return Position(self.epoch + 1, 0, self.step)


def save(run: Assembly, folder: RunFolder, keep: int, position: Position, reported: Dict[str, Any]) -> None:
    """Write a checkpoint of the run.

    Raises:
        CheckpointError: the file system refuses.
    """
    # After a validation the program is detached and everything is at home already: nothing may move then.
    run.training_model.copyWeightsToHostIfNeeded()
    optimizer = run.optimizer.state_dict()
    tensors = {
        f"{part}/{name}": value for part in _OPTIMIZER_PARTS for name, value in optimizer[part].items()
    }
    tensors["host_random_state"] = torch.get_rng_state()
    # Some twenty words a tile on hardware, megabytes in all: with the tensors, not in JSON.
    tensors["device_random_state"] = torch.tensor(run.training_model.rng_state, dtype=torch.int64)
    if run.average is not None:
        tensors.update({f"average/{name}": value for name, value in run.average.state_dict().items()})
    if run.host_update is not None:
        tensors.update({f"host_update/{name}": value for name, value in run.host_update.state_dict().items()})
    state = {
        **position._asdict(),
        "loss_scaling": float(run.optimizer.loss_scaling),
        "reported": reported,
    }
    checkpoint.save(folder.checkpoints, checkpoint.Checkpoint(run.network.state_dict(), tensors, state), keep)


def start(
    run: Assembly, folder: RunFolder, resume: bool, example: List[torch.Tensor]
) -> Tuple[Position, Optional[Dict[str, Any]]]:
    """Compile the training program for inputs like ``example``, with the newest checkpoint's state when resuming.

    Returns:
        Where the run is, and what its reporter needs to go on (None for a new run).

    Raises:
        CheckpointError: the checkpoint cannot be read, or is of another model.
    """
    path = folder.newest_checkpoint() if resume else None
    if path is None:
        run.training_model.compile(*example)
        return Position(), None
    saved = checkpoint.load(path)
    try:
        run.network.load_state_dict(saved.weights)
    except RuntimeError as error:
        raise checkpoint.CheckpointError(f"The checkpoint {path} is of another model: {error}") from error
    optimizer = run.optimizer.state_dict()
    optimizer.update({part: _part(saved.optimizer, part) for part in _OPTIMIZER_PARTS})
    run.optimizer.load_state_dict(optimizer)
    run.optimizer.loss_scaling = saved.state["loss_scaling"]
    if run.average is not None:
        run.average.load_state_dict(_part(saved.optimizer, "average"))
    if run.host_update is not None:
        run.host_update.load_state_dict(_part(saved.optimizer, "host_update"))
    run.training_model.compile(*example)
    run.training_model.rng_state = saved.optimizer["device_random_state"].tolist()
    torch.set_rng_state(saved.optimizer["host_random_state"])
    position = Position(saved.state["epoch"], saved.state["call"], saved.state["step"])
    return position, dict(saved.state["reported"], step=position.step)


def _part(tensors: Dict[str, torch.Tensor], prefix: str) -> Dict[str, torch.Tensor]:
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + "/")}

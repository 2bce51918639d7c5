"""A run's state to and from checkpoints, through the PopTorch API alone.

What makes a resumed run equal to an uninterrupted one: weights and buffers, optimizer state, the hyper-parameters that
the device was last told, the device's and the host's random state, the position in the data (the order is a function of
seed, epoch and position), the average of the weights, and the sums behind the next line of metrics.
"""

import math
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..config import Config
from .assembly import Assembly
from .checkpoint import Checkpoint, CheckpointError

_OPTIMIZER_PARTS = ("ipu_state", "ipu_param")
LOSS_SCALE = "lossScaleUpdate"  # how PopART's names of automatic loss scaling's state begin
_HOST_RANDOM, _DEVICE_RANDOM = "host_random_state", "device_random_state"


class Position(NamedTuple):
    """Where a run is: ``call`` training calls of ``epoch`` are done, ``step`` weight updates in all.

    With ``unvalidated`` the epochs before ``epoch`` are trained, and what follows the last of them is still to come.
    """

    epoch: int = 0
    call: int = 0
    step: int = 0
    unvalidated: bool = False

    def after_call(self, device_iterations: int) -> "Position":
        return self._replace(call=self.call + 1, step=self.step + device_iterations)

    def after_epoch(self) -> "Position":
        return Position(self.epoch + 1, 0, self.step, True)

    def after_validation(self) -> "Position":
        return self._replace(unvalidated=False)


class SavedState(BaseModel):
    """``state.json`` of a checkpoint: what is no tensor."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    format: int = 0
    epoch: int = Field(ge=0)
    call: int = Field(ge=0)
    step: int = Field(ge=0)
    unvalidated: bool
    learning_rate: Optional[float] = Field(description="last sent to the device; None before the first call")
    loss_scaling: float = Field(gt=0)
    reported: Dict[str, Any]
    undone: Dict[str, int] = {}
    validation_accuracy: Optional[float] = Field(
        None, description="in the place of validation, of earlier versions"
    )
    validation: Dict[str, float] = Field(
        {}, description="of these weights; empty where they were not validated"
    )
    metric: str = Field("accuracy", description="which of them the best checkpoint is chosen by")
    environment: Dict[str, Any] = {}
    images: Dict[str, Any] = Field({}, description="see ``Prepared``")

    @field_validator("validation", mode="before")
    @classmethod
    def _numbers_only(cls, figures: Any) -> Any:
        return only_finite(figures) if isinstance(figures, dict) else figures

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.call, self.step, self.unvalidated)


def only_finite(figures: Dict[str, Any]) -> Dict[str, Any]:
    """Of a validation: a loss that has overflowed says nothing, and is no reason to lose the weights."""
    return {
        key: value for key, value in figures.items() if not isinstance(value, float) or math.isfinite(value)
    }


def read_state(state: Dict[str, Any]) -> SavedState:
    """The checked form of a checkpoint's ``state``.

    Raises:
        CheckpointError: a field is missing, of another type or out of range.
    """
    try:
        return SavedState.model_validate(state)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"state.json is not that of a run: {field}: {first['msg']}") from None


class Sent(NamedTuple):
    """The hyper-parameters that the device was last told; None before the first time."""

    learning_rate: Optional[float] = None
    loss_scaling: Optional[float] = None


def send(run: Assembly, rate: float, scaling: Optional[float]) -> None:
    """Tell the device a learning rate and a loss scaling (None: it has chosen its own).

    Both reach it only through ``setOptimizer``.
    """
    groups = run.optimizer.param_groups
    if run.host_update is not None:
        groups = groups[:-1]  # the last one hands gradients to the host
    for group in groups:
        group["lr"] = rate
    if scaling is not None:
        run.optimizer.loss_scaling = scaling
    run.training_model.setOptimizer(run.optimizer)


def capture(run: Assembly, position: Position, sent: Sent, reported: Dict[str, Any]) -> Checkpoint:
    """The state of a run as a checkpoint that later steps do not change.

    After a validation the program is detached and everything is at home already: nothing may move then.
    """
    run.bring_home()
    optimizer = run.optimizer.state_dict()
    tensors = {
        f"{part}/{name}": value for part in _OPTIMIZER_PARTS for name, value in optimizer[part].items()
    }
    tensors[_HOST_RANDOM] = torch.get_rng_state()
    # Some twenty words a tile on hardware, megabytes in all: with the tensors, not in JSON.
    random_state = run.processes.random_state(run.training_model.rng_state)
    tensors[_DEVICE_RANDOM] = torch.tensor(random_state, dtype=torch.int64)
    if run.average is not None:
        tensors.update({f"average/{name}": value for name, value in run.average.state_dict().items()})
    if run.host_update is not None:
        tensors.update({f"host_update/{name}": value for name, value in run.host_update.state_dict().items()})
    state = {
        **position._asdict(),
        "learning_rate": sent.learning_rate,
        "loss_scaling": float(run.optimizer.loss_scaling),
        "reported": reported,
    }
    weights = {name: tensor.detach().clone() for name, tensor in run.network.state_dict().items()}
    return Checkpoint(weights, tensors, state)


def restore(run: Assembly, saved: Checkpoint) -> SavedState:
    """Put a checkpoint into a run whose training program is compiled and attached.

    The device is told the hyper-parameters that it was last told before the checkpoint, so that whatever is sent or
    not sent from here on means the same as in a run that was never stopped.

    Raises:
        CheckpointError: it is of another model or optimizer. The run is untouched then.
    """
    state = read_state(saved.state)
    _check_fits(run, saved, state.loss_scaling)
    if state.learning_rate is not None:
        send(run, state.learning_rate, state.loss_scaling)
    run.network.load_state_dict(saved.weights)
    run.training_model.copyWeightsToDevice()
    optimizer = dict(run.optimizer.state_dict())
    optimizer.update(_optimizer_as_now(saved, optimizer, state.loss_scaling))
    run.optimizer.load_state_dict(optimizer)
    run.training_model.setOptimizer(run.optimizer)  # the state goes up now, before anything else is told
    if run.average is not None:
        run.average.load_state_dict(_part(saved.optimizer, "average"))
    if run.host_update is not None:
        run.host_update.load_state_dict(_part(saved.optimizer, "host_update"))
    _restore_random_state(run, saved.optimizer[_DEVICE_RANDOM].tolist())
    torch.set_rng_state(saved.optimizer[_HOST_RANDOM])
    return state


def _restore_random_state(run: Assembly, saved: List[int]) -> None:
    """Continue the device's random streams: all that were saved, or this process's share of them.

    PopART has so many words for each replica, in their order, that other processes can take them up; on another number
    of replicas they stay as they are.
    """
    size, processes = len(run.training_model.rng_state), run.processes
    if len(saved) == size:
        run.training_model.rng_state = saved
    elif len(saved) == size * processes.count:
        run.training_model.rng_state = saved[processes.index * size :][:size]


def _optimizer_as_now(
    saved: Checkpoint, ours: Dict[str, Any], loss_scaling: float
) -> Dict[str, Dict[str, torch.Tensor]]:
    """The parts of a checkpoint's optimizer as this version has them.

    Hyper-parameters are sent in any case: those that this optimizer does not have, and those that the checkpoint lacks,
    do not matter. Earlier versions had other ones of SGD with momentum, beside a velocity without the loss scaling, and
    float16 state as float32.
    """
    state, sent = (_part(saved.optimizer, part) for part in _OPTIMIZER_PARTS)
    our_state, ours_sent = (ours[part] or {} for part in _OPTIMIZER_PARTS)
    for name in _unscaled_velocities(saved):
        state[name] = state[name] * loss_scaling
    for name, tensor in state.items():
        if name in our_state and (tensor.dtype, our_state[name].dtype) == (torch.float32, torch.float16):
            state[name] = tensor.half()
    kept = {name: sent.get(name, value) for name, value in ours_sent.items()}
    return dict(zip(_OPTIMIZER_PARTS, (state, kept)))


def _unscaled_velocities(saved: Checkpoint) -> List[str]:
    """Names of SGD's velocities in a checkpoint of an earlier version, which did not scale them as the loss is.

    They have the hyper-parameters of an SGD without momentum beside them.
    """
    names = _part(saved.optimizer, "ipu_state")
    sent = _part(saved.optimizer, "ipu_param")
    return [
        name
        for name in names
        if name.startswith("Accl1___")
        and f"scaledLearningRate0___specific___{name[len('Accl1___') :]}" in sent
    ]


def computed_otherwise_since(saved: Checkpoint, config: Config) -> List[str]:
    """Why going on from a checkpoint gives other bits than the version which made it would have given."""
    scaling = config.optimizer.loss_scaling != 1 or config.optimizer.loss_scaling_epochs
    return ["SGD's velocity is scaled as the loss is"] if scaling and _unscaled_velocities(saved) else []


def _check_fits(run: Assembly, saved: Checkpoint, loss_scaling: float) -> None:
    """Refuse tensors that are not those of this network and optimizer, by name, shape and type."""
    _compare("weights.safetensors", saved.weights, run.network.state_dict())
    optimizer = run.optimizer.state_dict()
    for part, theirs in _optimizer_as_now(saved, optimizer, loss_scaling).items():
        _compare("optimizer.safetensors", theirs, optimizer[part] or {})
    if run.host_update is not None:
        theirs = _part(saved.optimizer, "host_update")
        _compare("optimizer.safetensors", theirs, run.host_update.state_dict())
    if run.average is not None:
        averaged = _part(saved.optimizer, "average")
        count = averaged.pop("count", None)
        if count is None or count.numel() != 1:
            raise CheckpointError("optimizer.safetensors holds no average of the weights")
        if int(count) > 0:
            theirs = {name[len("average.") :]: value for name, value in averaged.items()}
            _compare("optimizer.safetensors", theirs, run.network.state_dict(), types=False)
    for name in (_HOST_RANDOM, _DEVICE_RANDOM):
        if name not in saved.optimizer:
            raise CheckpointError(f"optimizer.safetensors lacks {name}")
    if saved.optimizer[_HOST_RANDOM].shape != torch.get_rng_state().shape:
        raise CheckpointError(f"{_HOST_RANDOM} in optimizer.safetensors is not that of this torch")


def _compare(
    file: str, theirs: Dict[str, torch.Tensor], ours: Dict[str, torch.Tensor], types: bool = True
) -> None:
    different = sorted(set(theirs) ^ set(ours))
    if different:
        where = "is missing" if different[0] in ours else "is not in this run"
        raise CheckpointError(f"{file} is of another model or optimizer: {different[0]} {where}")
    for name, tensor in theirs.items():
        other = ours[name]
        if tensor.shape != other.shape or (types and tensor.dtype != other.dtype):
            found = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise CheckpointError(
                f"{file} is of another model or optimizer: {name} is {found} there and {tuple(other.shape)} "
                f"{other.dtype} in this run"
            )


def _part(tensors: Dict[str, torch.Tensor], prefix: str) -> Dict[str, torch.Tensor]:
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + "/")}

"""The training loop: one document, read from top to bottom.

One *call* of the training model makes ``device_iterations`` weight updates; one weight update consumes one global
batch (micro-batch size x gradient accumulation x replicas). A *step* is a weight update.
"""

from typing import Any, Dict, NamedTuple, Tuple

import torch

from . import checkpoint, device, run_folder
from .assembly import Assembly, assemble, example_batch
from .config import Config, Resolved
from .data import IGNORED_LABEL, EpochSampler, PaddedDataset, loader, open_data
from .optim import learning_rate
from .signals import StopRequest
from .tracking import Tracker


class TrainingError(ValueError):
    """A run that cannot start or go on; the message says why and what to do."""


class Position(NamedTuple):
    """Where a run is: ``call`` training calls of ``epoch`` are done, ``step`` weight updates in all."""

    epoch: int = 0
    call: int = 0
    step: int = 0

    def after_call(self, device_iterations: int) -> "Position":
        return Position(self.epoch, self.call + 1, self.step + device_iterations)

    def next_epoch(self) -> "Position":
        return Position(self.epoch + 1, 0, self.step)


class Outcome(NamedTuple):
    """How a run ended: the exit status, its folder and the last validation accuracy (0..1)."""

    status: int
    folder: run_folder.RunFolder
    accuracy: float


def train(resolved: Resolved, resume: bool = False) -> Outcome:
    """Run a configuration to its end, or until a signal asks to stop.

    Raises:
        ValueError: bad input anywhere (configuration, data, device, folder); the message is meant for the user.
    """
    config = resolved.config
    if config.device.threads is not None:
        torch.set_num_threads(config.device.threads)
    poptorch, running_on = device.choose(config)
    source = open_data(config.data, config.training.seed)
    run = assemble(resolved, poptorch, source)
    calls_per_epoch = _calls_per_epoch(config, source)
    folder = run_folder.find_to_resume(resolved) if resume else run_folder.create(resolved)
    position, tracked = _start(run, config, source, folder, resume)

    sampler = EpochSampler(len(source.train), config.training.seed, _images_per_call(config))
    training_data = loader(
        poptorch,
        run.training_options,
        source.train,
        sampler,
        config.training.micro_batch_size,
        config.data.workers,
    )
    tracker = Tracker(resolved, folder.path, calls_per_epoch * config.training.device_iterations, tracked)
    tracker.announce(running_on, run, source)

    accuracy = 0.0
    with StopRequest() as stop, tracker:
        while position.epoch < config.training.epochs and not stop.requested:
            sampler.set_position(position.epoch, position.call * _images_per_call(config))
            for images, labels in training_data:
                rate = _learning_rate(config, run, position, calls_per_epoch)
                _set_learning_rate(run, rate)
                loss, correct = run.training_model(images, labels)
                position = position.after_call(config.training.device_iterations)
                tracker.training(position.epoch, position.step, rate, *_means(config, loss, correct))
                epoch_is_over = position.call == calls_per_epoch
                if not epoch_is_over and (stop.requested or _saves_after(position.step, config)):
                    _save(run, folder, config, position, tracker)
                if epoch_is_over or stop.requested:
                    break
            if epoch_is_over:
                position = position.next_epoch()
                run.average.update(run.network, position.epoch)
                if config.validation.every_epochs and _due(
                    config.validation.every_epochs, position.epoch, config
                ):
                    accuracy = _validate(run, config, poptorch, source, position, tracker)
                if stop.requested or _due(config.checkpoint.every_epochs, position.epoch, config):
                    _save(run, folder, config, position, tracker)
    tracker.finish(stopped=stop.requested)
    return Outcome(stop.exit_status, folder, accuracy)


# -- parts of the loop -------------------------------------------------------------------------------------------


def _images_per_call(config: Config) -> int:
    return config.global_batch_size * config.training.device_iterations


def _calls_per_epoch(config: Config, source: Any) -> int:
    calls = len(source.train) // _images_per_call(config)
    if calls == 0:
        raise TrainingError(
            f"The {len(source.train)} training images do not fill one call of the device, which takes "
            f"{_images_per_call(config)}: micro_batch_size {config.training.micro_batch_size} x gradient_accumulation "
            f"{config.training.gradient_accumulation} x replicas {config.training.replicas} x device_iterations "
            f"{config.training.device_iterations}. Lower one of them in the section training."
        )
    return calls


def _learning_rate(config: Config, run: Assembly, position: Position, calls_per_epoch: int) -> float:
    steps_per_epoch = calls_per_epoch * config.training.device_iterations
    return learning_rate(
        config.schedule, run.base_learning_rate, position.step, steps_per_epoch, config.training.epochs
    )


def _set_learning_rate(run: Assembly, rate: float) -> None:
    """A changed learning rate reaches the device only through ``setOptimizer``."""
    if run.optimizer.param_groups[0]["lr"] != rate:
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        run.training_model.setOptimizer(run.optimizer)


def _means(config: Config, loss: torch.Tensor, correct: torch.Tensor) -> Tuple[float, float]:
    """Mean loss and accuracy of a call from OutputMode.Sum: sums over device iterations and accumulation."""
    training = config.training
    micro_batches = training.device_iterations * training.gradient_accumulation * training.replicas
    return loss.double().sum().item() / micro_batches, correct.double().sum().item() / _images_per_call(
        config
    )


def _saves_after(step: int, config: Config) -> bool:
    """Whether the last call passed a multiple of ``checkpoint.every_steps``."""
    every = config.checkpoint.every_steps
    return every is not None and step % every < config.training.device_iterations


def _due(every_epochs: int, epoch: int, config: Config) -> bool:
    """Whether something that happens every so many epochs (0: never), and at the end, is due after ``epoch`` epochs."""
    return epoch == config.training.epochs or (every_epochs > 0 and epoch % every_epochs == 0)


def _validate(
    run: Assembly, config: Config, poptorch: Any, source: Any, position: Position, tracker: Tracker
) -> float:
    """Loss and accuracy over the whole validation set; both programs take turns on the IPUs."""
    run.training_model.detachFromDevice()
    images_per_call = _validation_images_per_call(config)
    padded = PaddedDataset(source.validation, images_per_call)
    batches = loader(
        poptorch,
        run.validation_options,
        padded,
        EpochSampler(len(padded), batch_multiple=images_per_call, shuffle=False),
        config.validation_micro_batch_size,
        config.data.workers,
    )
    training = run.network.training
    run.validation_model.model.eval()  # read when the program is compiled
    loss = correct = images = 0.0
    for inputs, labels in batches:
        losses, hits = run.validation_model(inputs, labels)
        loss += losses.double().sum().item()
        correct += hits.double().sum().item()
        images += (labels != IGNORED_LABEL).sum().item()
    run.network.train(training)
    run.validation_model.detachFromDevice()
    tracker.validation(position.epoch, position.step, loss / images, correct / images)
    return correct / images


def _validation_images_per_call(config: Config) -> int:
    """Images of one call of the validation program."""
    return (
        config.validation_micro_batch_size
        * device.validation_device_iterations(config)
        * config.training.replicas
    )


# -- checkpoints -------------------------------------------------------------------------------------------------


def _save(
    run: Assembly, folder: run_folder.RunFolder, config: Config, position: Position, tracker: Tracker
) -> None:
    run.training_model.copyWeightsToHost()
    optimizer = run.optimizer.state_dict()
    tensors = {
        f"{part}/{name}": value
        for part in ("ipu_state", "ipu_param")
        for name, value in optimizer[part].items()
    }
    tensors["host_random_state"] = torch.get_rng_state()
    state: Dict[str, Any] = {
        "epoch": position.epoch,
        "call": position.call,
        "step": position.step,
        "device_random_state": list(run.training_model.rng_state),
        "loss_scaling": float(run.optimizer.loss_scaling),
        "tracker": tracker.state(),
    }
    checkpoint.save(
        folder.checkpoints,
        checkpoint.Checkpoint(run.network.state_dict(), tensors, state),
        config.checkpoint.keep,
    )


def _start(
    run: Assembly, config: Config, source: Any, folder: run_folder.RunFolder, resume: bool
) -> Position:
    """Compile the training program, with the state of the newest checkpoint when resuming."""
    newest = folder.newest_checkpoint() if resume else None
    if newest is None:
        run.training_model.compile(*example_batch(config, source))
        return Position()
    saved = checkpoint.load(newest)
    run.network.load_state_dict(saved.weights)
    state = run.optimizer.state_dict()
    for part in ("ipu_state", "ipu_param"):
        prefix = part + "/"
        state[part] = {n[len(prefix) :]: t for n, t in saved.optimizer.items() if n.startswith(prefix)}
    run.optimizer.load_state_dict(state)
    run.optimizer.loss_scaling = saved.state["loss_scaling"]
    run.training_model.compile(*example_batch(config, source))
    run.training_model.rng_state = saved.state["device_random_state"]
    torch.set_rng_state(saved.optimizer["host_random_state"])
    return Position(saved.state["epoch"], saved.state["call"], saved.state["step"])

"""The training loop: one document, read from top to bottom.

One *call* of the training model makes ``device_iterations`` weight updates; one weight update consumes one global
batch (micro-batch size x gradient accumulation x replicas). A *step* is a weight update.
"""

import json
from typing import Any, NamedTuple, Sequence, Tuple

import torch

from . import device, planning
from .config import Config, Resolved
from .data import DataSource, EpochSampler, loader, open_data
from .ipumodel.report import Report
from .optim import learning_rate, loss_scaling
from .training import initial_weights, run_folder, run_state
from .training.assembly import Assembly, assemble, example_batch, mixing_draws
from .training.reporter import Reporter
from .training.run_state import Position
from .training.signals import StopRequest
from .training.validation import compile_program, validate


class TrainingError(ValueError):
    """A run that cannot start or go on; the message says why and what to do."""


class Outcome(NamedTuple):
    """How a run ended: the exit status, its folder and the last validation accuracy (0..1, 0 without one)."""

    status: int
    folder: run_folder.RunFolder
    accuracy: float


def train(resolved: Resolved, resume: bool = False) -> Outcome:
    """Run a configuration to its end, or until a signal asks to stop.

    Raises:
        ValueError: bad input anywhere (configuration, data, device, folder); the message is meant for the user.
    """
    traces = planning.Traces()
    resolved = planning.with_splits(resolved, traces=traces)
    config = resolved.config
    if config.device.threads is not None:
        torch.set_num_threads(config.device.threads)
    poptorch, running_on = device.choose(config)
    source = open_data(config.data, config.training.seed)
    calls_per_epoch = _calls_per_epoch(config, len(source.train))
    report = _plan(resolved, source, traces, device.is_emulated(poptorch))
    run = assemble(resolved, poptorch, source)
    resume = resume or config.checkpoint.resume is not None
    if not resume:
        initial_weights.load(resolved, run.network)
    folder = run_folder.find_to_resume(resolved) if resume else run_folder.create(resolved)
    _write_plan(report, folder)
    if config.validation.every_epochs:
        with device.errors_of(poptorch, "validation"):
            compile_program(run, config, source)
    with device.errors_of(poptorch, "training"):
        position, reported = run_state.start(run, folder, resume, example_batch(config, source))

    sampler = EpochSampler(len(source.train), config.training.seed, _images_per_call(config))
    training_data = loader(
        poptorch,
        run.training_options,
        source.train,
        sampler,
        config.training.micro_batch_size,
        config.data.workers,
        mixing_draws(config, source.image_size),
    )
    steps_per_epoch = calls_per_epoch * config.training.device_iterations
    reporter = Reporter(resolved, folder, steps_per_epoch, reported)
    reporter.announce(running_on, run, source, position.step)

    accuracy = 0.0
    with StopRequest() as stop, reporter:
        while position.epoch < config.training.epochs and not stop.requested:
            sampler.set_position(position.epoch, position.call * _images_per_call(config))
            reporter.restart_clock()
            for batch in training_data:
                rate = learning_rate(
                    config.schedule,
                    run.base_learning_rate,
                    position.step,
                    steps_per_epoch,
                    config.training.epochs,
                )
                scaling = loss_scaling(config.optimizer, position.step, steps_per_epoch)
                _set_optimizer(run, config, rate, scaling)
                loss, correct, *moments = _call(run, batch, rate)
                position = position.after_call(config.training.device_iterations)
                reporter.training(position.epoch, position.step, rate, *_means(config, loss, correct))
                if moments:
                    reporter.powers(position.epoch, run.powers, moments[0])
                epoch_is_over = position.call == calls_per_epoch
                if not epoch_is_over and (stop.requested or _saves_after(position.step, config)):
                    _save(run, folder, config, position, reporter)
                if epoch_is_over or stop.requested:
                    break
            if epoch_is_over:
                position = position.next_epoch()
                reporter.end_epoch(position.epoch, position.step)
                _average(run, config, position.epoch)
                if config.validation.every_epochs and _due(
                    config.validation.every_epochs, position.epoch, config
                ):
                    measured = validate(run, config, poptorch, source)
                    accuracy = measured["accuracy"]
                    reporter.validation(position.epoch, position.step, measured)
                if stop.requested or _due(config.checkpoint.every_epochs, position.epoch, config):
                    _save(run, folder, config, position, reporter)
    reporter.finish(stopped=stop.requested)
    return Outcome(stop.exit_status, folder, accuracy)


# -- parts of the loop -------------------------------------------------------------------------------------------


def _images_per_call(config: Config) -> int:
    return config.global_batch_size * config.training.device_iterations


def _calls_per_epoch(config: Config, images: int) -> int:
    calls = images // _images_per_call(config)
    if calls == 0:
        training = config.training
        raise TrainingError(
            f"The {images} training images do not fill one call of the device, which takes "
            f"{_images_per_call(config)}: micro_batch_size {training.micro_batch_size} x gradient_accumulation "
            f"{training.gradient_accumulation} x replicas {training.replicas} x device_iterations "
            f"{training.device_iterations}. Lower one of them in the section training."
        )
    return calls


def _plan(resolved: Resolved, source: DataSource, traces: planning.Traces, emulated: bool) -> Report:
    """Predict memory and cycles; on the emulator, refuse what would not fit on IPUs.

    Raises:
        DoesNotFit: the emulator is asked for a program that no IPU could hold.
    """
    images = planning.Images(source.channels, source.image_size, source.num_classes)
    report = planning.predict(resolved, images, traces)
    if emulated and not report.fits and not resolved.config.device.allow_out_of_memory:
        raise planning.refuse(report, resolved, images)
    return report


def _write_plan(report: Report, folder: run_folder.RunFolder) -> None:
    folder.plan.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")


def _set_optimizer(run: Assembly, config: Config, rate: float, scaling: float) -> None:
    """A changed learning rate or loss scaling reaches the device only through ``setOptimizer``."""
    groups = run.optimizer.param_groups
    if run.host_update is not None:
        groups = groups[:-1]  # the last one hands gradients to the host
    changed = any(group["lr"] != rate for group in groups)
    for group in groups:
        group["lr"] = rate
    if not config.optimizer.automatic_loss_scaling and run.optimizer.loss_scaling != scaling:
        run.optimizer.loss_scaling = scaling
        changed = True
    if changed:
        run.training_model.setOptimizer(run.optimizer)


def _call(run: Assembly, batch: Sequence[torch.Tensor], rate: float) -> Any:
    """One training call: loss and hits as PopTorch returns them."""
    if run.host_update is not None:
        return run.host_update.call(run.training_model, run.optimizer, batch, rate)
    return run.training_model(*batch)


def _means(config: Config, loss: torch.Tensor, correct: torch.Tensor) -> Tuple[float, float]:
    """Mean loss and accuracy of a call from OutputMode.Sum: sums over device iterations and accumulation."""
    micro_batches = _images_per_call(config) // config.training.micro_batch_size
    return loss.double().sum().item() / micro_batches, correct.double().sum().item() / _images_per_call(
        config
    )


def _average(run: Assembly, config: Config, epoch: int) -> None:
    """Let the weights enter their average at the end of an epoch."""
    if run.average is not None and epoch > config.averaging.start_epoch:
        run.training_model.copyWeightsToHostIfNeeded()
        run.average.update(run.network.state_dict())


def _saves_after(step: int, config: Config) -> bool:
    """Whether the last call passed a multiple of ``checkpoint.every_steps``."""
    every = config.checkpoint.every_steps
    return every is not None and step % every < config.training.device_iterations


def _due(every_epochs: int, epoch: int, config: Config) -> bool:
    """Whether what happens every so many epochs (0: only then) and at the end is due after ``epoch`` epochs."""
    return epoch == config.training.epochs or (every_epochs > 0 and epoch % every_epochs == 0)


def _save(
    run: Assembly, folder: run_folder.RunFolder, config: Config, position: Position, reporter: Reporter
) -> None:
    run_state.save(run, folder, config.checkpoint.keep, position, reporter.state())

"""The training loop: one document, read from top to bottom.

One *call* of the training model makes ``device_iterations`` weight updates; one weight update consumes one global
batch (micro-batch size x gradient accumulation x replicas). A *step* is a weight update.
"""

import contextlib
import json
import math
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

import torch

from . import device, durable, pages, planning
from .config import Config, Resolved
from .data import DataError, DataSource, EpochSampler, loader, open_data
from .device_options import returned_share
from .ipumodel.report import Report
from .optim import learning_rate, loss_scaling
from .processes.alone import Processes
from .processes.connect import check_ipus, join
from .tracking import read_metrics, tell
from .training import initial_weights, resuming, run_folder
from .training.assembly import Assembly, assemble, example_batch, mixing_draws
from .training.bystanders import NoClaim, NoReporter
from .training.callbacks import Callback, Callbacks
from .training.in_step import FailElsewhere, InStep
from .training.keeper import Keeper
from .training.prepared import Prepared
from .training.reporter import Reporter
from .training.resuming import Calls
from .training.run_state import Position
from .training.signals import StopRequest
from .training.validation import compile_program, validate
from .training.watchdog import Watchdog


class TrainingError(ValueError):
    """A run that cannot start or go on; the message says why and what to do."""


class Outcome(NamedTuple):
    """How a run ended: the exit status, its folder and the last validation accuracy (0..1, 0 without one)."""

    status: int
    folder: run_folder.RunFolder
    accuracy: float


def train(
    resolved: Resolved, resume: run_folder.Resume = False, callbacks: Iterable[Callback] = ()
) -> Outcome:
    """Run a configuration to its end, or until a signal asks to stop; with the other processes of a launcher's.

    Args:
        resolved: the configuration.
        resume: go on with an earlier run: True where there must be one, "auto" where there is one.
        callbacks: of the user's own.

    Raises:
        ValueError: bad input anywhere (configuration, data, device, folder); the message is meant for the user.
        Diverged: the loss is no longer finite.
        ProcessLost, Elsewhere: another process of the training has ended.
    """
    processes, _ = join(lambda: resolved, device.will_be_emulated)
    threads = torch.get_num_threads()
    try:
        with processes:
            return train_in(processes, resolved, resume, callbacks)
    finally:
        torch.set_num_threads(threads)  # device.threads is this run's, not the program's


def train_in(
    processes: Processes,
    resolved: Resolved,
    resume: run_folder.Resume = False,
    callbacks: Iterable[Callback] = (),
) -> Outcome:
    """:func:`train` in processes that are connected already."""
    told = Callbacks(callbacks)
    where = processes.first(lambda: run_folder.place(resolved, resume))
    traces = planning.Traces()
    with processes.together():
        resolved = planning.with_splits(resolved, traces=traces)
        check_ipus(resolved)
        config = resolved.config
        if config.device.threads is not None:
            torch.set_num_threads(config.device.threads)
        poptorch, running_on = device.choose(config, processes)
    source = processes.in_turn(lambda: open_data(config.data, config.training.seed))
    with processes.together():
        calls = Calls(_calls_per_epoch(config, len(source.train)), config.training.device_iterations)
    report = _plan(processes, resolved, source, traces, device.is_emulated(poptorch))
    run = processes.in_turn(lambda: assemble(resolved, poptorch, source, processes))
    if not where.candidates:
        initial_weights.load(resolved, run.network, processes)
    with told, _claim(processes, where, resolved) as claim, Watchdog(
        config.logging.stalled_after
    ) as watchdog:
        claim.folder = processes.first(lambda: claim.folder)  # claimed under another name, perhaps
        processes.how_to_go_on = run_folder.go_on(claim.folder)
        if processes.is_first:
            _write_plan(report, claim.folder)
            _write_page(resolved, report, claim.folder)
        with processes.together():
            if config.validation.every_epochs:
                watchdog.at("compiling the validation program")
                with device.errors_of(poptorch, "validation"):
                    compile_program(run, config, source)
            watchdog.at("compiling the training program")
            with device.errors_of(poptorch, "training"):
                run.training_model.compile(*example_batch(config, source, processes))
        environment = resuming.environment(running_on, run.fused, source, processes.count)
        before = resuming.take_up(run, where, resolved, calls, environment, source.class_names)
        position = before.state.position if before is not None else Position()
        if before is not None:
            claim.write_config() if before.longer else claim.put_back()

        images_per_call = _images_per_call(config) // processes.count  # of this process
        sampler = EpochSampler(
            len(source.train),
            config.training.seed,
            images_per_call,
            process_index=processes.index,
            num_processes=processes.count,
            share=config.training.micro_batch_size * processes.local(config.training.replicas),
            repeats=config.data.repeats,
            micro_batch_size=config.training.micro_batch_size,
        )
        training_data = loader(
            poptorch,
            run.training_options,
            source.train,
            sampler,
            config.training.micro_batch_size,
            config.data.workers,
            mixing_draws(config, source.image_size),
        )
        steps_per_epoch = calls.per_epoch * calls.steps
        reporter: Any = NoReporter()
        if processes.is_first:
            reporter = Reporter(resolved, claim.folder, steps_per_epoch, before, claim.put_back, told)
        reporter.announce(running_on, run, source, where.note)
        accuracy, ended = processes.first(lambda: (reporter.last_accuracy, bool(reporter.has_ended)))
        claim.has_begun = True
        with StopRequest(processes=processes) as stop, reporter, Keeper(
            run, claim, resolved, reporter, environment, before, Prepared.of(source)
        ) as keeper, _saved_when_images_fail(keeper, lambda: position):
            told.at_failure = stop.end
            in_step = partial(InStep, stop=stop, processes=processes)
            while _goes_on(position, config, ended) and not stop.requested:
                if position.unvalidated:
                    every = config.validation.every_epochs
                    if every and _due(every, position.epoch, config):
                        keeper.wait()  # no process may be forked while a checkpoint is being written
                        watchdog.at(f"validating after step {position.step}")
                        measured = validate(run, config, poptorch, source, lambda: stop.requested, in_step)
                        if measured is None:  # made up for on resume
                            break
                        accuracy = measured["accuracy"]
                        keeper.validated(measured)
                        ended = processes.first(partial(_report, reporter, position, measured))
                    position = position.after_validation()
                    due = _due(config.checkpoint.every_epochs, position.epoch, config)
                    if ended or due or _saves_after(position.step, config):
                        keeper.save(position)
                    continue
                sampler.set_position(position.epoch, position.call * images_per_call)
                reporter.restart_clock()
                images = in_step(watchdog.waiting_for("images", training_data))
                for batch in images:
                    rate = learning_rate(
                        config.schedule,
                        run.base_learning_rate,
                        position.step,
                        steps_per_epoch,
                        config.training.epochs,
                    )
                    keeper.tell_device(rate, loss_scaling(config.optimizer, position.step, steps_per_epoch))
                    watchdog.at(f"training step {position.step + 1}")
                    with processes.connected(), keeper.ending_at_exceptions(poptorch, position):
                        results = _call(run, batch, rate)
                    images.fetch_ahead()
                    loss, correct = processes.outputs(results[:2], stop)
                    position = position.after_call(config.training.device_iterations)
                    if keeper.accepts(loss, position):
                        reporter.training(position.epoch, position.step, rate, *_means(config, loss, correct))
                        if len(results) > 2:
                            reporter.powers(position.epoch, run.powers, processes.sum(_sum_of(results[2])))
                    else:
                        reporter.undone(position.epoch, position.step, rate)
                    if position.call == calls.per_epoch:
                        position = position.after_epoch()
                        reporter.end_epoch(position.epoch, position.step)
                        if _average(run, config, position.epoch):
                            keeper.averaged(position)
                        break
                    if stop.requested:
                        break
                    if _saves_after(position.step, config):
                        keeper.save(position)
            watchdog.at("writing the last checkpoint")
            keeper.finish(position)
            stop.agree()
        _tell_skipped(processes, source)
        if told.failure is not None:
            reporter.stopped(position.step)
        with processes.together():
            told.raise_failure()
        if not _goes_on(position, config, ended):
            reporter.finish()
        else:
            reporter.stopped(position.step)
        reporter.finished(stop.exit_status)
        if processes.is_first:
            _write_page(resolved, report, claim.folder)
    return Outcome(stop.exit_status, claim.folder, accuracy)


# -- parts of the loop -------------------------------------------------------------------------------------------


def _goes_on(position: Position, config: Config, ended: bool) -> bool:
    """Whether there is something left to do."""
    return position.unvalidated or (position.epoch < config.training.epochs and not ended)


def _report(reporter: Any, position: Position, measured: Dict[str, float]) -> bool:
    """Tell a validation; True when that ends the run."""
    return bool(reporter.validation(position.epoch, position.step, measured))


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


def _plan(
    processes: Processes, resolved: Resolved, source: DataSource, traces: planning.Traces, emulated: bool
) -> Optional[Report]:
    """Predict memory and cycles; on the emulator, refuse what would not fit on IPUs. One process does it for all.

    Raises:
        DoesNotFit: the emulator is asked for a program that no IPU could hold.
    """
    predicted = []

    def predict() -> None:
        images = planning.Images(source.channels, source.image_size, source.num_classes)
        report = planning.predict(resolved, images, traces)
        if emulated and not report.may_fit and not resolved.config.device.allow_out_of_memory:
            raise planning.refuse(report, resolved, images)
        for line in resolved.config.without_effect():
            tell(f"warning: {line}")
        if not report.fits:
            tell(f"warning: {planning.doubt(report)}")
        predicted.append(report)

    processes.first(predict)
    return predicted[0] if predicted else None


def _claim(processes: Processes, where: run_folder.Place, resolved: Resolved) -> Any:
    """The run folder in the hands of the first process."""
    return run_folder.Claim(where, resolved) if processes.is_first else NoClaim(where)


def _write_plan(report: Optional[Report], folder: run_folder.RunFolder) -> None:
    assert report is not None  # the first process's
    durable.write(folder.plan, json.dumps(report.to_json(), indent=1) + "\n")


def _write_page(resolved: Resolved, report: Optional[Report], folder: run_folder.RunFolder) -> None:
    """The report page: the plan, and the metrics so far."""
    if resolved.config.logging.plots and report is not None:
        metrics = read_metrics(folder.metrics) if folder.metrics.exists() else []
        pages.write(folder.path / pages.PAGE_FILE, pages.run_contents(resolved, report, metrics))


def _call(run: Assembly, batch: Sequence[torch.Tensor], rate: float) -> Any:
    """One training call, as :meth:`Assembly.call` makes it."""
    return run.call(batch, rate)


@contextlib.contextmanager
def _saved_when_images_fail(keeper: Keeper, position: Callable[[], Position]) -> Iterator[None]:
    """An image that cannot be used ends the run, but does not cost it the steps since the last checkpoint."""
    failure: Optional[DataError] = None
    try:
        yield
        return
    except DataError as error:
        failure = error
    except FailElsewhere:
        pass
    keeper.finish(position())
    saved = f"saved at step {position().step}" if position().step else "before its first step"
    skipping = ", or with data.on_error=skip" if hasattr(keeper.config.data, "on_error") else ""
    with keeper.run.processes.together():
        if failure is not None:
            raise DataError(
                f"{failure}. The run ends {saved}; go on with --resume once that is mended{skipping}"
            ) from None


def _tell_skipped(processes: Processes, source: DataSource) -> None:
    for part, images in (("training", source.train), ("validation", source.validation)):
        if images.faults is not None and not processes.alone:
            images.faults.know(processes.sum(images.faults.known.int()))
        if images.faults is not None and images.faults.count:
            tell(f"{part}: {images.faults}")


def _means(config: Config, loss: torch.Tensor, correct: torch.Tensor) -> Tuple[float, float]:
    """Mean loss and accuracy of those micro-batches of a call whose results came back, added up or each."""
    images = _images_per_call(config) * returned_share(config)
    micro_batches = images / config.training.micro_batch_size
    # a few numbers: Python adds them up in the time of one of torch's operations
    return math.fsum(loss.flatten().tolist()) / micro_batches, math.fsum(correct.flatten().tolist()) / images


def _sum_of(moments: torch.Tensor) -> torch.Tensor:
    """Sum over micro-batches or images, in float64."""
    return moments.detach().sum(0, keepdim=True, dtype=torch.float64)


def _average(run: Assembly, config: Config, epoch: int) -> bool:
    """Let the weights enter their average at the end of an epoch; whether they did."""
    if run.average is None or epoch <= config.averaging.start_epoch:
        return False
    run.bring_home()
    run.average.update(run.network.state_dict())
    return True


def _saves_after(step: int, config: Config) -> bool:
    """Whether the last call passed a multiple of ``checkpoint.every_steps``."""
    every = config.checkpoint.every_steps
    return every is not None and step % every < config.training.device_iterations


def _due(every_epochs: int, epoch: int, config: Config) -> bool:
    """Whether what happens every so many epochs (0: only then) and at the end is due after ``epoch`` epochs."""
    return epoch == config.training.epochs or (every_epochs > 0 and epoch % every_epochs == 0)

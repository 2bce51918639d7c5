"""Loss and accuracy over all validation images, by an inference program over the weights in training.

`ipu-train evaluate` measures with the same function, so that both give the same figures to the last digit.
"""

import time
from typing import Any, Callable, Dict, Iterable, Optional

import torch

from .. import device
from ..config import Config
from ..data import IGNORED_LABEL, DataError, EpochSampler, ImageDataset, PaddedDataset, loader
from .assembly import Assembly


def images_per_call(config: Config) -> int:
    """Images of one call of the validation program, of all processes."""
    iterations = device.validation_device_iterations(config)
    return config.validation_micro_batch_size * iterations * config.training.replicas


def compile_program(run: Assembly, config: Config, source: Any) -> None:
    """Compile the validation program ahead of the training: what cannot be compiled shall not cost an epoch first."""
    images = images_per_call(config) // run.processes.count
    shape = (images, source.channels, source.image_size, source.image_size)
    run.validation_model.model.eval()
    run.validation_model.compile(
        torch.zeros(shape, dtype=torch.uint8), torch.zeros(images, dtype=torch.int64)
    )
    run.validation_model.detachFromDevice()
    run.training_model.model.train()


def validate(
    run: Assembly,
    config: Config,
    poptorch: Any,
    source: Any,
    broken_off: Callable[[], bool] = lambda: False,
    in_step: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Optional[Dict[str, float]]:
    """Mean loss, accuracy and top-5 accuracy, each image counted once; of the averaged weights too when there are any.

    The training and the validation program take turns on the IPUs.

    Args:
        broken_off: asked before each call; when it says so, as it must in all processes, nothing was measured, and
            None is returned.
        in_step: what the batches pass through, see :class:`~ipu_train.training.in_step.InStep`.
    """
    run.training_model.detachFromDevice()
    run.share_statistics()
    measured = measure(run, config, poptorch, source.validation, broken_off, in_step=in_step)
    if measured is not None and run.average is not None and run.average.count:
        current = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
        run.network.load_state_dict(run.average.weights())
        try:
            run.validation_model.copyWeightsToDevice()
            averaged = measure(run, config, poptorch, source.validation, broken_off, in_step=in_step)
        finally:  # what a run saves where an image fails are the weights in training
            run.network.load_state_dict(current)
        if averaged is None:
            measured = None
        else:
            measured.update({f"averaged_{key}": averaged[key] for key in ("loss", "accuracy", "top5")})
        run.validation_model.copyWeightsToDevice()
    if run.validation_model.isAttachedToDevice():  # not when it was broken off before its first call
        run.validation_model.detachFromDevice()
    return measured


def hits_in_top(logits: torch.Tensor, labels: torch.Tensor, most: int = 5) -> int:
    """Images whose label is among the ``most`` largest of their logits ``[N, K]``, or of all where K is smaller."""
    chosen = logits.topk(min(most, logits.shape[1]), dim=1).indices
    return int((chosen == labels.unsqueeze(1)).any(dim=1).sum())


def measure(
    run: Assembly,
    config: Config,
    poptorch: Any,
    images: ImageDataset,
    broken_off: Callable[[], bool] = lambda: False,
    each: Callable[[torch.Tensor, torch.Tensor], None] = lambda logits, labels: None,
    in_step: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Optional[Dict[str, float]]:
    """One pass over a data set with the weights that the validation program has, each image counted once.

    Args:
        broken_off: asked before each call; when it says so, None is returned.
        each: is given the logits ``[N, K]`` and labels ``[N]`` of each call's images (this process's share of them), in
            the data set's order.
        in_step: what the batches pass through.

    Returns:
        loss, accuracy and top5 (means, the latter in 0..1) and images_per_second.

    Raises:
        DataError: an image cannot be used, or all of them were skipped.
    """
    started = time.perf_counter()
    combined, processes = images_per_call(config), run.processes
    padded = PaddedDataset(images, combined)
    replicas = processes.local(config.training.replicas)
    batches = loader(
        poptorch,
        run.validation_options,
        padded,
        EpochSampler(
            len(padded),
            batch_multiple=combined // processes.count,
            shuffle=False,
            process_index=processes.index,
            num_processes=processes.count,
            share=config.validation_micro_batch_size * replicas,
        ),
        config.validation_micro_batch_size,
        config.data.workers,
    )
    loss = correct = in_top5 = count = 0.0
    for inputs, labels in in_step(batches):
        if broken_off():
            return None
        losses, hits, logits = run.validation_model(inputs, labels)
        loss += losses.double().sum().item()
        correct += hits.double().sum().item()
        counted = labels != IGNORED_LABEL
        logits, labels = logits[counted], labels[counted]
        in_top5 += hits_in_top(logits, labels)
        count += len(labels)
        each(logits, labels)
    loss, correct, in_top5, count = processes.sums([loss, correct, in_top5, count])
    if not count:  # all processes find that
        raise DataError(f"none of the {len(images)} images can be used, so nothing can be measured by them")
    return {
        "loss": loss / count,
        "accuracy": correct / count,
        "top5": in_top5 / count,
        "images_per_second": count / (time.perf_counter() - started),
    }

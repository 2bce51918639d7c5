"""Loss and accuracy over all validation images, by an inference program over the weights in training."""

import time
from typing import Any, Callable, Dict, Optional

import torch

from .. import device
from ..config import Config
from ..data import IGNORED_LABEL, EpochSampler, PaddedDataset, loader
from .assembly import Assembly


def images_per_call(config: Config) -> int:
    """Images of one call of the validation program."""
    iterations = device.validation_device_iterations(config)
    return config.validation_micro_batch_size * iterations * config.training.replicas


def compile_program(run: Assembly, config: Config, source: Any) -> None:
    """Compile the validation program ahead of the training: what cannot be compiled shall not cost an epoch first."""
    images = images_per_call(config)
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
) -> Optional[Dict[str, float]]:
    """Mean loss and accuracy, each image counted once; of the averaged weights too when there are any.

    The training and the validation program take turns on the IPUs.

    Args:
        broken_off: asked before each call; when it says so, nothing was measured, and None is returned.
    """
    run.training_model.detachFromDevice()
    measured = _measure(run, config, poptorch, source, broken_off)
    if measured is not None and run.average is not None and run.average.count:
        current = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
        run.network.load_state_dict(run.average.weights())
        run.validation_model.copyWeightsToDevice()
        averaged = _measure(run, config, poptorch, source, broken_off)
        if averaged is None:
            measured = None
        else:
            measured.update(averaged_loss=averaged["loss"], averaged_accuracy=averaged["accuracy"])
        run.network.load_state_dict(current)
        run.validation_model.copyWeightsToDevice()
    if run.validation_model.isAttachedToDevice():  # not when it was broken off before its first call
        run.validation_model.detachFromDevice()
    return measured


def _measure(
    run: Assembly, config: Config, poptorch: Any, source: Any, broken_off: Callable[[], bool]
) -> Optional[Dict[str, float]]:
    started = time.perf_counter()
    combined = images_per_call(config)
    padded = PaddedDataset(source.validation, combined)
    batches = loader(
        poptorch,
        run.validation_options,
        padded,
        EpochSampler(len(padded), batch_multiple=combined, shuffle=False),
        config.validation_micro_batch_size,
        config.data.workers,
    )
    loss = correct = 0.0
    images = 0
    for inputs, labels in batches:
        if broken_off():
            return None
        losses, hits = run.validation_model(inputs, labels)
        loss += losses.double().sum().item()
        correct += hits.double().sum().item()
        images += int((labels != IGNORED_LABEL).sum())
    return {
        "loss": loss / images,
        "accuracy": correct / images,
        "images_per_second": images / (time.perf_counter() - started),
    }

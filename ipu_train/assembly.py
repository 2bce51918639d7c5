"""From a configuration to the objects that the training loop works with."""

from typing import Any, List, NamedTuple, Optional

import torch

from . import device
from .config import Config, Resolved, nearest
from .models import build, is_batch_independent, norm_names, weight_decay_exempt
from .optim import WeightAverage, base_learning_rate, build_average, build_optimizer
from .program import Normalise, TrainingProgram, ValidationProgram

PRECISIONS = {  # precision: (dtype of activations, dtype of weights)
    "32.32": (torch.float32, torch.float32),
    "16.32": (torch.float16, torch.float32),
    "16.16": (torch.float16, torch.float16),
}


class Assembly(NamedTuple):
    """What is trained, and the two executors that do it.

    Attributes:
        network: the bare network; its ``state_dict`` is what checkpoints hold.
        optimizer: of ``poptorch.optim``.
        training_model, validation_model: PopTorch executors over the same weights.
        training_options, validation_options: frozen, for the data loaders.
        base_learning_rate: highest learning rate, scaled to the global batch size.
        fused: whether the emulator runs micro-batches of one weight update together.
        average: of the weights over the epochs; None when none is asked for.
    """

    network: torch.nn.Module
    optimizer: Any
    training_model: Any
    validation_model: Any
    training_options: Any
    validation_options: Any
    base_learning_rate: float
    fused: bool
    average: Optional[WeightAverage]


def build_network(resolved: Resolved, num_classes: int, channels: int) -> torch.nn.Module:
    """The network, initialised from ``training.seed``.

    Raises:
        ConfigError: a model, norm or option that the zoo does not know.
    """
    norm = resolved.config.model.norm
    if norm not in norm_names():
        near = nearest(norm, norm_names())
        hint = f'; did you mean "{near}"?' if near else ""
        message = f"no norm is called {norm}{hint} (norms: {', '.join(norm_names())})"
        raise resolved.error("model.norm", message)
    torch.manual_seed(resolved.config.training.seed)
    try:
        return _build(resolved.config, num_classes, channels)
    except (ValueError, TypeError) as error:
        raise resolved.error("model.name", str(error)) from error


def _build(config: Config, num_classes: int, channels: int) -> torch.nn.Module:
    model = config.model
    return build(
        model.name,
        num_classes=model.num_classes or num_classes,
        norm=model.norm,
        norm_groups=model.norm_groups,
        norm_eps=model.norm_eps,
        proxy_norm=bool(model.proxy_norm),
        proxy_norm_eps=model.proxy_norm_eps,
        proxy_norm_expectation=model.proxy_norm_expectation,
        proxy_norm_quantiles=model.proxy_norm_quantiles or 200,
        in_channels=channels,
        **model.options,
    )


def assemble(resolved: Resolved, poptorch: Any, source: Any) -> Assembly:
    """Build network, optimizer and executors for the images of ``source``.

    Raises:
        ValueError: the configuration asks for what the zoo or the device does not have.
    """
    config = resolved.config
    activations, weights = PRECISIONS[config.training.precision]
    network = build_network(resolved, source.num_classes, source.channels).to(weights)
    device.use_proxy_norm_kernel(poptorch, network, config)
    device.place_on_ipus(poptorch, network, config.device.pipeline_splits)
    device.mark_checkpoints(poptorch, network, config.device.recompute_checkpoints)
    normalise = Normalise(source.mean, source.std, activations)

    rate = base_learning_rate(config.optimizer, config.global_batch_size)
    optimizer = build_optimizer(
        poptorch, network.named_parameters(), config.optimizer, rate, weight_decay_exempt
    )
    fused = fuses_micro_batches(config, poptorch, network)
    training_options = device.training_options(poptorch, config, fused)
    validation_options = device.validation_options(poptorch, config)
    training_program = TrainingProgram(poptorch, normalise, network, config.training.label_smoothing)
    validation_program = ValidationProgram(normalise, network)
    return Assembly(
        network,
        optimizer,
        poptorch.trainingModel(training_program.train(), training_options, optimizer),
        poptorch.inferenceModel(validation_program, validation_options),
        training_options,
        validation_options,
        rate,
        fused,
        build_average(config.averaging),
    )


def fuses_micro_batches(config: Config, poptorch: Any, network: torch.nn.Module) -> bool:
    """Whether running several micro-batches as one batch computes the same: no image may look at another."""
    wanted = config.device.fuse_micro_batches == "auto" and device.is_emulated(poptorch)
    return wanted and is_batch_independent(network)


def example_batch(config: Config, source: Any) -> List[torch.Tensor]:
    """Zeros in the shapes and dtypes of one training call, to compile with."""
    images = config.global_batch_size * config.training.device_iterations
    shape = (images, source.channels, source.image_size, source.image_size)
    return [torch.zeros(shape, dtype=torch.uint8), torch.zeros(images, dtype=torch.int64)]

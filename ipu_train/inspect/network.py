"""The power terms of a configuration's network, over its training images."""

from typing import Any, List, Tuple

import torch

from .. import device
from ..config import Resolved
from ..data import DataSource, EpochSampler, loader
from ..network import build_network
from ..sweep.points import norm_of
from ..tracking.powers import Layer
from ..training import initial_weights
from ..training.assembly import PRECISIONS
from ..training.program import Normalise
from .errors import InspectError
from .program import MomentsProgram, as_in_training
from .records import layers_of


def prepared(
    resolved: Resolved, poptorch: Any, source: DataSource
) -> Tuple[torch.nn.Module, torch.nn.Module]:
    """The network, as in training and placed on its IPUs, and what normalises its images."""
    config = resolved.config
    activations, weights = PRECISIONS[config.training.precision]
    network = build_network(resolved, source.num_classes, source.channels).to(weights)
    initial_weights.load(resolved, network)
    device.place_on_ipus(poptorch, network, config.device.pipeline_splits)
    return as_in_training(network), Normalise(source.mean, source.std, activations)


def compiled(poptorch: Any, program: torch.nn.Module, options: Any, source: DataSource, images: int) -> Any:
    """The executor of a program that takes that many images a call."""
    model = poptorch.inferenceModel(program, options)
    with device.errors_of(poptorch, "inspection"):
        model.compile(
            torch.zeros(images, source.channels, source.image_size, source.image_size, dtype=torch.uint8)
        )
    return model


def inspect_network(
    resolved: Resolved, poptorch: Any, source: DataSource, images: int
) -> Tuple[List[Layer], int]:
    """The terms at each norm, and the number of images: that asked for, in whole calls of the device.

    The first training images in the order of the first epoch, changed as in training. Batch norm sees one micro-batch.

    Raises:
        InspectError: fewer training images than one call takes.
        ConfigError: weights or a model that do not fit.
    """
    config = resolved.config
    network, normalise = prepared(resolved, poptorch, source)
    program = MomentsProgram(network, normalise)
    if not program.statistics.names:
        raise InspectError(f"{config.model.name} with norm {config.model.norm} has {program.statistics.NONE}")
    options = device.inspection_options(poptorch, config)
    micro_batch = config.training.micro_batch_size
    combined = micro_batch * config.ipus_per_replica * config.training.replicas
    if len(source.train) < combined:
        raise InspectError(
            f"one call of the device takes {combined} images, and there are {len(source.train)}; lower "
            "training.micro_batch_size or training.replicas"
        )
    calls = min(-(-images // combined), len(source.train) // combined)
    sampler = EpochSampler(len(source.train), config.training.seed, combined)
    model = compiled(poptorch, program, options, source, combined)
    moments = 0
    batches = loader(poptorch, options, source.train, sampler, micro_batch, config.data.workers)
    for call, (inputs, _) in enumerate(batches):
        if call == calls:
            break
        moments = moments + model(inputs).double().sum(0, keepdim=True)
    used = calls * combined
    return layers_of(norm_of(resolved), program.statistics.powers(moments, used)), used

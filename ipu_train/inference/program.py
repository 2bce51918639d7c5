"""The inference program of a trained network, through the PopTorch API."""

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import torch

from .. import device, planning
from ..config import Resolved
from ..data import DataSource, ImageDataset, open_data
from ..data.datasets import ArrayImages
from ..training import initial_weights
from ..training.assembly import Assembly, assemble
from ..training.prepared import Prepared
from ..training.validation import compile_program, measure
from .errors import UseError
from .trained import Trained

Each = Callable[[torch.Tensor, torch.Tensor], None]


class Program(NamedTuple):
    """A network that answers, compiled for its device.

    Attributes:
        resolved: the configuration that it runs with.
        poptorch: what runs it.
        running_on: that in words.
        run: executors and the network, which has the trained weights.
        source: shapes, classes and normalisation; its images are those asked for at opening, or none.
        prepared: how images are prepared.
    """

    resolved: Resolved
    poptorch: Any
    running_on: str
    run: Assembly
    source: DataSource
    prepared: Prepared

    def measure(self, images: ImageDataset, each: Each = lambda logits, labels: None) -> Dict[str, float]:
        """loss, accuracy, top5 and images_per_second over a data set; see ``training.validation.measure``."""
        measured = measure(self.run, self.resolved.config, self.poptorch, images, each=each)
        assert measured is not None
        return measured


def prepared_of(trained: Trained) -> Tuple[Prepared, Optional[DataSource]]:
    """How images are prepared: as the checkpoint says, else as the configured data does, which is opened for that."""
    if trained.prepared is not None:
        return trained.prepared, None
    source = open_source(trained.resolved)
    return Prepared.of(source), source


def open_source(resolved: Resolved) -> DataSource:
    """The configured images. Training images, which nobody asks for here, are not decoded beforehand."""
    if "cache" in type(resolved.config.data).model_fields and resolved.config.data.cache == "auto":  # type: ignore
        resolved = resolved.changed(["data.cache=false"])
    return open_data(resolved.config.data, resolved.config.training.seed)


def validation_images(trained: Trained) -> Tuple[DataSource, Prepared]:
    """The configured data, normalised as in training, whose classes are those that the model knows.

    Raises:
        UseError: it has other classes, or images of another kind.
        DataError: it cannot be opened.
    """
    source = open_source(trained.resolved)
    prepared = trained.prepared or Prepared.of(source)
    if source.class_names != prepared.class_names:
        strange = [name for name in source.class_names if name not in prepared.class_names]
        named = f"such as {strange[0]}" if strange else "in another order or number"
        raise UseError(
            f"the images of {source.name} have other classes than the model was trained on ({named}; it knows "
            f"{_some(prepared)}). Folders with some of its classes are evaluated with --data FOLDER"
        )
    if (source.channels, source.image_size) != (prepared.channels, prepared.image_size):
        raise UseError(
            f"the images of {source.name} are {source.channels} x {source.image_size} x {source.image_size}, and the "
            f"model was trained on {prepared.channels} x {prepared.image_size} x {prepared.image_size}; set "
            "data.image_size, or use --data FOLDER"
        )
    return source._replace(mean=tuple(prepared.mean), std=tuple(prepared.std)), prepared


def _some(prepared: Prepared) -> str:
    names = prepared.class_names
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def without_images(prepared: Prepared) -> DataSource:
    """What a network must know of images, without images."""
    import numpy as np

    size = prepared.image_size
    none = ArrayImages(np.empty((0, prepared.channels, size, size), np.uint8), np.empty(0, np.int64))
    return DataSource(
        prepared.source,
        none,
        none,
        len(prepared.class_names),
        prepared.channels,
        size,
        tuple(prepared.mean),
        tuple(prepared.std),
        list(prepared.class_names),
        prepared.centre_share,
    )


def compiled(trained: Trained, source: DataSource, prepared: Prepared) -> Program:
    """The program that training validates with, with the trained weights in it.

    Raises:
        ConfigError: weights or a model that do not fit.
        DeviceError: the device is not there, or refuses the program.
    """
    resolved = planning.with_splits(trained.resolved)
    config = resolved.config
    if config.device.threads is not None:
        torch.set_num_threads(config.device.threads)
    poptorch, running_on = device.choose(config)
    run = assemble(resolved, poptorch, source)
    if trained.weights is None:
        initial_weights.load(resolved, run.network)
    else:
        put(trained, run.network)
    with device.errors_of(poptorch, "validation"):
        compile_program(run, config, source)
    return Program(resolved, poptorch, running_on, run, source, prepared)


def put(trained: Trained, network: torch.nn.Module) -> None:
    """Load the trained weights into a network, in place.

    Raises:
        UseError: they are of another network.
    """
    assert trained.weights is not None
    different = initial_weights.difference(trained.weights, network.state_dict())
    if different is not None:
        raise UseError(f"{trained.words}: are not of the network that its configuration builds: {different}")
    network.load_state_dict(trained.weights)

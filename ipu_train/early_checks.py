"""What a configuration and the file system tell before anything is loaded, opened or built.

:func:`check` imports neither torch nor numpy, so that a mistake is answered at once.
"""

import os
from pathlib import Path
from typing import Dict, NamedTuple, Optional

from . import places
from .config import Resolved
from .config.data import Downloaded, Generated, ImageFolder, Registered, Synthetic
from .training import checkpoint_folder, weights_file
from .training.run_folder import CHECKPOINTS

# A network with more parameters than this is a typing error: 8 GB of weights, and the largest recipe has 45 million.
MOST_PARAMETERS = 2**31


class Known(NamedTuple):
    """What is known of a source before it is opened: images, of those for training, channels, side in pixels."""

    images: int
    training: int
    channels: int
    side: int


_DOWNLOADED: Dict[str, Known] = {
    "cifar10": Known(60_000, 50_000, 3, 32),
    "cifar100": Known(60_000, 50_000, 3, 32),
    "fashion_mnist": Known(70_000, 60_000, 1, 28),
}
_DIGITS = Known(1_797, 1_797, 1, 8)


def check(resolved: Resolved, processes: int = 1, is_first: bool = True) -> None:
    """Refuse what needs no torch to be refused: folders and files that are not there, and sizes beyond this machine.

    ``model.weights``, which a run that goes on does not read, are for :func:`check_weights`.

    Args:
        processes: that share the training.
        is_first: whether this is the one that writes the run folder.

    Raises:
        ConfigError: with the place where the value is written.
    """
    _check_paths(resolved, is_first)
    _check_batches(resolved)
    _check_memory(resolved, processes)


def _check_paths(resolved: Resolved, is_first: bool) -> None:
    config = resolved.config
    if isinstance(config.data, ImageFolder):
        _check_image_folder(resolved, config.data)
    if isinstance(config.data, Downloaded) and config.data.path is not None:
        _check_folder_can_be(resolved, "data.path", config.data.path)
    if config.run_dir is not None and is_first:
        _check_folder_can_be(resolved, "run_dir", config.run_dir)
    check_device_folders(resolved)


def check_device_folders(resolved: Resolved) -> None:
    """The folders that a compiler writes to can be made.

    Raises:
        ConfigError: with the place where the value is written.
    """
    device = resolved.config.device
    for path, value in (
        ("device.executable_cache", device.executable_cache),
        ("device.profile", device.profile),
    ):
        if value is not None:
            _check_folder_can_be(resolved, path, value)


def _check_image_folder(resolved: Resolved, data: ImageFolder) -> None:
    root = Path(os.path.expanduser(data.path))
    why = places.without_images(root, data.name)
    if why is not None:
        raise resolved.error("data.path", f"{data.path}: {why}")
    for key, name in (("train_split", data.train_split), ("validation_split", data.validation_split)):
        if name is not None and data.name == "imagefolder" and not (root / name).is_dir():
            raise resolved.error(f"data.{key}", f"{root / name}: there is no such folder")


def _check_folder_can_be(resolved: Resolved, path: str, value: str) -> None:
    """A folder that is there or can be made; a file in its way, or a place without permission, is refused."""
    why = places.unwritable(Path(os.path.expanduser(value)))
    if why is not None:
        advice = "choose another folder" if why.startswith("nothing") else "name a folder"
        raise resolved.error(path, f"{value}: {why}; {advice}")


def check_weights(resolved: Resolved) -> None:
    """``model.weights`` is a run folder with a checkpoint, a checkpoint, or a file that begins as one of weights does.

    Raises:
        ConfigError: with the place where the value is written.
    """
    value = resolved.config.model.weights
    if value is None:
        return
    path = Path(os.path.expanduser(value))
    if not path.exists():
        raise resolved.error("model.weights", f"{value}: there is no such file or folder")
    if path.is_dir():
        is_one = checkpoint_folder.is_checkpoint(path)
        if not is_one and not checkpoint_folder.list_checkpoints(path / CHECKPOINTS):
            raise resolved.error("model.weights", f"no checkpoint in the folder {value}")
        return
    why = weights_file.problem(path)
    if why is not None:
        raise resolved.error("model.weights", f"{value}: {why}")


def known_images(resolved: Resolved) -> Optional[Known]:
    """Counts and shape of the images, where the configuration tells them."""
    data = resolved.config.data
    if isinstance(data, (Generated, Synthetic)):
        return Known(data.length, data.length, data.channels, data.image_size)
    if isinstance(data, (ImageFolder, Registered)):
        return None
    known = _DOWNLOADED.get(data.name, _DIGITS)
    return known._replace(side=data.image_size or known.side)


def _check_batches(resolved: Resolved) -> None:
    """The training images fill one call of the device."""
    known, training = known_images(resolved), resolved.config.training
    if known is None:
        return
    call = resolved.config.global_batch_size * training.device_iterations
    if call > known.training:
        sizes = {
            "micro_batch_size": training.micro_batch_size,
            "gradient_accumulation": training.gradient_accumulation,
            "replicas": training.replicas,
            "device_iterations": training.device_iterations,
        }
        largest = max(sizes, key=lambda name: sizes[name])
        product = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise resolved.error(
            f"training.{largest}",
            f"the {known.training:,} images do not fill one call of the device, which takes {call:,}: "
            f"{product}; lower one of them",
        )


def _check_memory(resolved: Resolved, processes: int) -> None:
    """The images, and those of one call, fit in this machine's memory."""
    memory = machine_memory()
    if memory is None:
        return
    config, data = resolved.config, resolved.config.data
    known = known_images(resolved)
    side = (
        data.side if isinstance(data, (ImageFolder, Registered)) else known.side if known is not None else 0
    )
    channels = 3 if known is None else known.channels
    channels = data.own.channels if isinstance(data, Registered) else channels
    one = channels * side * side  # bytes of an image
    if isinstance(data, Generated):
        held, what = 8 * data.num_classes * one, f"{data.num_classes:,} classes"
    elif isinstance(data, Synthetic):
        held, what = 2 * 64 * one, "noise images"
    elif known is not None:
        held, what = known.images * one, f"{known.images:,} images"
    else:
        held, what = 0, ""
    if held > memory:
        key = "num_classes" if isinstance(data, Generated) and data.num_classes > side else "image_size"
        raise resolved.error(
            f"data.{key}",
            f"{what} of {side} x {side} pixels take {_gb(held)}; this machine has {_gb(memory)}",
        )
    iterations = max(config.validation.device_iterations or 1, config.ipus_per_replica)
    calls = (
        ("training", config.global_batch_size * config.training.device_iterations // processes),
        (
            "validation",
            config.validation_micro_batch_size * config.training.replicas * iterations // processes,
        ),
    )
    for section, images in calls:
        needed = 4 * images * one  # as float32 in the network's first layer
        if needed > memory and (section == "training" or config.validation.every_epochs):
            raise resolved.error(
                f"{section}.micro_batch_size",
                f"one call of the device takes {images:,} images of {side} x {side} pixels, {_gb(needed)} as float32; "
                f"this machine has {_gb(memory)}",
            )


def machine_memory() -> Optional[int]:
    """Bytes of this machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gb(size: int) -> str:
    return f"{size / 1e9:,.0f} GB"


def needs_the_network(resolved: Resolved) -> bool:
    """Whether something is set that only the network can judge: options in range, groups that divide channels."""
    model = resolved.config.model
    return bool(model.options) or any(
        value is not None for value in (model.norm_groups, model.norm_group_size, model.train_only)
    )


def check_network(resolved: Resolved) -> None:
    """Build the network without memory for its weights where only that tells whether it can be built.

    Names, kinds of options and what norms take are checked with the configuration. Where nothing else is set, torch is
    not even imported.

    Raises:
        ConfigError: options or groups that the network cannot have, or a network beyond any memory.
    """
    if not needs_the_network(resolved):
        return
    import torch

    from .network import build_network
    from .planning import images_of

    images = images_of(resolved)
    try:
        with torch.device("meta"):
            network = build_network(
                resolved, resolved.config.model.num_classes or images.classes, images.channels
            )
    except RuntimeError as error:  # sizes that overflow torch's integers
        raise resolved.error("model.options", f"torch cannot build this network: {error}") from error
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters > MOST_PARAMETERS:
        raise resolved.error("model.options", f"make a network of {parameters:,} parameters; make it smaller")

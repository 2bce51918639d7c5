"""From the data section of a configuration to training and validation images."""

import os
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch

from ..config import DataConfig
from ..config.data import (
    VALIDATION_FRACTION,
    Digits,
    Downloaded,
    Generated,
    ImageFolder,
    PackedImages,
    Registered,
    Synthetic,
    WebDataset,
)
from . import keyed
from .augment import Shift
from .boxes import FILE as BOX_FILE
from .boxes import read_boxes
from .datasets import ArrayImages, Augment, ImageDataset
from .downloads import TORCHVISION, read_torchvision
from .errors import DataError
from .faults import Faults
from .files import CENTRE_SHARE, Preparation, open_files
from .folder import find_splits, scan
from .generated import GeneratedImages, SyntheticImages
from .packed import Packed, describe, open_part
from .pipeline import made_by
from .pixels import Rules
from .policies import InTurn, changes_of, policy
from .registered import open_registered
from .resizing import Resizing
from .shards import find_shards, open_shards
from .source import DataSource

# Of ImageNet's training pixels, as is usual for photographs.
PHOTO_MEAN, PHOTO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_data(config: DataConfig, seed: int = 0, progress: Optional[bool] = None) -> DataSource:
    """Open the images that a configuration names.

    Args:
        config: the data section.
        seed: seed of the augmentation and of generated images (never of the split into training and
        validation). progress: show progress bars; None: when standard error is a terminal.

    Raises:
        DataError: images cannot be found, downloaded or decoded; the message names the file or folder.
    """
    if isinstance(config, Digits):
        source = _digits(config, seed)
    elif isinstance(config, ImageFolder):
        source = _photos(config, seed, progress)
    elif isinstance(config, (Generated, Synthetic)):
        source = _made(config, seed)
    elif isinstance(config, Registered):
        source = open_registered(config, seed, lambda mean: _augment(config, seed, config.side, mean))
    else:
        source = _torchvision(config, seed)
    if config.mean is not None and config.std is not None:
        if len(config.mean) != source.channels:
            raise DataError(
                f"data.mean and data.std have {len(config.mean)} channels, but {source.name} images have "
                f"{source.channels}"
            )
        source = source._replace(mean=tuple(config.mean), std=tuple(config.std))
    return source._replace(pixels=made_by(config))


def _augment(config: DataConfig, seed: int, size: int, mean: Sequence[float]) -> Optional[Augment]:
    changes: List[Any] = []
    if config.augment in ("flip_crop", "shift"):
        padding = config.crop_padding if config.crop_padding is not None else max(1, size // 8)
        if padding >= size:
            raise DataError(
                f"data.crop_padding is {padding}, but images have a side of {size} pixels; make it smaller"
            )
        changes.append(Shift(padding, config.augment == "flip_crop", seed))
    ops, magnitude = config.randaugment_ops, config.randaugment_magnitude
    changes += changes_of(
        policy(config.auto_augment, 2 if ops is None else ops, 9 if magnitude is None else magnitude),
        config.color_jitter,
        config.random_erasing,
        tuple(config.mean or mean),
        seed,
    )
    return InTurn(changes) if len(changes) > 1 else changes[0] if changes else None


def stratified_split(
    labels: np.ndarray, fraction: float, class_names: Optional[Sequence[str]] = None
) -> Tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation images (int64, rising); always the same ones.

    From each class ``round(fraction * n)`` images, at least one, go to validation. Messages call classes by
    ``class_names``.

    Raises:
        DataError: a class is too small for an image in each part.
    """
    order = keyed.permutation(0, keyed.SPLIT, 0, len(labels))
    validation = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        count = max(1, round(fraction * len(own)))
        if count >= len(own):
            name = label if class_names is None else class_names[label]
            raise DataError(
                f"class {name} has {len(own)} image(s), too few to keep {fraction:g} of them for validation; "
                "add images, or give validation images of their own (data.validation_split)"
            )
        validation[own[:count]] = True
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def _resized(images: np.ndarray, size: Optional[int]) -> np.ndarray:
    """uint8 ``[N, C, H, W]`` brought to ``size`` x ``size`` pixels with antialiasing."""
    if size is None or images.shape[2:] == (size, size):
        return images
    parts = []
    for start in range(0, len(images), 1024):
        part = torch.from_numpy(images[start : start + 1024]).float()
        part = torch.nn.functional.interpolate(part, size=(size, size), mode="bilinear", antialias=True)
        parts.append(part.round().clamp(0, 255).byte())
    return torch.cat(parts).numpy()


def _from_arrays(
    config: DataConfig,
    seed: int,
    train: Tuple[np.ndarray, np.ndarray],
    validation: Tuple[np.ndarray, np.ndarray],
    class_names: Sequence[str],
    mean: Optional[Tuple[float, ...]] = None,
    std: Optional[Tuple[float, ...]] = None,
) -> DataSource:
    images = _resized(train[0], config.image_size)
    if mean is None or std is None:
        mean = tuple(float(m) for m in (images / 255).mean(axis=(0, 2, 3)))
        std = tuple(float(s) for s in (images / 255).std(axis=(0, 2, 3)))
    size = images.shape[-1]
    return DataSource(
        config.name,
        ArrayImages(images, train[1], _augment(config, seed, size, mean)),
        ArrayImages(_resized(validation[0], config.image_size), validation[1]),
        len(class_names),
        images.shape[1],
        size,
        mean,
        std,
        list(class_names),
    )


def _digits(config: Digits, seed: int) -> DataSource:
    """scikit-learn's 1797 handwritten digits: 8 x 8 pixels, grey levels 0..16 (Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    train, validation = stratified_split(labels, config.validation_fraction)
    return _from_arrays(
        config,
        seed,
        (images[train], labels[train]),
        (images[validation], labels[validation]),
        [str(digit) for digit in range(10)],
    )


def _torchvision(config: Downloaded, seed: int) -> DataSource:
    known = TORCHVISION[config.name]
    train, validation, class_names = read_torchvision(known, config.path, config.download)
    return _from_arrays(config, seed, train, validation, class_names, known.mean, known.std)


def _photos(config: ImageFolder, seed: int, progress: Optional[bool]) -> DataSource:
    root, size = Path(os.path.expanduser(config.path)), config.side
    unlisted = _faults(config, 0), _faults(config, 0)
    train, validation = _listed(config, root, unlisted)
    note = ""
    if validation is not None:
        if config.validation_fraction is not None:
            raise DataError(
                f"{root}: holds validation images of its own, so data.validation_fraction must go"
            )
    else:
        fraction = config.validation_fraction or VALIDATION_FRACTION
        note = f"{root} has no validation folder: {fraction:.0%} of each class are held out (data.validation_fraction)"
        try:
            indices = stratified_split(train.labels, fraction, train.class_names)
        except DataError as error:
            raise DataError(f"{root}: {error}") from None
        train, validation = train.chosen(indices[0]), train.chosen(indices[1])
    still = _preparation(config)
    return DataSource(
        config.name,
        _training(config, seed, root, train, unlisted[0].left_out, progress),
        open_files(
            validation,
            still,
            _cache(config, validation),
            progress=progress,
            faults=_faults(config, len(validation.labels), unlisted[1].left_out),
            stand_in=False,
        ),
        len(train.class_names),
        3,
        size,
        PHOTO_MEAN,
        PHOTO_STD,
        train.class_names,
        still.share,
        still.resizing,
        config.transparency,
        note,
    )


def training_images(config: ImageFolder, seed: int) -> ImageDataset:
    """All images of the training part, none of them held out for validation; as :func:`open_data` prepares them."""
    root, unlisted = Path(os.path.expanduser(config.path)), (_faults(config, 0), _faults(config, 0))
    train, _ = _listed(config, root, unlisted)
    return _training(config, seed, root, train, unlisted[0].left_out, None)


def _training(
    config: ImageFolder, seed: int, root: Path, train: Any, left_out: int, progress: Optional[bool]
) -> ImageDataset:
    preparation = _preparation(config)
    if config.augment == "random_resized_crop":
        preparation = preparation._replace(crop_seed=seed, boxes=_boxes(config, root, train))
    return open_files(
        train,
        preparation._replace(scaled=config.scaled_decoding),
        _cache(config, train),
        _augment(config, seed, config.side, PHOTO_MEAN),
        progress,
        _faults(config, len(train.labels), left_out),
    )


def _preparation(config: ImageFolder) -> Preparation:
    """Of images that are not cropped at random."""
    # Images are tested on 7/8 of their shorter side wherever crops of varied scale came before.
    varied = config.augment in ("random_resized_crop", "centre_crop")
    share = config.test_crop or (CENTRE_SHARE if varied else 1.0)
    rules, resizing = (
        Rules(config.transparency, config.decoder),
        Resizing(config.interpolation, config.antialias),
    )
    return Preparation(config.side, share, rules=rules, resizing=resizing)


def _cache(config: ImageFolder, files: Any) -> Any:
    mapped = isinstance(files, Packed) and files.form == "pixels"  # already as good as in RAM
    return False if config.cache == "auto" and mapped else config.cache


def _listed(config: ImageFolder, root: Path, unlisted: Tuple[Faults, Faults]) -> Tuple[Any, Any]:
    """Training and validation images; None for the latter where there are none of its own."""
    train_problem, validation_problem = (faults.not_listed for faults in unlisted)
    if isinstance(config, PackedImages):
        parts = list(describe(root)["parts"])
        trained, tested = config.train_split or parts[0], config.validation_split
        if tested is None and parts[1:] and parts[1] != trained:
            tested = parts[1]
        return open_part(root, trained), None if tested is None else open_part(root, tested)
    if isinstance(config, WebDataset):
        found = find_shards(root, config.train_split, config.validation_split)
        shards = open_shards(found.train, problem=train_problem)
        if not found.validation:
            return shards, None
        return shards, open_shards(found.validation, shards.class_names, validation_problem)
    folder, other = find_splits(root, config.train_split, config.validation_split)
    train = scan(folder, problem=train_problem)
    return train, None if other is None else scan(other, train.class_names, validation_problem)


def _boxes(config: ImageFolder, root: Path, train: Any) -> Optional[np.ndarray]:
    """Of the objects in the training images; None where crops are to be where they fall."""
    path = root / BOX_FILE
    if config.bounding_boxes is False or (config.bounding_boxes == "auto" and not path.is_file()):
        return None
    return read_boxes(path, [train.name(index) for index in range(len(train.labels))])


def _faults(config: ImageFolder, images: int, left_out: int = 0) -> Faults:
    return Faults(images, config.on_error, config.most_skipped, left_out)


def _made(config: Union[Generated, Synthetic], seed: int) -> DataSource:
    length, classes, channels, size = config.length, config.num_classes, config.channels, config.image_size
    shape = (classes, channels, size)
    others = max(length // 5, classes)
    augment = _augment(config, seed, size, (0.5,) * channels)
    train: ImageDataset
    validation: ImageDataset
    if config.name == "generated":
        train = GeneratedImages(length, *shape, seed, keyed.GENERATED_TRAIN, augment)
        validation = GeneratedImages(others, *shape, seed, keyed.GENERATED_VALIDATION)
    else:
        train = SyntheticImages(length, *shape, seed, augment)
        validation = SyntheticImages(others, *shape, seed)
    names = [f"class {label}" for label in range(classes)]
    middle = ((0.5,) * channels, (0.25,) * channels)
    return DataSource(config.name, train, validation, classes, channels, size, *middle, names)

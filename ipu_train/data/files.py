"""Decoding of image files: when asked for, or once into RAM."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Optional

import numpy as np
from PIL import Image
from tqdm import tqdm

from .augment import Crop, centre_crop, random_resized_crop
from .datasets import ArrayImages, Augment, ImageDataset
from .errors import DataError
from .folder import Files

CACHE_BYTES = 2 * 2**30
_SHOW_PROGRESS_FROM = 5000  # images
_HEADERS_LOOKED_AT = 64

# Validation of models trained on random resized crops: the shorter side is brought to 256 for crops of 224.
CENTRE_SHARE = 224 / 256


def open_image(path: str) -> Image.Image:
    """A file as a decoded RGB image.

    Raises:
        DataError: the file cannot be read or is broken.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    # PIL raises nearly everything on broken files: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        reason = (
            getattr(error, "strerror", None)
            or str(error).replace(f"'{path}'", "the file")
            or type(error).__name__
        )
        raise DataError(f"{path}: not a readable image ({reason}); replace or delete it") from None


def resize(image: Image.Image, crop: Crop, size: int) -> np.ndarray:
    """A rectangle of an image, resized with antialiasing: uint8 ``[3, size, size]``."""
    if (image.width, image.height) != (size, size) or crop.box != (0, 0, size, size):
        image = image.resize((size, size), Image.BILINEAR, box=crop.box)
    pixels = np.asarray(image).transpose(2, 0, 1)
    return pixels[:, :, ::-1] if crop.flip else pixels


class FileImages(ImageDataset):
    """Images that are decoded when asked for: centre crops, or random resized crops for training.

    Args:
        files: what to read.
        size: side of the result in pixels.
        share: side of the centre crop as a share of the image's shorter side.
        crop_seed: take random resized crops (a function of this seed, epoch and index) instead of
            centre crops.
        augment: what happens after that.
        read: from a number of an image to the image; None decodes the file.
    """

    def __init__(
        self,
        files: Files,
        size: int,
        share: float = 1.0,
        crop_seed: Optional[int] = None,
        augment: Optional[Augment] = None,
        read: Optional[Callable[[int], Image.Image]] = None,
    ):
        super().__init__(files.labels, augment)
        self.files, self.size, self.share, self.crop_seed = files, size, share, crop_seed
        self._read = read

    def image(self, epoch: int, index: int) -> np.ndarray:
        image = open_image(self.files.paths[index]) if self._read is None else self._read(index)
        if self.crop_seed is None:
            crop = centre_crop(image.width, image.height, self.share)
        else:
            crop = random_resized_crop(image.width, image.height, self.crop_seed, epoch, index)
        return resize(image, crop, self.size)

    def images(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        result = np.empty((len(indices), 3, self.size, self.size), dtype=np.uint8)
        for image, epoch, index in zip(result, epochs.tolist(), indices.tolist()):
            image[:] = self.image(epoch, index)
        return result


class _Decoded:
    """Decoded images of different sizes in RAM."""

    def __init__(self, pixels: List[np.ndarray]):
        self.pixels = pixels

    def __call__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


def _in_threads(work: Callable[[int], Any], count: int, what: str, progress: Optional[bool]) -> None:
    """``work(0) .. work(count - 1)`` in threads (PIL decodes without the interpreter's lock)."""
    hidden = True if progress is False or count < _SHOW_PROGRESS_FROM else None if progress is None else False
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, tqdm(
        total=count, desc=what, unit=" images", disable=hidden, leave=False
    ) as bar:
        step = 64
        starts = range(0, count, step)

        def some(start: int) -> int:
            stop = min(start + step, count)
            for i in range(start, stop):
                work(i)
            return stop - start

        futures = [pool.submit(some, start) for start in starts]
        try:
            for future in futures:
                bar.update(future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _decoded_bytes(files: Files) -> float:
    """Estimated size of all images decoded as they are, from the headers of a few."""
    some = np.unique(np.linspace(0, len(files.paths) - 1, _HEADERS_LOOKED_AT).astype(int))
    total = 0
    for i in some:
        try:
            with Image.open(files.paths[i]) as image:
                total += image.width * image.height * 3
        except Exception:
            open_image(files.paths[i])  # says what is wrong with the file
            raise
    return total / len(some) * len(files.paths)


def open_files(
    files: Files,
    size: int,
    cache: Any = "auto",
    share: float = 1.0,
    crop_seed: Optional[int] = None,
    augment: Optional[Augment] = None,
    progress: Optional[bool] = None,
) -> ImageDataset:
    """A data set of image files, decoded once into RAM if ``cache`` is true or, for auto, if that is small.

    Args:
        files, size, share, crop_seed, augment: as for :class:`FileImages`.
        cache: true, false, or "auto" (below :data:`CACHE_BYTES`).
        progress: show a progress bar for many images; None: when standard error is a terminal.

    Raises:
        DataError: an image that is decoded here is broken.
    """
    plain = FileImages(files, size, share, crop_seed, augment)
    count = len(files.paths)
    needed = count * 3 * size * size if crop_seed is None else _decoded_bytes(files)
    if not (cache is True or (cache == "auto" and needed < CACHE_BYTES)):
        return plain
    if crop_seed is not None:
        pixels: List[Any] = [None] * count

        def keep(i: int) -> None:
            pixels[i] = np.asarray(open_image(files.paths[i]))

        _in_threads(keep, count, "decoding", progress)
        return FileImages(files, size, share, crop_seed, augment, _Decoded(pixels))
    array = np.empty((count, 3, size, size), dtype=np.uint8)

    def fill(i: int) -> None:
        array[i] = plain.image(0, i)

    _in_threads(fill, count, "decoding", progress)
    return ArrayImages(array, files.labels, augment)

"""Images of files: decoded when asked for, or once into RAM."""

import io
import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from .augment import Crop, centre_crop, crop_draws, random_resized_crop
from .boxes import shows
from .datasets import IGNORED_LABEL, ArrayImages, Augment, ImageDataset
from .errors import DataError
from .faults import Faults
from .packed import Packed
from .pixels import USUAL, Picture, Rules, decode, jpeg_size, read_file
from .resizing import SMOOTH, Resizing, crop_and_resize, resize, size_of

CACHE_BYTES = 2 * 2**30
_SHOW_PROGRESS_FROM = 5000  # images
_HEADERS_LOOKED_AT = 64
# Pictures that are decoded before the first of them is resized, so that each of the two finds its code in the caches;
# not more than stay there themselves.
_TOGETHER_BYTES = 4 * 2**20

# Validation of models trained on random resized crops: the shorter side is brought to 256 for crops of 224.
CENTRE_SHARE = 224 / 256


class Preparation(NamedTuple):
    """What is made of a picture.

    Attributes:
        size: side of the square image in pixels.
        share: side of the centre crop as a share of the picture's shorter side.
        crop_seed: take random resized crops (a function of this seed, epoch and index) instead of centre crops.
        rules: of decoding.
        resizing: how a rectangle becomes ``size`` x ``size`` pixels.
        scaled: large JPEG files may be decoded at a half, a quarter or an eighth of their size, where their crop still
            has ``size`` pixels.
        boxes: of the objects, see :func:`boxes.read_boxes`; None: crops are where they fall.
    """

    size: int
    share: float = 1.0
    crop_seed: Optional[int] = None
    rules: Rules = USUAL
    resizing: Resizing = SMOOTH
    boxes: Optional[np.ndarray] = None
    scaled: bool = False

    def draws(self, epochs: np.ndarray, indices: np.ndarray) -> Sequence[Optional[np.ndarray]]:
        """Random numbers of many images at once, one row each."""
        if self.crop_seed is None:
            return [None] * len(indices)
        return crop_draws(self.crop_seed, epochs, indices)

    def crop(
        self,
        width: int,
        height: int,
        epoch: int,
        index: int,
        draws: Optional[np.ndarray] = None,
        shown: Optional[int] = None,
    ) -> Crop:
        """The rectangle of a picture of ``width`` x ``height`` pixels that is used.

        ``shown``: the number of the image whose picture it is, where it stands in for the one at ``index``.
        """
        if self.crop_seed is None:
            return centre_crop(width, height, self.share)
        box, accepts = None, None
        if self.boxes is not None:
            box = self.boxes[index if shown is None else shown]
        if box is not None and not np.isnan(box[0]):
            accepts = partial(shows, box, width, height)
        return random_resized_crop(width, height, self.crop_seed, epoch, index, accepts, draws)

    def image(
        self,
        picture: Picture,
        epoch: int,
        index: int,
        draws: Optional[np.ndarray] = None,
        shown: Optional[int] = None,
    ) -> np.ndarray:
        """uint8 ``[3, size, size]``; ``draws`` is the row of :meth:`draws`, when it is there already."""
        crop = self.crop(*size_of(picture), epoch, index, draws, shown)
        if self.crop_seed is None:
            return resize(picture, crop, self.size, self.resizing)
        return crop_and_resize(picture, crop, self.size, self.resizing)


def open_image(path: str, rules: Rules = USUAL) -> Image.Image:
    """A file as a decoded RGB image.

    Raises:
        DataError: the file cannot be read, is broken, or has no meaning in 8-bit RGB.
    """
    picture = decode(read_file(path), path, rules)
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)


class FileImages(ImageDataset):
    """Images that are decoded when asked for: centre crops, or random resized crops for training.

    Where images that cannot be used are skipped, the next usable image stands in for one in training, and validation
    counts without it. Which one that is depends on the files alone.

    Args:
        files: what to read: ``labels``, ``name(index)`` and ``read(index)``.
        preparation: what becomes of a picture.
        augment: what happens after that.
        faults: what becomes of images that cannot be used.
        stand_in: whether another image takes the place of one that is skipped, else the label
            :data:`IGNORED_LABEL` says that it does not count.
        picture: from the number of an image to its picture; None decodes the file.
    """

    def __init__(
        self,
        files: Any,
        preparation: Preparation,
        augment: Optional[Augment] = None,
        faults: Optional[Faults] = None,
        stand_in: bool = True,
        picture: Optional[Callable[[int], Picture]] = None,
    ):
        super().__init__(files.labels, augment)
        self.files, self.preparation, self.stand_in = files, preparation, stand_in
        self.faults: Faults = faults if faults is not None else Faults(len(files.labels))
        self._picture = picture

    def picture(self, index: int) -> Picture:
        """One picture as it is.

        Raises:
            DataError: it cannot be used.
        """
        if self._picture is not None:
            return self._picture(index)
        if isinstance(self.files, Packed):
            return self.files.picture(index, self.preparation.rules)
        return decode(self.files.read(index), self.files.name(index), self.preparation.rules)

    def _small(self, own: int, epoch: int, index: int, draws: Optional[np.ndarray]) -> Optional[np.ndarray]:
        """The image from a JPEG file decoded at less than its size; None where that cannot be."""
        how = self.preparation
        if not how.scaled or self._picture is not None or isinstance(self.files, Packed):
            return None
        data = self.files.read(own)
        size = jpeg_size(data)
        if size is None:
            return None
        crop = how.crop(*size, epoch, index, draws, own)
        share = how.size / min(crop.right - crop.left, crop.bottom - crop.top)
        if share > 0.5:
            return None
        picture = decode(data, self.files.name(own), how.rules, share)
        across, down = (now / then for now, then in zip(size_of(picture), size))
        left, top, right, bottom = crop.box
        smaller = Crop(left * across, top * down, right * across, bottom * down, crop.flip)
        return resize(
            picture, smaller, how.size, how.resizing
        )  # with a box of fractions of pixels: nothing moves

    def image(self, epoch: int, index: int, draws: Optional[np.ndarray] = None) -> Tuple[np.ndarray, int]:
        """An image (uint8 ``[3, size, size]``) and its label, before augmentation."""
        own = index
        for _ in range(len(self)):
            try:
                image = self._small(own, epoch, index, draws)
                if image is None:
                    image = self.preparation.image(self.picture(own), epoch, index, draws, own)
                return image, int(self.labels[own])
            except DataError as error:
                self.faults.note(own, error)
            if not self.stand_in:
                size = self.preparation.size
                return np.zeros((3, size, size), dtype=np.uint8), IGNORED_LABEL
            own = (own + 1) % len(self)
        raise DataError(f"{self.files.name(index)}: neither this image nor any other can be used")

    def fetch(
        self, epochs: np.ndarray, indices: np.ndarray, room: Optional[np.ndarray] = None
    ) -> Tuple[np.ndarray, np.ndarray]:
        shape = (len(indices), 3, self.preparation.size, self.preparation.size)
        if room is None or room.shape != shape or room.dtype != np.uint8:
            room = np.empty(shape, dtype=np.uint8)
        images = room
        labels = np.empty(len(indices), dtype=np.int64)
        draws = self.preparation.draws(epochs, indices)
        done = 0
        while done < len(indices):
            pictures = self._pictures(indices[done:].tolist())
            for i in range(done, done + len(pictures)):
                epoch, index, picture = int(epochs[i]), int(indices[i]), pictures[i - done]
                if picture is None:
                    images[i], labels[i] = self.image(epoch, index, draws[i])
                else:
                    images[i] = self.preparation.image(picture, epoch, index, draws[i])
                    labels[i] = self.labels[index]
            done += len(pictures)
            del pictures, picture  # before the next ones are decoded: each may be large
        return images, labels

    def _pictures(self, indices: Sequence[int]) -> List[Optional[Picture]]:
        """Pictures of the first of ``indices``, at least of one; None where :meth:`image` must see what to do."""
        pictures: List[Optional[Picture]] = []
        room = _TOGETHER_BYTES
        for index in indices:
            picture = None
            if not self.preparation.scaled:
                try:
                    picture = self.picture(index)
                    room -= 3 * math.prod(size_of(picture))
                except DataError:
                    pass
            pictures.append(picture)
            if room <= 0:
                break
        return pictures


class _Decoded:
    """Decoded pictures of different sizes in RAM; the error itself where there is none."""

    def __init__(self, pictures: List[Any]):
        self.pictures = pictures

    def __call__(self, index: int) -> Picture:
        picture = self.pictures[index]
        if isinstance(picture, DataError):
            raise picture
        return picture


def _in_threads(work: Callable[[int], Any], count: int, what: str, progress: Optional[bool]) -> None:
    """``work(0) .. work(count - 1)`` in threads (decoders run without the interpreter's lock)."""
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


def _decoded_bytes(dataset: FileImages) -> float:
    """Estimated size of all pictures decoded as they are, from a few."""
    count = len(dataset)
    some = np.unique(np.linspace(0, count - 1, _HEADERS_LOOKED_AT).astype(int))
    total = sum(_bytes_of(dataset, int(i)) for i in some)
    return total / len(some) * count


def _bytes_of(dataset: FileImages, index: int) -> int:
    try:
        data = dataset.files.read(index)
        with Image.open(io.BytesIO(data)) as image:
            return image.width * image.height * 3
    except Exception:
        pass
    try:
        picture = dataset.picture(index)
        return np.asarray(picture).size
    except DataError as error:
        dataset.faults.note(index, error)  # says what is wrong with the file, or leaves it out
        return 0


def open_files(
    files: Any,
    preparation: Preparation,
    cache: Any = "auto",
    augment: Optional[Augment] = None,
    progress: Optional[bool] = None,
    faults: Optional[Faults] = None,
    stand_in: bool = True,
) -> ImageDataset:
    """A data set of image files, decoded once into RAM if ``cache`` is true or, for auto, if that is small.

    Args:
        files, preparation, augment, faults, stand_in: as for :class:`FileImages`.
        cache: true, false, or "auto" (below :data:`CACHE_BYTES`).
        progress: show a progress bar for many images; None: when standard error is a terminal.

    Raises:
        DataError: an image that is decoded here is broken, and none is to be skipped.
    """
    plain = FileImages(files, preparation, augment, faults, stand_in)
    count, size = len(plain), preparation.size
    random_crops = preparation.crop_seed is not None
    needed = _decoded_bytes(plain) if random_crops else count * 3 * size * size
    if not (cache is True or (cache == "auto" and needed < CACHE_BYTES)):
        return plain
    if random_crops:
        pictures: List[Any] = [None] * count

        mapped = isinstance(files, Packed) and files.form == "pixels"

        def keep(i: int) -> None:
            try:
                picture = plain.picture(i)
                pictures[i] = np.array(picture) if mapped else np.asarray(picture)
            except DataError as error:
                plain.faults.note(i, error)
                pictures[i] = error

        _in_threads(keep, count, "decoding", progress)
        return FileImages(files, preparation, augment, plain.faults, stand_in, _Decoded(pictures))
    array = np.empty((count, 3, size, size), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)

    def fill(i: int) -> None:
        array[i], labels[i] = plain.image(0, i)

    _in_threads(fill, count, "decoding", progress)
    cached = ArrayImages(array, labels, augment)
    cached.faults = plain.faults
    return cached

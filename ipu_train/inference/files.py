"""Image files as the network of a run takes them, with labels or without."""

import os
from collections import deque
from pathlib import Path
from typing import Deque, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np
from PIL import Image

from ..data import ImageDataset
from ..data.augment import centre_crop
from ..data.errors import DataError
from ..data.faults import Faults
from ..data.files import open_image
from ..data.folder import EXTENSIONS, scan
from ..data.pixels import Rules
from ..data.resizing import Resizing, resize
from ..training.prepared import Prepared
from .errors import UseError


class PreparedFiles(ImageDataset):
    """Image files, prepared as the validation images of a run were: uint8 ``[C, image_size, image_size]``.

    Args:
        paths: of the files.
        prepared: how.
        labels: int64 ``[N]``; None: 0 for all.
        faults: takes notice of files that cannot be read, whose pixels are 0 then; None: the first one is an error.

    Raises:
        UseError: images of other channels than those that files are read with.
    """

    def __init__(
        self,
        paths: Sequence[str],
        prepared: Prepared,
        labels: Optional[np.ndarray] = None,
        faults: Optional[Faults] = None,
    ) -> None:
        super().__init__(np.zeros(len(paths), dtype=np.int64) if labels is None else labels)
        if prepared.channels not in (1, 3):
            raise UseError(
                f"the network takes images of {prepared.channels} channels, and image files are read as colour (3) or "
                "grey (1) ones; images that its configuration opens are evaluated without --data"
            )
        self.paths, self.prepared = list(paths), prepared
        self.faults: Faults = Faults(len(paths)) if faults is None else faults

    def image(self, index: int) -> np.ndarray:
        """uint8 ``[C, image_size, image_size]``.

        Raises:
            DataError: the file is no readable image.
        """
        prepared = self.prepared
        image = open_image(self.paths[index], Rules(prepared.transparency))
        crop = centre_crop(image.width, image.height, prepared.centre_share)
        how = Resizing(prepared.interpolation, prepared.antialias)
        pixels = resize(image, crop, prepared.image_size, how)
        if prepared.channels == 1:
            return np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))[None]
        return pixels

    def images(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return np.stack([self._image_or_nothing(index) for index in indices.tolist()])

    def _image_or_nothing(self, index: int) -> np.ndarray:
        try:
            return self.image(index)
        except DataError as error:
            self.faults.note(index, error)
            prepared = self.prepared
            return np.zeros((prepared.channels, prepared.image_size, prepared.image_size), np.uint8)


def files_in(words: Sequence[str]) -> List[str]:
    """The image files that are named, and all below the folders that are, sorted.

    As in training, hidden files and folders are left out, and links to folders are followed; a folder counts once.

    Raises:
        UseError: a name of nothing, or a folder without images or that cannot be read.
    """
    found: List[str] = []
    for word in words:
        path = Path(os.path.expanduser(word))
        if path.is_dir():
            below = sorted(_below(path))
            if not below:
                raise UseError(f"{word}: the folder has no images ({', '.join(EXTENSIONS)})")
            found += below
        elif path.exists():
            found.append(str(path))
        else:
            raise UseError(f"{word}: there is no such image or folder")
    return found


def _below(root: Path) -> Iterator[str]:
    """Image files below a folder, links to folders last, so that a folder goes by its own name where it has one."""
    waiting: List[str] = [str(root)]
    links: Deque[str] = deque()
    seen: Set[Tuple[int, int]] = set()
    while waiting or links:
        folder = waiting.pop() if waiting else links.popleft()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        except OSError as error:
            raise UseError(f"{folder}: cannot be read: {error.strerror}") from None
        for entry in entries:
            if os.path.isdir(entry.path):
                (links if entry.is_symlink() else waiting).append(entry.path)
            elif entry.name.lower().endswith(EXTENSIONS):
                yield entry.path


def labelled(folder: Path, prepared: Prepared) -> PreparedFiles:
    """Every image of a folder with one sub-folder a class; classes go by their names.

    Raises:
        DataError: no folder, no classes, or a class that the model does not know.
    """
    files = scan(folder, prepared.class_names)
    return PreparedFiles(files.paths, prepared, files.labels)

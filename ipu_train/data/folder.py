"""Folders of images: ``root/class/*.jpg``."""

import difflib
import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
VALIDATION_NAMES = ("val", "validation", "valid", "test")


class Files(NamedTuple):
    """Image files, their labels (int64 ``[N]``) and the names of the classes."""

    paths: List[str]
    labels: np.ndarray
    class_names: List[str]


def _subfolders(root: Path) -> List[str]:
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except FileNotFoundError:
        raise DataError(
            f"{root}: there is no such folder; set data.path to the folder of the images"
        ) from None
    except NotADirectoryError:
        raise DataError(
            f"{root}: is a file; data.path takes the folder that holds one sub-folder a class"
        ) from None
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror}") from None


def _images_below(folder: Path) -> List[str]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None

    found = []
    for place, _, names in os.walk(folder, followlinks=True, onerror=refuse):
        found += [
            os.path.join(place, name)
            for name in names
            if name.lower().endswith(EXTENSIONS) and name[0] != "."
        ]
    return sorted(found)


def scan(root: Path, class_names: Optional[Sequence[str]] = None) -> Files:
    """List the images of a folder with one sub-folder a class.

    Args:
        root: the folder.
        class_names: names and order of the classes when they are known already (from the
            training images).

    Raises:
        DataError: no folder, no classes, a class without images, or one that ``class_names`` lacks.
    """
    found = _subfolders(root)
    if not found:
        loose = next(
            (path for path in sorted(root.iterdir()) if path.name.lower().endswith(EXTENSIONS)), None
        )
        hint = f"; {loose.name} and the like belong into one sub-folder a class" if loose else ""
        raise DataError(f"{root}: holds no class folders (one sub-folder a class is needed){hint}")
    if class_names is None:
        class_names = found
    unknown = [name for name in found if name not in class_names]
    if unknown:
        raise DataError(f"{root / unknown[0]}: the training images have no class of this name")
    paths: List[str] = []
    labels: List[int] = []
    for label, name in enumerate(class_names):
        if name not in found:
            continue
        files = _images_below(root / name)
        if not files:
            raise DataError(
                f"{root / name}: the class folder has no images ({', '.join(EXTENSIONS)}); fill or delete it"
            )
        paths += files
        labels += [label] * len(files)
    return Files(paths, np.array(labels, dtype=np.int64), list(class_names))


def find_splits(root: Path, train: Optional[str], validation: Optional[str]) -> Tuple[Path, Optional[Path]]:
    """The folders of the training and the validation images; the latter is None where there is none.

    Args:
        root: the data set's folder.
        train, validation: names of sub-folders; None looks for the usual ones.

    Raises:
        DataError: a named sub-folder is missing.
    """
    names = _subfolders(root)
    for name in (train, validation):
        if name is not None and not (root / name).is_dir():
            match = difflib.get_close_matches(name, names, n=1)
            hint = f'; did you mean "{match[0]}"?' if match else ""
            raise DataError(
                f"{root / name}: there is no such folder{hint} (in {root}: {', '.join(names[:10])})"
            )
    if train is None and "train" in names:
        train = "train"
    if validation is None and train is not None:
        validation = next((name for name in VALIDATION_NAMES if name in names and name != train), None)
    return root / (train or ""), root / validation if validation is not None else None

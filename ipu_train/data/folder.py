"""Folders of images: ``root/class/*.jpg``."""

import difflib
import os
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .errors import DataError
from .pixels import kind_of, read_file

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
VALIDATION_NAMES = ("val", "validation", "valid", "test")

Problem = Callable[[DataError], None]


class Files(NamedTuple):
    """Image files, their labels (int64 ``[N]``) and the names of the classes."""

    paths: List[str]
    labels: np.ndarray
    class_names: List[str]

    def name(self, index: int) -> str:
        """How messages call an image."""
        return self.paths[index]

    def read(self, index: int) -> bytes:
        """The bytes of an image file.

        Raises:
            DataError: it cannot be read.
        """
        return read_file(self.paths[index])

    def chosen(self, indices: np.ndarray) -> "Files":
        """Some of the images."""
        return Files([self.paths[i] for i in indices], self.labels[indices], self.class_names)


def raise_problem(problem: DataError) -> None:
    raise problem


def subfolders(root: Path) -> List[str]:
    """Names of the folders in a folder, sorted, without hidden ones.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    try:
        return sorted(entry.name for entry in os.scandir(root) if _is_folder(entry) and entry.name[0] != ".")
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


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


class _Walk:
    """Lists images below class folders; each folder counts once, whichever links lead to it.

    Links to folders come after everything else, so that it is the link that is found to be too much.
    """

    def __init__(self, root: Path, problem: Problem):
        self.problem = problem
        self.found: Dict[str, List[str]] = {}
        self._links: List[Tuple[str, str]] = []
        # a link to what holds the data set would give its images a second, wrong label
        self._seen = {self._identity(str(above)): str(above) for above in (root, *root.resolve().parents)}

    def all_below(self, root: Path, classes: Sequence[str]) -> Dict[str, List[str]]:
        """Paths by class, sorted."""
        self.found = {name: [] for name in classes}
        for name in classes:
            path = os.path.join(root, name)
            if os.path.islink(path):
                self._links.append((name, path))
            else:
                self._below(name, path)
        while self._links:
            self._below(*self._links.pop(0))
        return {name: sorted(paths) for name, paths in self.found.items()}

    @staticmethod
    def _identity(path: str) -> Tuple[int, int]:
        status = os.stat(path)
        return status.st_dev, status.st_ino

    def _below(self, name: str, top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                identity = self._identity(folder)
                if identity in self._seen:
                    there = self._seen[identity]
                    self.problem(
                        DataError(
                            f"{folder}: leads to {there}, whose images would count twice; delete the link"
                        )
                    )
                    continue
                self._seen[identity] = folder
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                self.problem(DataError(f"{folder}: cannot be read: {error.strerror}"))
                continue
            for entry in entries:
                if _is_folder(entry):
                    if entry.is_symlink():
                        self._links.append((name, entry.path))
                    else:
                        waiting.append(entry.path)
                elif entry.name.lower().endswith(EXTENSIONS) and entry.name[0] != ".":
                    self._take(name, entry)

    def _take(self, name: str, entry: "os.DirEntry[str]") -> None:
        try:
            if entry.is_file():
                self.found[name].append(entry.path)
                return
            what = f"is {kind_of(os.stat(entry.path).st_mode)}, not a file"
        except OSError:
            what = "is a link that leads nowhere"
        self.problem(DataError(f"{entry.path}: {what}; delete it"))


def scan(root: Path, class_names: Optional[Sequence[str]] = None, problem: Problem = raise_problem) -> Files:
    """List the images of a folder with one sub-folder a class.

    Args:
        root: the folder.
        class_names: names and order of the classes when they are known already (from the
            training images).
        problem: told of what is no image file and no folder of its own (pipes, links that lead nowhere or in circles);
            raises what it is told unless said otherwise. What it was told of is left out.

    Raises:
        DataError: no folder, no classes, a class without images, or one that ``class_names`` lacks.
    """
    found = subfolders(root)
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
    counts = Counter(class_names)
    twice = [name for name in found if counts[name] > 1]
    if twice:
        raise DataError(
            f"{root / twice[0]}: there are {counts[twice[0]]} classes of this name, and nothing tells which of them "
            "these images are of"
        )
    below = _Walk(root, problem).all_below(root, [name for name in class_names if name in found])
    paths: List[str] = []
    labels: List[int] = []
    for label, name in enumerate(class_names):
        if name not in below:
            continue
        if not below[name]:
            raise DataError(
                f"{root / name}: the class folder has no images ({', '.join(EXTENSIONS)}); fill or delete it"
            )
        paths += below[name]
        labels += [label] * len(below[name])
    return Files(paths, np.array(labels, dtype=np.int64), list(class_names))


def find_splits(root: Path, train: Optional[str], validation: Optional[str]) -> Tuple[Path, Optional[Path]]:
    """The folders of the training and the validation images; the latter is None where there is none.

    Args:
        root: the data set's folder.
        train, validation: names of sub-folders; None looks for the usual ones.

    Raises:
        DataError: a named sub-folder is missing.
    """
    names = subfolders(root)
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
        trained = (root / train).resolve()  # train may be called val/ or be a link
        others = [name for name in VALIDATION_NAMES if name in names and (root / name).resolve() != trained]
        validation = others[0] if others else None
    return root / (train or ""), root / validation if validation is not None else None

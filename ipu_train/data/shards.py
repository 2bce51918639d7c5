"""Tar shards in WebDataset's layout: ``key.jpg`` and ``key.cls`` behind each other in ``train-000000.tar`` and so on.

The headers of all shards are read once and kept as an index, so that any image is one read away. The order of the
images is therefore the very permutation that a folder has, whichever shards they lie in; no buffer limits it.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .. import durable
from ..places import has_shards
from .downloads import users_cache
from .errors import DataError
from .folder import EXTENSIONS, VALIDATION_NAMES, Problem, raise_problem

INDEX = ".ipu-train-index.npz"  # beside the shards, or in the user's cache where they are read-only
CLASSES = ("classes.txt", "class_names.txt", "classnames.txt")
_VERSION = 2
_LABELS = ("cls", "class", "json")
_MOST_CLASSES = 1_000_000  # each has a name, and an output of the network
_MOST_OPEN = 64  # files at a time, of the 1024 that a process usually may


class Shards:
    """Images in tar files.

    Args:
        paths: of the shards.
        shard, offset, size: int64 ``[N]``: where each image lies: number of the shard, and bytes.
        labels: int64 ``[N]``.
        keys: what WebDataset calls the images.
        class_names: by label.
    """

    def __init__(
        self,
        paths: Sequence[str],
        shard: np.ndarray,
        offset: np.ndarray,
        size: np.ndarray,
        labels: np.ndarray,
        keys: np.ndarray,
        class_names: List[str],
    ) -> None:
        self.paths, self.shard, self.offset, self.size = list(paths), shard, offset, size
        self.labels, self.keys, self.class_names = labels, keys, class_names
        self._open: OrderedDict[int, int] = OrderedDict()
        self._process = os.getpid()

    def name(self, index: int) -> str:
        """How messages call an image: the shard, and the member's name."""
        return f"{self.paths[self.shard[index]]}/{self.keys[index]}"

    def read(self, index: int) -> bytes:
        """The bytes of an image file.

        Raises:
            DataError: the shard cannot be read, or is shorter than it was.
        """
        try:
            data = os.pread(
                self._file(int(self.shard[index])), int(self.size[index]), int(self.offset[index])
            )
        except OSError as error:
            raise DataError(f"{self.name(index)}: cannot be read: {error.strerror}") from None
        if len(data) < self.size[index]:
            raise DataError(f"{self.name(index)}: the shard ends within this image; replace it")
        return data

    def _file(self, shard: int) -> int:
        if self._process != os.getpid():  # a forked worker must not close what another process reads
            self._open, self._process = OrderedDict(), os.getpid()
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) >= _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[shard] = os.open(self.paths[shard], os.O_RDONLY)
        return self._open[shard]

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __del__(self) -> None:
        if self.__dict__.get("_open") and self._process == os.getpid():
            for number in self._open.values():
                os.close(number)

    def chosen(self, indices: np.ndarray) -> "Shards":
        """Some of the images."""
        shard, offset, size = self.shard[indices], self.offset[indices], self.size[indices]
        return Shards(
            self.paths, shard, offset, size, self.labels[indices], self.keys[indices], self.class_names
        )


class Found(NamedTuple):
    """The shards of both parts; no validation shards where there are none."""

    train: List[Path]
    validation: List[Path]


def find_shards(root: Path, train: Optional[str], validation: Optional[str]) -> Found:
    """The shards of a data set.

    Args:
        root: the folder.
        train, validation: a sub-folder, or a pattern of file names such as ``train-*.tar``; None: sub-folders or
            names with the usual words.

    Raises:
        DataError: there are none.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; set data.path to the folder of the shards")
    packed = sorted(path.name for path in root.glob("*.tar.*"))
    if packed and not has_shards(root):
        raise DataError(
            f"{root / packed[0]}: is compressed, so no image in it can be read alone; unpack it to .tar"
        )
    trained = _named(root, train, ("train", "training"))
    tested = _named(root, validation, VALIDATION_NAMES)
    # nobody has asked for shards that are both
    if validation is None:
        tested = [path for path in tested if path not in trained]
    elif train is None:
        trained = [path for path in trained if path not in tested]
    if not trained:
        trained = [path for path in sorted(root.glob("*.tar")) if path not in tested]
    if not trained:
        raise DataError(f"{root}: holds no shards (*.tar) of training images")
    return Found(trained, tested)


def _named(root: Path, given: Optional[str], words: Sequence[str]) -> List[Path]:
    if given is not None:
        try:
            found = (
                sorted((root / given).glob("*.tar")) if (root / given).is_dir() else sorted(root.glob(given))
            )
        except (ValueError, NotImplementedError) as error:  # such as **.tar, or an absolute path
            raise DataError(
                f"{root}: {given} is no pattern of names in this folder ({str(error).lower()}); one is train-*.tar"
            ) from None
        if not found:
            raise DataError(f"{root / given}: there is no folder with shards and no shard of this name")
        return found
    for word in words:
        below = sorted((root / word).glob("*.tar"))
        if below:
            return below
    pattern = re.compile(rf"(^|[-_.])({'|'.join(words)})[-_.0-9]")
    return [path for path in sorted(root.glob("*.tar")) if pattern.search(path.name)]


def open_shards(
    paths: Sequence[Path], class_names: Optional[Sequence[str]] = None, problem: Problem = raise_problem
) -> Shards:
    """Images of shards, by the index of an earlier time where the shards are as they were.

    Args:
        paths: of the shards.
        class_names: by label, when they are known already; None: those in ``classes.txt``, else the numbers.
        problem: told of what cannot be used, see :func:`folder.scan`.

    Raises:
        DataError: a shard that cannot be read.
    """
    columns = _kept(paths) or _kept_now(paths, problem)
    labels = columns["labels"]
    names = list(class_names) if class_names is not None else _class_names(paths[0].parent, labels)
    if len(labels) and labels.max() >= len(names):
        worst = int(labels.argmax())
        raise DataError(
            f"{paths[columns['shard'][worst]]}/{columns['keys'][worst]}: has the label {labels.max()}, but there are "
            f"{len(names)} classes"
        )
    shard, offset, size, keys = (columns[name] for name in ("shard", "offset", "size", "keys"))
    return Shards([str(path) for path in paths], shard, offset, size, columns["labels"], keys, names)


def _class_names(folder: Path, labels: np.ndarray) -> List[str]:
    for place in (folder, folder.parent):
        for name in CLASSES:
            if (place / name).is_file():
                return _names_in(place / name)
    return [str(label) for label in range(int(labels.max()) + 1)]


def _names_in(path: Path) -> List[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); it must hold a class name a line, in UTF-8"
        ) from None
    names = [line.strip() for line in text.rstrip().splitlines()]
    if "" in names:
        number = names.index("") + 1
        raise DataError(
            f"{path}: line {number} is empty, and line {number} names the class of label {number - 1}"
        )
    return names


# -- the index -------------------------------------------------------------------------------------------------------


def _fingerprint(paths: Sequence[Path]) -> str:
    """Changes when a shard does."""
    parts = [str(_VERSION)]
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _places(paths: Sequence[Path]) -> List[Path]:
    """Where the index may lie."""
    known = hashlib.sha256(
        "\n".join(map(str, (p.resolve() for p in paths))).encode("utf-8", "surrogateescape")
    )
    name = f"{INDEX[:-4]}-{known.hexdigest()[:12]}.npz"
    cache = users_cache()
    return [paths[0].parent / name, *([] if cache is None else [cache / "shards" / name])]


def _kept(paths: Sequence[Path]) -> Optional[Dict[str, np.ndarray]]:
    fingerprint = _fingerprint(paths)
    for place in _places(paths):
        try:
            with np.load(str(place), allow_pickle=False) as file:
                if str(file["fingerprint"]) == fingerprint:
                    return {name: file[name] for name in ("shard", "offset", "size", "labels", "keys")}
        except Exception:  # not there, of another version, or damaged: it is made anew
            continue
    return None


def _kept_now(paths: Sequence[Path], problem: Problem) -> Dict[str, np.ndarray]:
    """Read all headers and keep what they say; what is wrong is found anew each time, so nothing is kept then."""
    wrong: List[DataError] = []
    rows = [(number, *row) for number, path in enumerate(paths) for row in _members(path, wrong.append)]
    for error in wrong:
        problem(error)
    if not rows:
        raise DataError(f"{paths[0]}: no image with a label in this shard, nor in any other")
    columns = dict(zip(("shard", "offset", "size", "labels"), np.array([r[:4] for r in rows], np.int64).T))
    columns["keys"] = np.array([row[4] for row in rows])
    if not wrong:
        buffer = io.BytesIO()
        np.savez(buffer, fingerprint=np.array(_fingerprint(paths)), **columns)
        for place in _places(paths):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.parent.stat().st_mode & 0o222:  # meant to stay as it is, also by the superuser
                    continue
                durable.write(place, buffer.getvalue())
                break
            except OSError:
                continue
    return columns


def _members(path: Path, problem: Problem) -> Iterator[Tuple[int, int, int, str]]:
    """(offset, size, label, name) of the images of a shard."""
    samples: Dict[str, Dict[str, tarfile.TarInfo]] = {}
    end = path.stat().st_size
    try:
        with tarfile.open(str(path), "r:") as tar, path.open("rb") as file:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                key, _, ending = base.partition(".")
                samples.setdefault(f"{folder}/{key}" if folder else key, {})[ending.lower()] = member
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError("unexpected end of data")
            for key, parts in samples.items():
                image = _image(parts)
                if image is None or key.rpartition("/")[2].startswith("."):
                    continue
                label = _label(file, parts)
                if label is None:
                    problem(DataError(f"{path}/{image.name}: has no label ({key}.cls with a whole number)"))
                    continue
                if label >= _MOST_CLASSES:
                    problem(
                        DataError(
                            f"{path}/{image.name}: has the label {label}, and there can be {_MOST_CLASSES:,} classes; "
                            f"mend {key}.cls or {key}.json"
                        )
                    )
                    continue
                yield image.offset_data, image.size, label, image.name
    except (tarfile.TarError, OSError, EOFError) as error:
        problem(DataError(f"{path}: is no whole tar file ({error}); replace it"))


def _image(parts: Dict[str, tarfile.TarInfo]) -> Optional[tarfile.TarInfo]:
    """The image of a sample: ``key.jpg`` before what has a name of its own, such as ``key.mask.png``."""
    images = [ending for ending in parts if f".{ending.rpartition('.')[2]}" in EXTENSIONS]
    return parts[min(images, key=lambda ending: ending.count("."))] if images else None


def _label(file: Any, parts: Dict[str, tarfile.TarInfo]) -> Optional[int]:
    for ending in _LABELS:
        member = parts.get(ending)
        if member is None:
            continue
        file.seek(member.offset_data)
        text = file.read(member.size)
        try:
            if ending == "json":
                found = json.loads(text)
                text = next(str(found[word]) for word in ("label", "cls", "class") if word in found)
            label = int(text)
        except (ValueError, TypeError, StopIteration):
            continue
        if label >= 0:
            return label
    return None

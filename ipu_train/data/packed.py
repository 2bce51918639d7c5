"""The packed form of a data set: every image of a part in one file that is mapped into memory.

A folder with ``pack.json``, and for each part ``train.data`` (the images behind each other) and ``train.npz`` (where
each lies, its shape, label, checksum and name). Either the pixels themselves, which need no decoding, or image files.
"""

import io
import json
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
from typing_extensions import Literal

from .. import durable
from ..places import PACK
from .errors import DataError
from .pixels import USUAL, Picture, Rules, decode

NAME = PACK
_VERSION = 1
Form = Literal["pixels", "files"]


class Packed:
    """Images of one part of a packed data set.

    Attributes:
        labels, class_names: of the images.
        heights, widths: in pixels, int64 ``[N]``.
    """

    def __init__(
        self, folder: Path, part: str, form: Form, class_names: List[str], columns: Dict[str, np.ndarray]
    ):
        self.folder, self.part, self.form, self.class_names = folder, part, form, class_names
        self._columns = columns
        self.labels = columns["labels"]
        self._bytes: Optional[np.ndarray] = None  # opened in each process

    def name(self, index: int) -> str:
        """How messages call an image."""
        return f"{self.folder / self.part}.data/{self._columns['names'][index]}"

    def _slice(self, index: int) -> np.ndarray:
        if self._bytes is None:
            self._bytes = np.memmap(str(self.folder / f"{self.part}.data"), dtype=np.uint8, mode="r")
        start = self._columns["offsets"][index]
        return self._bytes[start : start + self._columns["sizes"][index]]

    def read(self, index: int) -> bytes:
        """The bytes of an image, as they are stored."""
        return self._slice(index).tobytes()

    def picture(self, index: int, rules: Rules = USUAL) -> Picture:
        """An image's pixels.

        Raises:
            DataError: an image file that is damaged.
        """
        if self.form == "files":
            return decode(self.read(index), self.name(index), rules)
        return self._slice(index).reshape(self._columns["heights"][index], self._columns["widths"][index], 3)

    def verify(self, index: int) -> None:
        """Compare an image with its checksum.

        Raises:
            DataError: it is not what was packed.
        """
        if zlib.crc32(self._slice(index)) != self._columns["checksums"][index]:
            raise DataError(f"{self.name(index)}: its checksum is wrong: pack the data set again")

    def chosen(self, indices: np.ndarray) -> "Packed":
        """Some of the images."""
        own = {name: column[indices] for name, column in self._columns.items()}
        return Packed(self.folder, self.part, self.form, self.class_names, own)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_bytes": None}


def describe(folder: Path) -> Dict[str, Any]:
    """What ``pack.json`` says.

    Raises:
        DataError: there is none, or it is of a later version.
    """
    path = folder / NAME
    try:
        found: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = found["version"]
    except FileNotFoundError:
        raise DataError(
            f"{folder}: no packed data set (no {NAME}); make one with `ipu-train data pack`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); pack the data set again") from None
    if version != _VERSION:
        raise DataError(
            f"{path}: is of version {version}, and {_VERSION} is read here; pack the data set again"
        )
    missing = [key for key in ("form", "class_names", "parts") if key not in found]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; pack the data set again")
    return found


def open_part(folder: Path, part: str) -> Packed:
    """One part of a packed data set.

    Raises:
        DataError: it is not there, or not as long as it was.
    """
    found = describe(folder)
    if part not in found["parts"]:
        raise DataError(f"{folder}: has no part {part} (it has {', '.join(found['parts'])})")
    try:
        with np.load(str(folder / f"{part}.npz"), allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        size = (folder / f"{part}.data").stat().st_size
    except Exception as error:
        raise DataError(f"{folder / part}: cannot be read ({error}); pack the data set again") from None
    if size != found["parts"][part]["bytes"] or len(columns["labels"]) != found["parts"][part]["images"]:
        raise DataError(f"{folder / part}.data: is not as long as it was; pack the data set again")
    return Packed(folder, part, found["form"], found["class_names"], columns)


def write_part(
    folder: Path, part: str, images: Iterator[Tuple[str, int, Tuple[int, int], bytes]]
) -> Dict[str, int]:
    """Write one part.

    Args:
        folder: of the packed data set.
        part: its name.
        images: of each, in order: name, label, (height, width) and bytes.

    Returns:
        What ``pack.json`` says of it.
    """
    rows: List[Tuple[int, int, int, int, int, int]] = []
    names: List[str] = []
    at = 0
    partial = folder / f"{part}.data.partial"
    try:
        with partial.open("wb") as file:
            for name, label, (height, width), data in images:
                file.write(data)
                rows.append((at, len(data), height, width, label, zlib.crc32(data)))
                names.append(name)
                at += len(data)
    except BaseException:
        partial.unlink()
        raise
    durable.flush(partial)
    partial.replace(folder / f"{part}.data")
    columns = np.array(rows, dtype=np.int64).reshape(-1, 6).T
    buffer = io.BytesIO()
    kinds = ("offsets", "sizes", "heights", "widths", "labels", "checksums")
    np.savez(buffer, names=np.array(names), **dict(zip(kinds, columns)))
    durable.write(folder / f"{part}.npz", buffer.getvalue())
    return {"images": len(rows), "bytes": at}


def write_description(
    folder: Path, form: Form, class_names: List[str], parts: Dict[str, Dict[str, int]]
) -> None:
    """Write ``pack.json``, last: without it, nothing is a packed data set."""
    found = {"version": _VERSION, "form": form, "class_names": class_names, "parts": parts}
    durable.write(folder / NAME, json.dumps(found, indent=1) + "\n")

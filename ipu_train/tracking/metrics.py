"""``metrics.jsonl``: one JSON object a line, for people and programs."""

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Mapping, Optional, Union

from .. import durable

Record = Dict[str, Any]
PathLike = Union[str, "os.PathLike[str]"]

TRAIN, VALIDATION = "train", "validation"


class MetricsError(ValueError):
    """A metrics file that cannot be read or written; the message names the file, and the line of what is in it."""


def _line(record: Mapping[str, Any]) -> str:
    # JSON knows neither NaN nor infinity; a loss that is no number is written as null.
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(clean, allow_nan=False) + "\n"


def read_metrics(path: PathLike) -> List[Record]:
    """All records of a metrics file.

    A last line without its end, as a killed run leaves it, is passed over.

    Raises:
        MetricsError: the file cannot be read, or another line is no JSON object.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MetricsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    lines = text.split("\n")[:-1]  # what follows the last line end is empty, or torn
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise MetricsError(f"{path}:{number}: is not a JSON object; delete the line or the file")
        records.append(record)
    return records


def lines_until(path: PathLike, step: int) -> bytes:
    """The lines of a metrics file up to a weight update, as bytes; nothing where there is no file."""
    if not Path(path).exists():
        return b""
    return "".join(_line(record) for record in read_metrics(path) if record.get("step", 0) <= step).encode(
        "utf-8"
    )


class MetricsFile:
    """Appends records to a metrics file, each of them safe from a killed process once written.

    A file that is deleted or replaced under the run is put back, whole, with the next record.

    Args:
        path: the file; whatever has its name is replaced, a link is not followed.
        beginning: lines to begin with, of the checkpoint that a run goes on from.
    """

    def __init__(self, path: PathLike, beginning: bytes = b""):
        self.path = Path(path)
        self._file: Optional[BinaryIO] = None
        self._put_back(beginning)

    def _put_back(self, content: bytes) -> None:
        """Whoever reads the file meanwhile sees the old or the new one, never half of it."""
        durable.write(self.path, content)
        previous, self._file = self._file, open(self.path, "ab+")  # noqa: SIM115 (closed by close)
        if previous is not None:
            previous.close()

    def write(self, **record: Any) -> None:
        """Append one record.

        Raises:
            MetricsError: the disk is full, say. The file takes nothing more then.
        """
        file = self._open()
        try:
            file.write(_line(record).encode("utf-8"))
            file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # it tries once more to write what was refused
                file.close()
            raise MetricsError(
                f"{self.path}: cannot be written: {error.strerror or error}. What checkpoints hold is safe: free some "
                "space, then go on with --resume"
            ) from error

    def content(self) -> bytes:
        """All lines written so far."""
        file = self._open()
        file.seek(0)
        return file.read()

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still the one under its name."""
        try:
            found, ours = os.lstat(self.path), os.fstat(self._open().fileno())
        except OSError:
            return False
        return (found.st_ino, found.st_dev) == (ours.st_ino, ours.st_dev)

    def ensure_in_place(self) -> bool:
        """Put the file back, with all its lines, if somebody has deleted or replaced it; tells whether that was so."""
        if self.is_in_place:
            return False
        content = self.content()  # a deleted file lives as long as it is open
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._put_back(content)
        return True

    def _open(self) -> BinaryIO:
        if self._file is None:
            raise ValueError(f"{self.path} is closed")
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

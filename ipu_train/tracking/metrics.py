"""``metrics.jsonl``: one JSON object a line, for people and programs."""

import json
import math
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, TextIO, Union

Record = Dict[str, Any]
PathLike = Union[str, "os.PathLike[str]"]

TRAIN, VALIDATION = "train", "validation"


class MetricsError(ValueError):
    """A metrics file that cannot be read; the message names file and line."""


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


class MetricsFile:
    """Appends records to a metrics file, each of them safe from a killed process once written.

    Args:
        path: the file; it is made when missing.
        resume_step: go on after this weight update: records with a later ``step``, and a torn last line, are
            dropped first. None: a new run, which begins an empty file.

    Raises:
        MetricsError: the file to go on with cannot be read.
    """

    def __init__(self, path: PathLike, resume_step: Union[int, None] = None):
        self.path = Path(path)
        kept: List[Record] = []
        if resume_step is not None and self.path.exists():
            kept = [record for record in read_metrics(self.path) if record.get("step", 0) <= resume_step]
        self._replace(kept)
        self._file: TextIO = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def _replace(self, records: List[Record]) -> None:
        """Whoever reads the file meanwhile sees the old or the new one, never half of it."""
        temporary = self.path.with_name(self.path.name + ".tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(_line(record) for record in records)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def write(self, **record: Any) -> None:
        """Append one record."""
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

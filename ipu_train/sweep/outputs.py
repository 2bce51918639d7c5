"""The files and the table of a sweep."""

import csv
import io
import json
from pathlib import Path
from typing import Any, Dict, List, Optional

from .. import durable
from ..ipumodel import ranges
from ..tracking import table
from .errors import SweepError
from .names import CSV_FILE, JSON_FILE
from .records import Record

_FIRST = (
    "norm", "micro_batch_size", "gradient_accumulation", "replicas", "global_batch_size", "keeps_global_batch",
    "ipus_per_replica", "fits", "total_bytes", "worst_tile_bytes", "bytes_per_tile", "cycles", "images_per_second",
    "largest_micro_batch_size", "ipus_needed", "measured_peak_bytes", "predicted_plain_torch_bytes",
    "measured_accuracy", "measured_steps", "note", "error",
)  # fmt: skip


def terminal_table(records: List[Record]) -> str:
    """One line a point; settings are in front where there are any."""
    paths = list(records[0]["settings"]) if records else []
    measured = any("measured_peak_bytes" in one for one in records)
    header = [
        "norm",
        *paths,
        "micro-batch",
        "accumulation",
        "global batch",
        "MB/IPU",
        "worst tile",
        "",
        "images/s",
    ]
    header += ["largest", "IPUs needed"]
    if measured:
        header += ["measured MB", "plain torch MB", "accuracy"]
    rows = []
    for one in records:
        row: List[Any] = [one["norm"], *(one["settings"][path] for path in paths), one["micro_batch_size"]]
        row += [one["gradient_accumulation"], f"{one['global_batch_size']:,}" + ("*" if one["note"] else "")]
        if "total_bytes" in one:
            verdict = "fits" if one["fits"] else "too large"
            row += [f"{one['total_bytes'] / 1e6:,.1f}", f"{one['worst_tile_bytes']:,}", verdict]
            row += [f"{one['images_per_second']:,.0f}"]
        else:
            row += ["-", "-", "failed", "-"]
        row += [_or_dash(one.get("largest_micro_batch_size")), _or_dash(one.get("ipus_needed"))]
        if measured:
            row += [
                _megabytes(one.get("measured_peak_bytes")),
                _megabytes(one.get("predicted_plain_torch_bytes")),
            ]
            accuracy = one.get("measured_accuracy")
            row.append("-" if accuracy is None else f"{accuracy:.1%}")
        rows.append(row)
    return f"{table(header, rows)}\n{ranges.sentence()}"


def _or_dash(value: Optional[int]) -> str:
    return "-" if value is None else str(value)


def _megabytes(value: Optional[int]) -> str:
    return "-" if value is None else f"{value / 1e6:,.1f}"


def write(folder: Path, document: Dict[str, Any], json_path: Optional[Path] = None) -> None:
    """``sweep.json`` and ``sweep.csv`` in the folder, and the JSON once more at ``json_path``.

    Raises:
        SweepError: a file cannot be written.
    """
    text = json.dumps(document, indent=1) + "\n"
    put(folder / JSON_FILE, text)
    put(folder / CSV_FILE, csv_text(document["points"]))
    if json_path is not None:
        put(json_path, text)


def put(path: Path, text: str) -> None:
    """Write a file at once: whoever reads it sees the old text or the new one.

    Raises:
        SweepError: it cannot be written.
    """
    try:
        durable.write(path, text)
    except OSError as error:
        raise SweepError(f"Cannot write {path}: {error.strerror or error}.") from error


def csv_text(records: List[Record]) -> str:
    """One row a point: plain values first, then settings and the bytes of each category."""
    rows = [_flat(one) for one in records]
    further = sorted({key for row in rows for key in row} - set(_FIRST))
    present = [key for key in _FIRST if any(key in row for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, present + further, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(one: Record) -> Dict[str, Any]:
    row: Dict[str, Any] = {}
    for key, value in one.items():
        if key == "settings":
            row.update(value)
        elif key == "categories_bytes":
            row.update({f"{name}_bytes": size for name, size in value.items()})
        elif key == "worst_tile_categories_bytes":
            row.update({f"worst_tile_{name}_bytes": size for name, size in value.items()})
        elif not isinstance(value, (list, dict)):
            row[key] = value
    return row

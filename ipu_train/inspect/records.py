"""What was measured at each norm, as rows, JSON, CSV and a table."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any, List, Mapping, Sequence

from .. import durable
from ..models.power import Powers
from ..tracking.powers import Layer, by_norm
from .errors import InspectError


def layers_of(norm: str, powers: Mapping[str, Powers]) -> List[Layer]:
    """Rows from the terms of each norm, in the order of execution."""
    return [
        Layer(norm, depth, name, *(float(term) for term in terms))
        for depth, (name, terms) in enumerate(powers.items(), start=1)
    ]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """JSON knows neither NaN nor infinity: a term that is no number, as of activations that overflow, is null."""
    _write(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """One line for each row, under the names of its fields."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(rows[0]._fields)
    writer.writerows(rows)
    _write(path, text.getvalue())


def _write(path: Path, text: str) -> None:
    try:
        durable.write(path, text)
    except OSError as error:
        raise InspectError(f"{path}: cannot be written: {error.strerror or error}") from None


def table(layers: Sequence[Layer]) -> str:
    """For the terminal: a block for each norm, a line for each layer."""
    blocks = []
    for norm, rows in by_norm(layers).items():
        wide = max(len(row.name) for row in rows)
        head = f"{norm}\n{'depth':>5}  {'norm':<{wide}}  mean^2 of means  var of means  mean^2 of stds  var of stds"
        lines = [
            f"{row.depth:>5}  {row.name:<{wide}}  {row[3]:>15.4f}  {row[4]:>12.4f}  {row[5]:>14.4f}  {row[6]:>11.4f}"
            for row in rows
        ]
        blocks.append("\n".join([head, *lines]))
    return "\n\n".join(blocks)

"""``metrics.csv``: the lines of ``metrics.jsonl`` as a table, for programs that read nothing else."""

import csv
import io
from pathlib import Path
from typing import Dict, Sequence

from .. import durable
from .metrics import Record


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Put all records into the file: a column for each key, in the order in which keys first appear."""
    columns: Dict[str, None] = {}
    for record in records:
        columns.update(dict.fromkeys(record))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    durable.write(path, text.getvalue())

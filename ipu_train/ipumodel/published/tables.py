"""Reading and writing the CSV tables of the command line, one clear message for what is wrong with them."""

import csv
from typing import Any, Dict, List, Sequence, Tuple

Row = Dict[str, Any]

_BEYOND = "cells beyond the columns"


def read_rows(path: str, needed: Sequence[str]) -> Tuple[List[str], List[Row]]:
    """(columns, rows as dicts of text) of a CSV file; ValueError when it cannot be read or a column is missing.

    Spreadsheets put a byte order mark first, and short rows lack their last cells: those are empty. Needed columns
    may be written in another case. Bytes that are not UTF-8, as older spreadsheets write them, come out as they are.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, restval="", restkey=_BEYOND)
            columns = _renamed(reader.fieldnames or [], needed)
            reader.fieldnames = columns
            rows = list(reader)
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a CSV file: {error}") from None
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ValueError(f"{path}: has no column {', '.join(missing)}; the table needs {', '.join(needed)}")
    return columns, rows


def check_cells(row: Row) -> None:
    """ValueError when a row has more cells than the table has columns: a value with a comma lacks its quotes."""
    if any(cell.strip() for cell in row.get(_BEYOND) or ()):
        raise ValueError(
            "the row has more cells than the table has columns; put a value that holds a comma in double quotes"
        )


def keep_given(columns: Sequence[str], rows: Sequence[Row], added: Sequence[str]) -> List[str]:
    """The columns of ``columns`` that ``added`` would overwrite, as ``published_<name>``, copied in every row.

    A table that has been through here already keeps the values it was first given.
    """
    given = [name for name in added if name in columns and f"published_{name}" not in columns]
    for row in rows:
        row.update({f"published_{name}": row[name] for name in given})
    return [f"published_{name}" for name in given]


def _renamed(columns: Sequence[str], needed: Sequence[str]) -> List[str]:
    known = {name.lower(): name for name in needed}
    found = []
    for name in columns:
        plain = known.get(name.strip().lower())
        found.append(plain if plain and plain not in columns and plain not in found else name)
    return found


def check_writable(path: str) -> None:
    """ValueError when a file cannot be written there, said before minutes of predictions are lost to it."""
    try:
        open(path, "a", encoding="utf-8").close()
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error}") from None


def write_rows(path: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes rows (dicts) as CSV; ValueError when the file cannot be written."""
    try:
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, fieldnames=columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error}") from None

"""Reading and writing the CSV tables of the command line, one clear message for what is wrong with them."""

import csv


def read_rows(path, needed):
    """Rows of a CSV file as dicts; ValueError when it cannot be read or a needed column is missing."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a CSV file: {error}") from None
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ValueError(f"{path}: has no column {', '.join(missing)}; the table needs {', '.join(needed)}")
    return columns, rows


def write_rows(path, columns, rows):
    """Writes rows (dicts) as CSV; ValueError when the file cannot be written."""
    try:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error}") from None

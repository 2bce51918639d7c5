"""What the V-IPU tools say of a partition, where they are installed."""

import subprocess
from typing import List, Optional


def size_of(name: str, vipu_host: Optional[str] = None) -> Optional[int]:
    """IPUs of a partition as ``vipu list partitions`` prints them; None where it cannot be asked or does not say."""
    host = ["--api-host", vipu_host] if vipu_host else []
    try:
        answer = subprocess.run(
            ["vipu", "list", "partitions", *host],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return find_size(answer.stdout.decode("utf-8", "replace"), name) if answer.returncode == 0 else None


def find_size(table: str, name: str) -> Optional[int]:
    """The number in the column of IPUs and the row of the partition."""
    rows: List[List[str]] = [
        [cell.strip() for cell in line.strip(" |").split("|")] for line in table.splitlines() if "|" in line
    ]
    column = next(
        (i for row in rows for i, cell in enumerate(row) if cell.lower().strip("# ") in ("ipus", "size")),
        None,
    )
    row = next((row for row in rows if name in row), None)
    if column is None or row is None or column >= len(row) or not row[column].isdigit():
        return None
    return int(row[column])

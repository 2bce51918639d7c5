"""What a check has found, one JSON object a line; and what has changed since an earlier one."""

import json
import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from .. import durable
from .check import Findings, Record

NAME = "manifest.jsonl"


def write(path: Path, found: Findings) -> None:
    """Write a manifest.

    Raises:
        OSError: the file system refuses.
    """
    lines = [json.dumps(record._asdict()) for record in found.records]
    lines += [json.dumps({"doubt": doubt}) for doubt in found.doubts]
    known = {record.problem for record in found.records}
    lines += [json.dumps({"problem": problem}) for problem in found.problems if problem not in known]
    durable.write(path, "".join(line + "\n" for line in lines))


def read(path: Path) -> Optional[Dict[str, str]]:
    """File -> SHA-256 (empty where it could not be read) of an earlier check; None where there is no such manifest."""
    found: Dict[str, str] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "file" in row:
                found[row["file"]] = str(row["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found or None


def changes(before: Dict[str, str], records: Sequence[Record]) -> List[str]:
    """A line for each file that is new, gone or another one than at the earlier check."""
    then = _within(before)
    now = _within({record.file: record.sha256 for record in records})
    lines = [f"{name}: is another file than before" for name in now if then.get(name, now[name]) != now[name]]
    lines += [f"{name}: is new" for name in now if name not in then]
    return lines + [f"{name}: is gone" for name in then if name not in now]


def _within(files: Dict[str, str]) -> Dict[str, str]:
    """The same by names within the data set, which may have been called by another path."""
    if len(files) < 2:
        return {os.path.basename(name): digest for name, digest in files.items()}
    top = os.path.commonpath(list(files))
    return {os.path.relpath(name, top): digest for name, digest in sorted(files.items())}

"""Plans kept on disk between commands: the same problem is searched once, by whatever process.

One SQLite file, named by the content of what plans are made with, so that another version of the planner finds none of
the old ones. Nothing is kept until a command says where (:func:`keep_in`); what cannot be read or written there is
planned again, and nothing is said: a cache is no reason to fail.
"""

import hashlib
import json
import os
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from ..target import Target
from .forms import Codelet, PlanOptions
from .params import Problem

_place: Optional[Path] = None
_open: Optional[Tuple[int, sqlite3.Connection]] = (
    None  # of the process with this number: no fork may share it
)
_FILES = 4  # of earlier versions are left alone, the rest is deleted
_WAIT_IN_S = 2.0


def keep_in(folder: Optional[Path]) -> None:
    """Keep plans in a file in this folder, made where it is missing; None: keep nothing."""
    global _place, _open
    _place, _open = None, None
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted(folder.glob("plans-*.sqlite"), key=os.path.getmtime)
        for old in files[:-_FILES]:
            old.unlink()
    except OSError:
        return
    _place = folder / f"plans-{version()}.sqlite"


def version() -> str:
    """Digest of the planner: of all that a plan depends on beside its problem."""
    digest = hashlib.sha256()
    room = Path(__file__).parent
    for path in [*sorted(room.glob("*.py")), room.parent / "constants.py", room.parent / "target.py"]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def kept(
    problem: Problem,
    target: Target,
    options: PlanOptions,
    search: Callable[[], Any],
    plan_of: Callable[..., Any],
) -> Any:
    """The plan that is kept for a problem, or what ``search`` finds, which is kept then.

    Args:
        plan_of: makes a plan from its fields by name.
    """
    key = hashlib.sha256(repr((problem, target, options)).encode()).digest()
    text = _read(key)
    if text is not None:
        fields = json.loads(text)
        fields.update(problem=_problem(fields["problem"]), codelet=Codelet(**fields["codelet"]))
        return plan_of(**{**fields, "splits": tuple(fields["splits"])})
    plan = search()
    _write(key, plan)
    return plan


def _problem(fields: Any) -> Problem:
    values: Dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Problem(**values)


def _connection() -> Optional[sqlite3.Connection]:
    global _open
    if _place is None:
        return None
    if _open is None or _open[0] != os.getpid():
        connection = sqlite3.connect(str(_place), timeout=_WAIT_IN_S, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")  # a plan that a loss of power takes is planned again
        connection.execute(
            "CREATE TABLE IF NOT EXISTS plans (problem BLOB PRIMARY KEY, plan TEXT) WITHOUT ROWID"
        )
        _open = (os.getpid(), connection)
    return _open[1]


def _read(key: bytes) -> Optional[str]:
    try:
        connection = _connection()
        found = (
            connection and connection.execute("SELECT plan FROM plans WHERE problem = ?", (key,)).fetchone()
        )
    except sqlite3.Error:
        _without()
        return None
    return found[0] if found else None


def _write(key: bytes, plan: Any) -> None:
    try:
        connection = _connection()
        if connection is not None:
            connection.execute("INSERT OR IGNORE INTO plans VALUES (?, ?)", (key, json.dumps(asdict(plan))))
    except sqlite3.Error:
        _without()


def _without() -> None:
    """A file that is damaged, locked for long or cannot be written: go on without."""
    global _place
    _place = None

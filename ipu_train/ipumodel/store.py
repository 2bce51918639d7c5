"""What is kept on disk between commands: answers by the digest of their questions, one SQLite file for each kind.

A file is named by the content of what its answers are made with, so that another version finds none of the old ones.
Nothing is kept until a command says where (:meth:`Store.keep_in`); what cannot be read or written there is found anew,
and nothing is said: a cache is no reason to fail.
"""

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Iterable, Optional, Tuple, Union

_FILES = 4  # of earlier versions are left alone, the rest is deleted
_WAIT_IN_S = 2.0


def digest_of(paths: Iterable[Path]) -> str:
    """Digest of the names and contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class Store:
    """Answers of one kind.

    Args:
        kind: the first word of the files' names.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._place: Optional[Path] = None
        # of the process with this number: no fork may share it
        self._open: Optional[Tuple[int, sqlite3.Connection]] = None

    def keep_in(self, folder: Optional[Path], version: str) -> None:
        """Keep answers in a file in this folder, made where it is missing; None: keep nothing."""
        self._place, self._open = None, None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = sorted(folder.glob(f"{self.kind}-*.sqlite"), key=os.path.getmtime)
            for old in files[:-_FILES]:
                old.unlink()
        except OSError:
            return
        self._place = folder / f"{self.kind}-{version}.sqlite"

    @property
    def keeps(self) -> bool:
        """Whether there is a place to keep answers in."""
        return self._place is not None

    def read(self, question: str) -> Union[str, bytes, None]:
        """The answer kept to a question; None where there is none."""
        try:
            connection = self._connection()
            found = (
                connection
                and connection.execute(
                    f"SELECT answer FROM {self.kind} WHERE question = ?", (_digest(question),)
                ).fetchone()
            )
        except sqlite3.Error:
            self.give_up()
            return None
        return found[0] if found else None

    def write(self, question: str, answer: Union[str, bytes], again: bool = False) -> None:
        """Keep an answer; one that is there already stays, unless it is found ``again``."""
        word = "REPLACE" if again else "IGNORE"
        try:
            connection = self._connection()
            if connection is not None:
                connection.execute(
                    f"INSERT OR {word} INTO {self.kind} VALUES (?, ?)", (_digest(question), answer)
                )
        except sqlite3.Error:
            self.give_up()

    def give_up(self) -> None:
        """Go on without: for a file that is damaged, locked for long or cannot be written."""
        self._place = None

    def _connection(self) -> Optional[sqlite3.Connection]:
        if self._place is None:
            return None
        if self._open is None or self._open[0] != os.getpid():
            connection = sqlite3.connect(str(self._place), timeout=_WAIT_IN_S, isolation_level=None)
            connection.execute("PRAGMA synchronous = OFF")  # what a loss of power takes is found anew
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.kind} (question BLOB PRIMARY KEY, answer) WITHOUT ROWID"
            )
            self._open = (os.getpid(), connection)
        return self._open[1]


def _digest(question: str) -> bytes:
    return hashlib.sha256(question.encode()).digest()

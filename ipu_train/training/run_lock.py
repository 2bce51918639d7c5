"""One run folder, one process: a lock that ends with its process, however that ends."""

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Dict, Optional, Set

NAME = "run.lock"

# POSIX locks are a process's own: within it they do not exclude, and closing any descriptor of the file drops them.
_HELD: Set[str] = set()


class LockedError(ValueError):
    """A run folder that another process works in; the message says which."""


class RunLock:
    """Holds a run folder. A POSIX lock: the operating system drops it with the process, children do not inherit it.

    The file tells people who holds it: host, process number and time.

    Raises:
        LockedError: on entering, another process holds the folder.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._descriptor: Optional[int] = None
        self._owner = 0

    def __enter__(self) -> "RunLock":
        key = str(self.path.resolve())
        if key in _HELD:
            raise LockedError(_held_by(self.path, {"pid": os.getpid(), "host": socket.gethostname()}))
        while True:
            descriptor = os.open(str(self.path), os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                _lock(descriptor, self.path)
                current = os.stat(str(self.path))
            except FileNotFoundError:  # the one before us has just removed it
                os.close(descriptor)
                continue
            except BaseException:
                os.close(descriptor)
                raise
            if (current.st_ino, current.st_dev) == _identity(descriptor):
                break
            os.close(descriptor)
        self._descriptor, self._owner = descriptor, os.getpid()
        _HELD.add(key)
        self._key = key
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("utf-8") + b"\n", 0)
        return self

    def release(self) -> None:
        """Remove the file, then drop the lock. A forked child that inherited this object does nothing."""
        if self._descriptor is None or self._owner != os.getpid():
            return
        try:
            if _identity_of(self.path) == _identity(self._descriptor):
                os.unlink(str(self.path))
        except OSError:  # the folder has gone
            pass
        os.close(self._descriptor)
        self._descriptor = None
        _HELD.discard(self._key)

    def __exit__(self, *exc_info: Any) -> None:
        self.release()


def check(folder: Path) -> None:
    """Refuse a folder that a living process holds, without taking it.

    Raises:
        LockedError: another process works there.
    """
    path = folder / NAME
    if str(path.resolve()) in _HELD:  # opening it here would drop our own lock
        return
    try:
        descriptor = os.open(str(path), os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # nobody, or a folder that cannot be written, which is said when that is tried
        return
    try:
        _lock(descriptor, path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise LockedError(_held_by(path, _holder(descriptor))) from None
        # a file system without locks: only a process that is known to live on this host is in the way
        holder = _holder(descriptor)
        if holder.get("host") == socket.gethostname() and _lives(holder.get("pid")):
            raise LockedError(_held_by(path, holder)) from None


def _holder(descriptor: int) -> Dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0).decode("utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _held_by(path: Path, holder: Dict[str, Any]) -> str:
    return (
        f"run_dir {path.parent} is in use: process {holder.get('pid', '?')} on {holder.get('host', '?')} has trained "
        f"there since {holder.get('since', '?')}. Wait for it or stop it, or choose another folder with run_dir=PATH."
    )


def _lives(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0 or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _identity(descriptor: int) -> Any:
    found = os.fstat(descriptor)
    return found.st_ino, found.st_dev


def _identity_of(path: Path) -> Any:
    found = os.stat(str(path))
    return found.st_ino, found.st_dev

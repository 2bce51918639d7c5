"""Devices held by other processes: a program and the processes that it starts share one emulated machine.

The machine is a folder of lock files, named by an environment variable that child processes inherit. The operating
system gives a lock back when its process ends, however it ends. Where there are no such locks (Windows), each process
has the machine to itself.
"""

import atexit
import os
import shutil
import tempfile
import uuid
from typing import Dict

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

_MACHINE = "POPTORCH_EMULATOR_MACHINE"
_founder = os.getpid() if _MACHINE not in os.environ else None
os.environ.setdefault(_MACHINE, f"ipu-train-emulator-{uuid.uuid4().hex}")

_held: Dict[int, int] = {}  # device id -> descriptor of its lock file


def lock(device: int) -> bool:
    """Take a device for this process; False when another process has it."""
    if fcntl is None or device in _held:
        return True
    folder = _folder()
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(os.path.join(folder, str(device)), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    _held[device] = descriptor
    return True


def unlock(device: int) -> None:
    """Give a device back; nothing happens if this process does not hold it."""
    descriptor = _held.pop(device, None)
    if descriptor is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not do: forked processes have copies of it
        os.close(descriptor)


def _let_go() -> None:
    """A forked process holds nothing, or what its parent held would stay taken until it ends, too."""
    while _held:
        os.close(_held.popitem()[1])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _folder() -> str:
    return os.path.join(tempfile.gettempdir(), os.environ[_MACHINE])


@atexit.register
def _demolish() -> None:
    """The process that founded the machine outlives the others and clears up."""
    if _founder == os.getpid():
        shutil.rmtree(_folder(), ignore_errors=True)

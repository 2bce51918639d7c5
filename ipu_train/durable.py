"""Files that are whole or absent: written beside their place, flushed to the disk and renamed.

A link planted under the name of such a file is replaced, never followed. Devices, pipes and sockets are written into:
``/dev/stdout`` or ``/dev/null`` must not become files.
"""

import os
import re
import stat
import sys
import tempfile
from pathlib import Path
from typing import Optional, Union

PathLike = Union[str, "os.PathLike[str]"]


def write(path: PathLike, content: Union[str, bytes]) -> None:
    """Put a file in the place of whatever has its name; readers see the old or the new one, never half of it.

    Bytes of file names that are no text become ``\\udc..``, which is how JSON and YAML themselves escape them.

    Raises:
        OSError: the file system refuses; what was there is untouched.
    """
    path = Path(path)
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    if is_no_file(path):
        _write_into(str(path), data)
        return
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=str(path.parent))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())  # mkstemp's files are private
        os.replace(temporary, str(path))
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say whose
            error.filename = str(path)
        raise
    flush(path.parent)


def is_no_file(path: PathLike) -> bool:
    """Whether what lies there passes on what is written: a device, a pipe, a socket, or an open file of a process."""
    place = os.path.abspath(str(path))
    try:
        mode = os.stat(place).st_mode
    except OSError:
        return False
    if stat.S_ISREG(mode):  # /dev/stdout, where the output goes to a file
        return re.fullmatch(r"/dev/\w+|/dev/fd/\d+|/proc/\w+/fd/\d+", place) is not None
    return not stat.S_ISDIR(mode)


def is_standard_output(path: PathLike) -> bool:
    """Whether what is written there comes out of this process's standard output."""
    return _own_descriptor(path) == 1


def _own_descriptor(path: PathLike) -> Optional[int]:
    """The open file of this process that a path names, such as ``/dev/stdout``."""
    own = re.fullmatch(r"(?:/dev|/proc/self)/(?:fd/(\d+)|(stdout)|(stderr))", os.path.abspath(str(path)))
    return None if own is None else int(own.group(1) or (1 if own.group(2) else 2))


def _write_into(path: str, data: bytes) -> None:
    own = _own_descriptor(path)
    if own is None:
        descriptor = os.open(path, os.O_WRONLY)
    else:  # opened anew, a file that the output goes to would be written from its beginning
        sys.stdout.flush()
        sys.stderr.flush()
        descriptor = os.dup(own)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def flush(path: PathLike) -> None:
    """Make a file or the names in a folder survive a loss of power."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def refusal(folder: PathLike) -> Optional[str]:
    """Why nothing can be written in a folder that is there, as the operating system says it; None: it can.

    It is tried: rights alone do not tell for a superuser, on a full disk, or in a folder such as ``/proc``.
    """
    if not os.access(str(folder), os.W_OK | os.X_OK):
        return "permission denied"
    try:
        descriptor, probe = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=str(folder))
    except OSError as error:
        return str(error.strerror or error).lower()
    os.close(descriptor)
    os.unlink(probe)
    return None

"""Files that are whole or absent: written beside their place, flushed to the disk and renamed.

A link planted under the name of such a file is replaced, never followed.
"""

import os
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
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=str(path.parent))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())  # mkstemp's files are private
        os.replace(temporary, str(path))
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    flush(path.parent)


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

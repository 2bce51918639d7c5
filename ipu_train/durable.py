"""Files that are whole or absent: written beside their place, flushed to the disk and renamed.

A link planted under the name of such a file is replaced, never followed.
"""

import os
import tempfile
from pathlib import Path
from typing import Union

PathLike = Union[str, "os.PathLike[str]"]


def write(path: PathLike, content: Union[str, bytes]) -> None:
    """Put a file in the place of whatever has its name; readers see the old or the new one, never half of it.

    Raises:
        OSError: the file system refuses; what was there is untouched.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
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

"""Files that a command is asked to write: refused before anything is loaded or computed. Imports nothing heavy."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Iterator, Optional, Sequence, TextIO, Union

from . import durable

PAGES = (".html", ".htm")


class OutputError(ValueError):
    """A file that cannot be written where it was asked for; the message says what to do."""


def place(text: str) -> Path:
    """The file that an option names; ``-`` is standard output, as with other programs, and ``./-`` a file."""
    return Path("/dev/stdout" if text == "-" else text)


def words(*paths: Optional[Union[str, Path]]) -> TextIO:
    """Where a command says what it says: not on standard output when a file is written there, which other programs
    read."""
    taken = any(path is not None and durable.is_standard_output(path) for path in paths)
    return sys.stderr if taken else sys.stdout


@contextlib.contextmanager
def going_on(stream: Optional[TextIO]) -> Iterator[None]:
    """A context in which something is said that nobody need hear: a run goes on when its words find no place.

    A full disk, a terminal that was closed and a reader that has gone refuse one write, and would refuse the next ones
    and the last at the end of the process: from then on the stream leads nowhere.
    """
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no stream of the operating system
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)


def check(
    option: str, path: Optional[Union[str, Path]], suffixes: Sequence[str] = (), streams: bool = False
) -> None:
    """Refuse a file that could not be written; None is no file and always fine.

    Args:
        option: that names the file.
        suffixes: that its name may have; none: any.
        streams: it may be a device or a pipe, such as ``/dev/stdout``: ``durable.write`` writes it.

    Raises:
        OutputError: another ending, a device or a pipe where that cannot be, no such folder, a folder in its place, or
            one that takes no files.
    """
    if path is None:
        return
    place = Path(path)
    if suffixes and place.suffix.lower() not in suffixes:
        raise OutputError(
            f"{option} {path}: its name must end in {'one of ' * (len(suffixes) > 2)}{_or(suffixes)}"
        )
    if durable.is_no_file(place):
        if streams:
            return
        raise OutputError(f"{option} {path}: is a device or a pipe; name a file in a folder that exists")
    folder = place.absolute().parent
    if not folder.is_dir():
        raise OutputError(
            f"{option} {path}: must be a file in a folder that exists; there is no folder {folder}"
        )
    if place.is_dir():
        raise OutputError(f"{option} {path}: is a folder; name a file in a folder that exists")
    why = durable.refusal(folder)
    if why is not None:
        raise OutputError(
            f"{option} {path}: nothing can be written in {folder} ({why}); choose another place"
        )


def _or(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " or " * (len(words) > 1) + words[-1]


def check_page(path: Optional[str]) -> None:
    """Refuse a report page that could not be written; see :func:`check`."""
    check("--html", path, PAGES)


def check_picture(path: Optional[Union[str, Path]], option: str = "--plot", also: Sequence[str] = ()) -> None:
    """Refuse a picture that could not be drawn; see :func:`check`.

    Args:
        also: endings of files that are no pictures and may be asked for all the same.

    Raises:
        OutputError: as there, or matplotlib is not installed.
    """
    if path is None:
        return
    if Path(path).suffix.lower() in also:
        check(option, path)
        return
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        other = f", or ask for a {_or(also)}" if also else ""
        raise OutputError(
            f"{option} {path}: pictures need matplotlib; install ipu-train[plots]{other}"
        ) from None
    known = sorted(f".{name}" for name in FigureCanvasBase.get_supported_filetypes())
    check(option, path, (*known, *also))

"""From any data set of image files to the packed form, on all cores."""

import contextlib
import io
import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from . import workers
from .check import Part, begin_process
from .errors import DataError
from .packed import Form, Packed, write_description, write_part
from .pixels import Rules, decode
from .resizing import size_of

_TOGETHER = 16  # images of one task of a process
_QUALITY = 95  # of JPEG files that are made smaller

Entry = Tuple[str, int, Tuple[int, int], bytes]  # name, label, (height, width), bytes
Outcome = Tuple[Optional[Entry], Optional[DataError]]


class Packing(NamedTuple):
    """How images are packed.

    Attributes:
        form: their pixels, or image files.
        shorter_side: pixels that a larger picture is made smaller to; None: pictures stay as they are, and image files
            keep their very bytes.
        rules: of decoding.
    """

    form: Form = "pixels"
    shorter_side: Optional[int] = None
    rules: Rules = Rules()


def entry(part: Part, index: int, how: Packing) -> Entry:
    """One image as it is packed.

    Raises:
        DataError: it cannot be used.
    """
    files = part.files
    if isinstance(files, Packed):
        data, picture = b"", files.picture(index, how.rules)
    else:
        data = files.read(index)
        picture = decode(data, files.name(index), how.rules)
    width, height = size_of(picture)
    smaller = how.shorter_side is not None and min(width, height) > how.shorter_side
    if smaller and how.shorter_side is not None:
        share = how.shorter_side / min(width, height)
        width, height = max(1, round(width * share)), max(1, round(height * share))
        whole = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        picture = whole.resize((width, height), Image.LANCZOS)
    if how.form == "pixels":
        data = np.ascontiguousarray(np.asarray(picture)).tobytes()
    elif smaller or not data:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
        data = buffer.getvalue()
    return os.path.basename(files.name(index)), int(files.labels[index]), (height, width), data


_PARTS: Sequence[Part] = ()
_HOW = Packing()


def _begin(parts: Sequence[Part], how: Packing) -> None:
    global _PARTS, _HOW
    _PARTS, _HOW = parts, how
    begin_process()


def _some(part: int, start: int, stop: int) -> List[Outcome]:
    found: List[Outcome] = []
    for index in range(start, stop):
        try:
            found.append((entry(_PARTS[part], index, _HOW), None))
        except DataError as error:
            found.append((None, error))
    return found


def pack(
    parts: Sequence[Part],
    folder: Path,
    how: Packing,
    problem: Callable[[DataError], None],
    processes: Optional[int] = None,
    progress: Optional[bool] = None,
) -> Dict[str, Dict[str, int]]:
    """Write a packed data set.

    Args:
        parts: of the data set.
        folder: where to; is made.
        how: the images are packed.
        problem: told of what cannot be used, which is left out; may raise.
        processes: None: one a core.
        progress: show a progress bar; None: when standard error is a terminal.

    Returns:
        Images and bytes of each part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for error in part.unlisted:
            problem(error)
    count = processes or os.cpu_count() or 1
    written: Dict[str, Dict[str, int]] = {}
    hidden = None if progress is None else not progress
    total = sum(len(part.files.labels) for part in parts)
    with contextlib.ExitStack() as stack:
        bar: Any = stack.enter_context(
            tqdm(total=total, desc="packing", unit=" images", disable=hidden, leave=False)
        )
        pool = stack.enter_context(
            ProcessPoolExecutor(
                count, mp_context=workers.context(), initializer=_begin, initargs=(parts, how)
            )
        )
        stack.enter_context(_taken_back(folder, written))
        for number, part in enumerate(parts):
            images = _in_order(pool, number, len(part.files.labels), 2 * count, problem, bar)
            written[part.name] = write_part(folder, part.name, images)
    write_description(folder, how.form, list(parts[0].files.class_names), written)
    return written


@contextlib.contextmanager
def _taken_back(folder: Path, written: Dict[str, Dict[str, int]]) -> Iterator[None]:
    """Leaves nothing of a data set of which not all parts could be written: as if it had never been tried."""
    try:
        yield
    except BaseException:
        for part in written:
            for ending in ("data", "npz"):
                (folder / f"{part}.{ending}").unlink()
        with contextlib.suppress(OSError):  # something else lies there
            folder.rmdir()
        raise


def _in_order(
    pool: ProcessPoolExecutor,
    part: int,
    images: int,
    ahead: int,
    problem: Callable[[DataError], None],
    bar: Any,
) -> Iterator[Entry]:
    starts = iter(range(0, images, _TOGETHER))
    running: Deque[Future[List[Outcome]]] = deque()
    try:
        while True:
            while len(running) < ahead:
                start = next(starts, None)
                if start is None:
                    break
                running.append(pool.submit(_some, part, start, min(start + _TOGETHER, images)))
            if not running:
                return
            for found, error in running.popleft().result():
                bar.update(1)
                if error is not None:
                    problem(error)
                elif found is not None:
                    yield found
    finally:
        for future in running:
            future.cancel()

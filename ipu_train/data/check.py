"""Every image of a data set looked at once, on all cores: what cannot be used, and what is worth knowing."""

import contextlib
import hashlib
import io
import os
import signal
import warnings
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..places import has_shards
from . import packed, workers
from .errors import DataError
from .folder import find_splits, scan
from .pixels import FORMATS, Rules, decode
from .resizing import size_of
from .shards import find_shards, open_shards

_TOGETHER = 32  # images of one task of a process
_SMALL = 16  # side in pixels below which a picture is hardly one
_TURNED = 0x0112  # EXIF's number of the orientation
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm"),
}


class Part(NamedTuple):
    """One part of a data set, such as its training images.

    Attributes:
        name: the part's.
        files: ``labels``, ``class_names``, ``name(index)`` and ``read(index)``.
        unlisted: what is among the images and is none.
    """

    name: str
    files: Any
    unlisted: List[DataError]


class Record(NamedTuple):
    """What is known of one image; a line of the manifest.

    Attributes:
        part, file, label: of the image; the label is the class's name.
        bytes, sha256: of the file; of no file: 0 and nothing.
        width, height, format, mode: as the file says, before anything is made of it; of no image: 0 and nothing.
        notes: what is done to it, or odd about it.
        problem: why it cannot be used; None: it can.
    """

    part: str
    file: str
    label: str
    bytes: int = 0
    sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    notes: Tuple[str, ...] = ()
    problem: Optional[str] = None


def open_parts(root: Path, train: Optional[str] = None, validation: Optional[str] = None) -> List[Part]:
    """The parts of the data set in a folder: of image files, tar shards or the packed form.

    Args:
        root: the folder.
        train, validation: as ``data.train_split`` and ``data.validation_split``; None looks for the usual names.

    Raises:
        DataError: it holds none, or not those.
    """
    if (root / packed.NAME).is_file():
        names = [name for name in (train, validation) if name is not None] or packed.describe(root)["parts"]
        return [Part(name, packed.open_part(root, name), []) for name in names]
    if has_shards(root):
        found = find_shards(root, train, validation)
        problems: Tuple[List[DataError], List[DataError]] = ([], [])
        shards = open_shards(found.train, problem=problems[0].append)
        parts = [Part("train" if found.validation else "all", shards, problems[0])]
        if found.validation:
            rest = open_shards(found.validation, shards.class_names, problems[1].append)
            parts.append(Part("validation", rest, problems[1]))
        return parts
    train_folder, validation_folder = find_splits(root, train, validation)
    unlisted: List[DataError] = []
    trained = scan(train_folder, problem=unlisted.append)
    parts = [Part("train" if validation_folder or train_folder != root else "all", trained, unlisted)]
    if validation_folder is not None:
        others: List[DataError] = []
        tested = scan(validation_folder, trained.class_names, others.append)
        parts.append(Part(validation_folder.name, tested, others))
    return parts


def examine(part: Part, index: int, rules: Rules) -> Record:
    """Look at one image."""
    files = part.files
    record = Record(part.name, files.name(index), files.class_names[files.labels[index]])
    try:
        data = files.read(index)
    except DataError as error:
        return record._replace(problem=str(error))
    record = record._replace(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    try:
        if isinstance(files, packed.Packed):
            files.verify(index)
            width, height = size_of(files.picture(index, rules))
            return record._replace(width=width, height=height, format=files.form, mode="RGB")
    except DataError as error:
        return record._replace(problem=str(error))
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        record = record._replace(
            width=image.width,
            height=image.height,
            format=str(image.format),
            mode=image.mode,
            notes=tuple(_notes(image, record.file)),
        )
    try:
        decode(data, record.file, rules)
    except DataError as error:
        record = record._replace(problem=str(error))
    return record


def _notes(image: Image.Image, name: str) -> Iterator[str]:
    with contextlib.suppress(Exception):
        if image.getexif().get(_TURNED, 1) in range(2, 9):
            yield "turned upright as its EXIF part says"
    if image.mode.startswith("I"):
        yield "scaled from 16 to 8 bits"
    if image.mode in ("CMYK", "YCCK", "LAB"):
        yield f"{image.mode} colours made RGB"
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        yield "has an alpha channel"
    if min(image.size) < _SMALL:
        yield f"smaller than {_SMALL} pixels"
    ending = os.path.splitext(name)[1].lower()
    if ending not in _ENDINGS.get(str(image.format), (ending,)):
        yield f"{image.format} inside, by its name another format"


# -- on all cores ------------------------------------------------------------------------------------------------------

_PARTS: Sequence[Part] = ()
_RULES = Rules()


def _begin(parts: Sequence[Part], rules: Rules) -> None:
    global _PARTS, _RULES
    _PARTS, _RULES = parts, rules
    begin_process()


def begin_process() -> None:
    """In a process that looks at images for another one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the others
    warnings.simplefilter("ignore")


def _examine_some(part: int, start: int, stop: int) -> List[Record]:
    return [examine(_PARTS[part], index, _RULES) for index in range(start, stop)]


def examine_all(
    parts: Sequence[Part], rules: Rules, processes: Optional[int] = None, progress: Optional[bool] = None
) -> Iterator[Record]:
    """Records of all images, in no particular order; ``processes`` None: one a core."""
    tasks = [
        (number, start, min(start + _TOGETHER, len(part.files.labels)))
        for number, part in enumerate(parts)
        for start in range(0, len(part.files.labels), _TOGETHER)
    ]
    total = sum(len(part.files.labels) for part in parts)
    hidden = None if progress is None else not progress
    with tqdm(total=total, desc="checking", unit=" images", disable=hidden, leave=False) as bar:
        for record in _in_processes(parts, rules, tasks, processes or os.cpu_count() or 1):
            bar.update(1)
            yield record


def _in_processes(
    parts: Sequence[Part], rules: Rules, tasks: List[Tuple[int, int, int]], processes: int
) -> Iterator[Record]:
    tasks = list(reversed(tasks))
    running: Dict[Future[List[Record]], Tuple[int, int, int]] = {}
    crashed: List[Tuple[int, int, int]] = []
    with _pool(parts, rules, processes) as pool:
        try:
            while tasks or running:
                while tasks and len(running) < 2 * processes:
                    task = tasks.pop()
                    running[pool.submit(_examine_some, *task)] = task
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
                    del running[future]
        except BrokenProcessPool:
            crashed = [*running.values(), *tasks]
        finally:
            for future in running:
                future.cancel()
    for number, start, stop in crashed:  # each image in a process of its own
        for index in range(start, stop):
            with _pool(parts, rules, 1) as pool:
                try:
                    yield from pool.submit(_examine_some, number, index, index + 1).result()
                except BrokenProcessPool:
                    part = parts[number]
                    name, label = part.files.name(index), part.files.class_names[part.files.labels[index]]
                    problem = f"{name}: not a readable image (it crashes the decoder); replace or delete it"
                    yield Record(part.name, name, label, problem=problem)


def _pool(parts: Sequence[Part], rules: Rules, processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        processes, mp_context=workers.context(), initializer=_begin, initargs=(parts, rules)
    )


# -- what all images together tell -----------------------------------------------------------------------------------


class Findings(NamedTuple):
    """What a check found.

    Attributes:
        records: of all images, by part and name.
        problems: what cannot be used, a sentence each.
        doubts: images that contradict each other: the same bytes in two classes, or in two parts.
        notes: what is done to pictures or odd about them, with counts.
    """

    records: List[Record]
    problems: List[str]
    doubts: List[str]
    notes: Dict[str, int]


def find(parts: Sequence[Part], records: Sequence[Record]) -> Findings:
    """Put together what the records of all images tell."""
    order = {part.name: number for number, part in enumerate(parts)}
    ordered = sorted(records, key=lambda record: (order[record.part], record.file))
    problems = [str(error) for part in parts for error in part.unlisted]
    problems += [record.problem for record in ordered if record.problem is not None]
    first: Dict[str, Record] = {}
    doubts = []
    notes: Counter[str] = Counter()
    for record in ordered:
        notes.update(record.notes)
        if record.problem is not None:
            continue
        other = first.setdefault(record.sha256, record)
        if other is record:
            continue
        if other.label != record.label:
            doubts.append(f"{record.file}: the same file as {other.file}, which is {other.label}")
        elif other.part != record.part:
            doubts.append(f"{record.file}: the same file as {other.file} of {other.part}")
        else:
            notes["the same file as another one of its class"] += 1
    if len(parts[0].files.class_names) < 2:
        doubts.append(f"{parts[0].name}: holds one class only, and no network can be trained on that")
    for part in parts:
        present: Set[int] = set(np.unique(part.files.labels).tolist())
        missing = [name for label, name in enumerate(part.files.class_names) if label not in present]
        if missing:
            doubts.append(f"{part.name}: has no images of {', '.join(missing[:10])}")
    return Findings(ordered, problems, [str(DataError(doubt)) for doubt in doubts], dict(notes))

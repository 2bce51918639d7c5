"""Folders that a run reads or writes, judged by names and rights alone. No torch and no numpy in here."""

import os
from pathlib import Path
from typing import Optional

from . import durable

PACK = "pack.json"  # describes a packed data set
PACKED, SHARDS, FOLDERS = "packed", "webdataset", "imagefolder"  # as data.name has them


def unwritable(folder: Path) -> Optional[str]:
    """Why a folder cannot be made, or nothing be written in it; None: it can."""
    first = folder.parts[0] if folder.parts else ""
    if first.startswith("~") and not os.path.lexists(
        first
    ):  # what expanding leaves of a user that does not exist
        return f"no home folder is known for {first}"
    there = next(above for above in (folder, *folder.absolute().parents) if os.path.lexists(str(above)))
    if not there.is_dir():
        return "is a file" if there == folder else f"{there} is a file, so no folder can be made in it"
    why = durable.refusal(there)
    return None if why is None else f"nothing can be written in {there} ({why})"


def source_name(root: Path) -> str:
    """The ``data.name`` of what lies in a folder: packed, webdataset, else imagefolder."""
    if (root / PACK).is_file():
        return PACKED
    return SHARDS if has_shards(root) else FOLDERS


def has_shards(root: Path) -> bool:
    """Whether a folder, or its folder of training images, holds tar files."""
    return any(any(folder.glob("*.tar")) for folder in (root, root / "train") if folder.is_dir())


def without_images(root: Path, name: Optional[str] = None) -> Optional[str]:
    """Why a folder cannot hold a data set; None: it may.

    Args:
        root: the folder.
        name: ``data.name``, whose form is expected; None: any.
    """
    if not root.exists():
        return "there is no such folder; the folder of the images is wanted"
    if not root.is_dir():
        return "is a file; the folder that holds one sub-folder a class is wanted"
    try:
        entries = list(os.scandir(str(root)))
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    if name == PACKED and not (root / PACK).is_file():
        return f"holds no {PACK}: it is no packed data set (ipu-train data pack makes one)"
    folders = any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
    if folders or name == PACKED:
        return None
    tars = any(".tar" in entry.name for entry in entries)
    if name == SHARDS:
        return None if tars else "holds no shards (*.tar) of training images"
    if name is None and (tars or (root / PACK).is_file()):
        return None
    other = source_name(root)
    if other != FOLDERS:
        return f"holds no class folders; what lies there is read with data.name={other}"
    loose = next((entry.name for entry in entries if entry.is_file()), None)
    hint = f"; {loose} and the like belong into one sub-folder a class" if loose else ""
    return f"holds no class folders (one sub-folder a class is needed){hint}"

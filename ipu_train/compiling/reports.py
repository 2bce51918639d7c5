"""Reads what Poplar leaves in a profile folder.

``profile.pop`` is readable by PopVision and by the SDK's ``pva`` alone; of the other files (``debug.cbor``,
``framework.json``) none holds sizes or cycles. Without the SDK only their names can be given.
"""

import importlib
import os
from pathlib import Path
from typing import Dict, List, Tuple


def files_of(folder: str) -> List[Path]:
    """All files of a profile, the newest program's last."""
    found = [path for path in Path(os.path.expanduser(folder)).rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: (os.path.getmtime(str(path)), str(path)))


def memory_of(folder: str) -> Tuple[Dict[str, int], str]:
    """Bytes of all tiles ("total") and of the fullest ("worst tile") from the newest profile, or why there are none."""
    found = [path for path in files_of(folder) if path.name == "profile.pop"]
    if not found:
        return {}, "Poplar wrote no profile.pop"
    try:
        pva = importlib.import_module("pva")
    except ImportError:
        return (
            {},
            "profile.pop is readable by PopVision and by pva of the Poplar SDK, which is not installed here",
        )
    try:
        tiles = [tile.memory.total.excludingGaps for tile in pva.openReport(str(found[-1])).compilation.tiles]
    except Exception as error:  # the library's own errors, or another version's names
        return {}, f"{type(error).__name__}: {error}"
    return {"total": sum(tiles), "worst tile": max(tiles)}, ""

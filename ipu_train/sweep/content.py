"""Predictions kept by content: the same question to the same model is answered once."""

import hashlib
import json
import os
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional

from .. import ipumodel, models, planning
from ..config import Resolved
from ..planning import images_of, question
from .folder import sweeps_in
from .names import POINTS

# in the names of networks of the user's own, which every sweep predicts anew since their code may change
_AFRESH = uuid.uuid4().hex


@lru_cache(maxsize=1)
def model_version() -> str:
    """Digest of everything that predictions are made with: the IPU model, its constants, the networks, the plans."""
    house = Path(__file__).parent.parent
    digest = hashlib.sha256((house / "network.py").read_bytes())  # read, not imported: it imports torch
    for room in (ipumodel, models, planning):
        folder = Path(str(room.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def key_of(resolved: Resolved) -> str:
    """Name of a configuration's prediction: equal for configurations that are predicted alike."""
    own = _AFRESH if resolved.config.model.name in models.OWN else ""
    asked = question(resolved, images_of(resolved)) + model_version() + own
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


class Kept:
    """Predictions as JSON files, named by content, in one folder to write and further ones to read.

    Args:
        folder: of this sweep; made when the first prediction is kept.
        others: folders of earlier sweeps.
    """

    def __init__(self, folder: Path, others: Iterable[Path] = ()) -> None:
        self.folder = folder
        self.others: List[Path] = [other for other in others if other != folder]

    def get(self, key: str) -> Optional[Dict[str, Any]]:
        """What is kept under a key; None when nothing is, or it cannot be read."""
        for folder in (self.folder, *self.others):
            try:
                return json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
        return None

    def put(self, key: str, value: Dict[str, Any]) -> None:
        """Keep a prediction; a reader sees all of it or nothing.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{key}.json"
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(value), encoding="utf-8")
        os.replace(str(partial), str(path))


def kept_in(folder: Path) -> Kept:
    """Predictions of the sweep in a folder, and those of its neighbours for reading."""
    return Kept(folder / POINTS, [neighbour / POINTS for neighbour in sweeps_in(folder.parent)])

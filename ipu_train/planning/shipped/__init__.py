"""The traces of the recipes' networks that come with the package, so that a first plan of a recipe imports no torch.

``traces.zip`` holds them, one entry a model; ``made_from.json`` says of which sources and versions of torch they are.
They are used where the sources that a trace depends on mean the same (``meaning.py``) and torch is one of those
versions; a network is traced as ever otherwise. ``scripts/ship_traces.py`` makes both files.
"""

import importlib.util
import json
import lzma
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from ... import kernels, models
from ...ipumodel.program import Program
from ...ipumodel.store import digest_of
from . import packing
from .meaning import digest_of_meaning

FOLDER = Path(__file__).parent
TRACES, MADE_FROM = "traces.zip", "made_from.json"

# What a network's trace depends on: all of the models' room but what is done to networks that are there, and what else
# runs while one is built and traced (a test holds this against what does run).
_NOT_MODELS = ("checkpoints", "folding", "inspection", "power")
_KERNELS = ("maths", "settings", "tables")
_TRACER = ("operators", "program", "shape_rules", "tracer")


class Shipped(NamedTuple):
    """What comes with the package of one network.

    Attributes:
        programs: traces of several micro-batch sizes.
        batch_independent: whether each image's output in training is a function of that image alone.
    """

    programs: List[Program]
    batch_independent: bool


def find(network: str, model: str) -> Optional[Shipped]:
    """What is shipped of a network; None where nothing is, or where it is of other sources.

    Args:
        network: all that the traces depend on beside the sources, in words.
        model: name of the model.
    """
    if not hold():
        return None
    try:
        found = entries(model).get(network)
        return None if found is None else Shipped(packing.unpack(found["programs"]), found["independent"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, lzma.LZMAError):  # not there, or damaged
        return None


def entries(model: str) -> Dict[str, Any]:
    """All that is shipped of a model's networks, by what their traces depend on; of whatever sources it is.

    Raises:
        KeyError: nothing is shipped of this model.
    """
    with zipfile.ZipFile(FOLDER / TRACES) as file:
        found: Dict[str, Any] = json.loads(file.read(entry_of(model)))
    return found


def entry_of(model: str) -> str:
    """Name of a model's entry in the file of traces."""
    return f"{model}.json"


def sources() -> Iterator[Path]:
    """The files that a trace depends on."""
    package = FOLDER.parent.parent
    for path in sorted(Path(str(models.__file__)).parent.glob("*.py")):
        if path.stem not in _NOT_MODELS:
            yield path
    yield from (Path(str(kernels.__file__)).with_name(f"{name}.py") for name in _KERNELS)
    yield from (package / "ipumodel" / f"{name}.py" for name in _TRACER)
    yield from (package / "network.py", package / "planning" / "tracing.py")


def torch_version_file() -> Optional[Path]:
    """Where torch says which version it is, found without importing it: that takes longer than all else."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return None
    return Path(torch.origin).with_name("version.py")


def torch_version() -> Optional[str]:
    """``2.14`` for any torch 2.14.x; None where there is none."""
    file = torch_version_file()
    found = file and re.search(r"__version__ = ['\"](\d+\.\d+)", file.read_text(encoding="utf-8"))
    return found.group(1) if found else None


def stamp() -> Dict[str, str]:
    """Digests of the sources as they are now: of their bytes, and of what they mean."""
    return {"bytes": digest_of(sources()), "meaning": digest_of_meaning(sources())}


def made_from() -> Dict[str, Any]:
    """What the shipped traces were made from: a :func:`stamp`, and the versions of ``torch``."""
    found: Dict[str, Any] = json.loads((FOLDER / MADE_FROM).read_text(encoding="utf-8"))
    return found


@lru_cache(maxsize=1)
def hold() -> bool:
    """Whether the shipped traces are those of the sources and the torch that are here."""
    try:
        known = made_from()
        if torch_version() not in known["torch"]:
            return False
        # bytes first: to find what a source means takes longer
        return bool(
            known["bytes"] == digest_of(sources()) or known["meaning"] == digest_of_meaning(sources())
        )
    except (OSError, ValueError, KeyError, SyntaxError):
        return False

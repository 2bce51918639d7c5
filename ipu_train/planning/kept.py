"""What commands keep for the next one: the plans of convolutions, and the traces of ipu-train's own networks.

Both are named by the content of all that they are made with, the version of torch included: nothing old is ever found.
The traces of the recipes' networks come with the package (``shipped``).
"""

import contextlib
import os
import zlib
from pathlib import Path
from typing import Iterator, List, Optional

from .. import kernels, models
from ..ipumodel import written
from ..ipumodel.convolution import kept as plans
from ..ipumodel.program import Program
from ..ipumodel.store import Store, digest_of
from ..models.zoo import MODELS
from . import shipped

VARIABLE = "IPU_TRAIN_CACHE"  # another folder, or "off"
_traces = Store("traces")
_MOST = 4  # traces of one network: of batch 1, of two others; more where these do not give all
_INDEPENDENCE = ": batch independent?"
_TRACER = ("operators", "program", "shape_rules", "store", "tracer", "written")


def keep_plans() -> None:
    """Keep plans and traces in the user's cache folder, or where the environment says."""
    folder = _folder()
    plans.keep_in(folder)
    _traces.keep_in(folder, _version() if folder is not None else "")


def _folder() -> Optional[Path]:
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return None if chosen == "off" else Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "ipu-train"
    except RuntimeError:  # no home folder
        return None


def _version() -> str:
    """Digest of all that a trace depends on beside its network: the networks, the tracer and torch."""
    return digest_of(_sources())


def _sources() -> Iterator[Path]:
    here = Path(__file__).parent
    for room in (models, kernels):
        yield from sorted(Path(str(room.__file__)).parent.glob("*.py"))
    yield from (here.parent / "ipumodel" / f"{name}.py" for name in _TRACER)
    yield from (here.parent / "network.py", here / "tracing.py")
    torch = shipped.torch_version_file()
    if torch is not None:
        yield torch


def traces(network: str, model: str) -> List[Program]:
    """The traces that are kept of a network, or come with the package.

    Args:
        network: all that they depend on, in words.
        model: name of the model; of networks that are not ipu-train's own none are kept, as their code may change.
    """
    if model not in MODELS:
        return []
    ours = shipped.find(network, model)
    if ours is not None:
        return ours.programs
    found = _traces.read(network)
    try:
        return written.read(found) if isinstance(found, bytes) else []
    except (ValueError, TypeError, KeyError, zlib.error):  # damaged
        return []


def keep_trace(network: str, model: str, program: Program) -> None:
    """Keep one trace more of a network."""
    if model not in MODELS or not _traces.keeps:
        return
    known = [one for one in traces(network, model) if one.batch != program.batch]
    if len(known) < _MOST:
        with contextlib.suppress(ValueError):  # it cannot be written as it is
            _traces.write(network, written.write([*known, program]), again=True)


def batch_independent(network: str, model: str) -> Optional[bool]:
    """What is known of a network's batch independence; None where nothing is."""
    if model not in MODELS:
        return None
    ours = shipped.find(network, model)
    if ours is not None:
        return ours.batch_independent
    found = _traces.read(network + _INDEPENDENCE)
    return found == "yes" if isinstance(found, str) else None


def keep_batch_independent(network: str, model: str, found: bool) -> None:
    """Keep whether a network is batch independent."""
    if model in MODELS:
        _traces.write(network + _INDEPENDENCE, "yes" if found else "no")

"""Executables in files: ``save``, ``loadExecutable``, ``poptorch.load``, the executable cache, reports.

Compiling costs the emulator little, so an executable file holds what compiling starts from: the arguments' signature,
the optimizer's and the random generator's state, and with ``export_model`` the module with its weights, the options and
the optimizer themselves. Loading compiles again. Source: PopTorch 3.4 user guide, "Precompilation and caching".
"""

import contextlib
import hashlib
import json
import os
import pickle
import time
from typing import Any, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

import torch

from .. import _args_parser
from .._impl import createPoptorchError
from .._logging import logger
from ..inspection.ir import as_json, graph_operators
from ..options import Options
from .executable import Executable

FORMAT = "ipu-train emulator executable"
VERSION = 3  # rises whenever what is pickled changes or means something else, or where its classes lie
_EMULATOR = __package__.rpartition(".")[0]
_LOCK_SECONDS = 600.0  # a lock older than this was left behind by a process that died


def file_of(filename: str) -> str:
    """Where an executable goes: a directory gets a file ``model.poptorch``, missing directories are made."""
    filename = os.path.expanduser(filename)
    if os.path.isdir(filename):
        filename = os.path.join(filename, "model.poptorch")
        logger.warning("The path given is a directory: the executable goes to %s", filename)
    os.makedirs(os.path.dirname(os.path.abspath(filename)), exist_ok=True)
    return filename


class Saved(NamedTuple):
    """What compiling starts from, and the state that goes with it.

    Attributes:
        training: whether it trains.
        signature: the arguments it was compiled for.
        optimizer_state: as the device had it; None in inference.
        random: state of the device's random streams; None where it was left out.
        grouping: of weights that replicas do not share.
        modes: training flag of each module while it was compiled.
        model: (module, options, optimizer), None where they were left out.
    """

    training: bool
    signature: _args_parser.Arguments
    optimizer_state: Optional[Dict[str, torch.Tensor]]
    random: Optional[List[int]]
    grouping: Dict[str, Any]
    modes: Dict[str, bool]
    model: Optional[Tuple[torch.nn.Module, Any, Any]]


def write(filename: str, saved: Saved) -> None:
    """Write what :func:`read_executable` and :func:`read_model` read."""
    content = dict(saved._asdict(), version=VERSION, signature=_signature_to_file(saved.signature))
    with open(file_of(filename), "wb") as stream:
        pickle.dump({"format": FORMAT, "version": VERSION}, stream)  # read first: the rest may be another's
        pickle.dump(content, stream)


def read_executable(filename: str, training: bool) -> Saved:
    """What is in the file of a model that trains, or does not.

    Raises:
        poptorch.Error: the file holds no executable of this kind and version.
    """
    content = _read(filename)
    if content["version"] != VERSION:
        raise createPoptorchError(
            f"Invalid file {filename}: version {content['version']} was written, {VERSION} is read here"
        )
    if content["training"] != training:
        kind = "training" if content["training"] else "inference"
        raise createPoptorchError(f"Invalid file {filename}: it holds the executable of a {kind} model")
    return _saved(content)


def read_model(filename: str) -> Saved:
    """What is in a file that was written with its model.

    Raises:
        AssertionError: it holds no model, or another version wrote it.
        poptorch.Error: it holds no executable.
    """
    content = _read(filename)
    assert content["version"] == VERSION, (
        f"{filename} is of version {content['version']}, this version of the emulator reads {VERSION}"
    )
    assert content["model"] is not None, (
        f"{filename} was saved with export_model=False: it holds no model. Wrap the model and use loadExecutable()"
    )
    return _saved(content)


def _saved(content: Dict[str, Any]) -> Saved:
    fields = {name: content[name] for name in Saved._fields}
    return Saved(**dict(fields, signature=_signature_from_file(content["signature"])))


def _read(filename: str) -> Dict[str, Any]:
    """The content of an executable file; nothing but ``version`` of one that another version wrote.

    Raises:
        poptorch.Error: something else is in the file.
    """
    try:
        with open(os.path.expanduser(filename), "rb") as stream:
            content = pickle.load(stream)
            if _is_executable(content) and content["version"] == VERSION:
                content.update(pickle.load(stream))
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_EMULATOR + "."):
            raise  # the user's own module is missing
        return {"version": 1}  # which had no header, and classes in files that are elsewhere now
    except (pickle.UnpicklingError, EOFError, UnicodeDecodeError, IndexError, KeyError, ValueError) as error:
        raise createPoptorchError(f"Invalid file {filename}: it holds no executable ({error})") from None
    if not _is_executable(content):
        raise createPoptorchError(f"Invalid file {filename}: it holds no executable of the emulator")
    return content


def _is_executable(content: Any) -> bool:
    return isinstance(content, dict) and content.get("format") == FORMAT


def _signature_to_file(arguments: Any) -> Any:
    shapes = [(tuple(t.shape), t.dtype) for t in arguments.tensors()]
    # tensors without memory do not travel through pickle everywhere; one element stands for each
    stand_ins = arguments.with_tensors([torch.zeros(1) for _ in shapes])
    return shapes, stand_ins


def _signature_from_file(stored: Any) -> _args_parser.Arguments:
    shapes, stand_ins = stored
    return stand_ins.with_tensors([torch.zeros(shape, dtype=dtype) for shape, dtype in shapes])


# -- what else compiling leaves behind ---------------------------------------------------------------------------


def after_compile(executable: Executable, options: Options, seconds: float) -> None:
    """Write the cache entry, the exported graph and the profile that options and environment ask for.

    Args:
        seconds: that compiling took.
    """
    exported = os.environ.get("POPTORCH_EXPORT_PROTO_FILE")
    cache = (
        options._Popart.options.get("cachePath")
        if options._Popart.options.get("enableEngineCaching")
        else None
    )
    if not (exported or cache or options._profile_dir):
        return
    graph = as_json(graph_operators(executable.graph))
    if exported:
        _write(exported, graph.encode() if _set("POPTORCH_EXPORT_PROTO_AS_BINARY") else _readable(graph))
    if options._profile_dir:
        kind = "training" if executable.training else "inference"
        name = options.model_name if options.exists("model_name") else kind
        report = json.dumps({"model": name, "compilation_seconds": seconds, "graph": json.loads(graph)})
        _write(os.path.join(options._profile_dir, name, "profile.pop"), report.encode())
    if cache:
        _cache(cache, executable, graph, wait=options.Distributed.numProcesses > 1)


def _cache(folder: str, executable: Executable, graph: str, wait: bool) -> None:
    """One file for each graph. With several processes the first to come writes it while the others wait."""
    source = executable.program.source
    digest = hashlib.sha256((graph + source + repr(executable.training)).encode()).hexdigest()[:20]
    path = os.path.join(os.path.expanduser(folder), f"{digest}.popef")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with _lock(path + ".lock") if wait else contextlib.nullcontext():
        if os.path.exists(path):
            logger.debug("Graph found in the executable cache: %s", path)
            return
        _write(path, json.dumps({"format": FORMAT, "version": VERSION, "program": source}).encode())


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    while True:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.path.getmtime(path) > _LOCK_SECONDS:
                    os.remove(path)
            time.sleep(0.02)
    logger.debug("Executable cache file locked: %s", path)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        logger.debug("Process %d released the cache lock", os.getpid())


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    partial = f"{path}.{os.getpid()}.part"
    with open(partial, "wb") as stream:
        stream.write(content)
    os.replace(partial, path)


def _readable(graph: str) -> bytes:
    return json.dumps(json.loads(graph), indent=1).encode()


def _set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def refuse_copies(written: Any) -> NoReturn:
    """Where an executor would be pickled, or made again from ``written``."""
    raise RuntimeError(
        "As in PopTorch, neither copy.copy(), copy.deepcopy() nor pickle takes what trainingModel() and "
        "inferenceModel() return: copy or save its module (or state_dict()), or compileAndExport() it."
    )

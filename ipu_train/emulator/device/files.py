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
from typing import Any, Callable, Dict, Iterator, Optional

import torch

from .. import _args_parser
from .._impl import createPoptorchError
from .._logging import logger
from ..enums import ConnectionType
from ..inspection.ir import as_json, graph_operators

FORMAT = "ipu-train emulator executable"
VERSION = 2  # rises whenever what is pickled changes, or where its classes lie
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


def save(executor: Any, filename: str, export_model: bool, save_rng_state: bool) -> None:
    """Write what :func:`load` and :func:`load_executable` read."""
    executor._require_compiled()
    executor.copyWeightsToHostIfNeeded()
    optimizer = executor._optimizer
    device = executor._device_optimizer
    content: Dict[str, Any] = {
        "version": VERSION,
        "training": executor._training,
        "signature": _signature_to_file(executor._executable.signature),
        "optimizer_state": device.read_state() if device is not None else None,
        "random": executor._random.state if save_rng_state else None,
        "grouping": executor.per_replica_params,
        "modes": executor._modes,
        "model": None,
    }
    if export_model:
        content["model"] = (executor._user_model, executor._options.clone(), optimizer)
    with open(file_of(filename), "wb") as stream:
        pickle.dump({"format": FORMAT, "version": VERSION}, stream)  # read first: the rest may be another's
        pickle.dump(content, stream)


def read(filename: str) -> Dict[str, Any]:
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


def load_executable(executor: Any, filename: str) -> None:
    """Compile a fresh executor for the signature in a file, and take over the state in it."""
    content = read(filename)
    if content["version"] != VERSION:
        raise createPoptorchError(
            f"Invalid file {filename}: version {content['version']} was written, {VERSION} is read here"
        )
    if content["training"] != executor._training:
        kind = "training" if content["training"] else "inference"
        raise createPoptorchError(f"Invalid file {filename}: it holds the executable of a {kind} model")
    executor.per_replica_params.update(content["grouping"])
    executor._compile(_signature_from_file(content["signature"]), content["modes"])
    restore_state(executor, content)


def restore_state(executor: Any, content: Dict[str, Any]) -> None:
    if executor._device_optimizer is not None and content["optimizer_state"] is not None:
        executor._device_optimizer.write_state(content["optimizer_state"])
    if content["random"] is not None:
        executor.rng_state = content["random"]


def load(
    filename: str, make: Callable[..., Any], edit_opts_fn: Optional[Callable[[Any], None]] = None
) -> Any:
    """A compiled executor from a file that holds its model.

    Args:
        filename: written with ``export_model=True``.
        make: ``make(model, options, training, optimizer)`` gives an executor.
        edit_opts_fn: may change the options before they are used.
    """
    content = read(filename)
    assert content["version"] == VERSION, (
        f"{filename} is of version {content['version']}, this version of the emulator reads {VERSION}"
    )
    assert content["model"] is not None, (
        f"{filename} was saved with export_model=False: it holds no model. Wrap the model and use loadExecutable()"
    )
    model, options, optimizer = content["model"]
    options.deleteIfExists("ipu_version")
    if options.connection_type == ConnectionType.Never.value:
        options.connectionType(ConnectionType.Always)
    if edit_opts_fn is not None:
        edit_opts_fn(options)
    executor = make(model, options, content["training"], optimizer)
    executor.per_replica_params.update(content["grouping"])
    executor._compile(_signature_from_file(content["signature"]), content["modes"])
    restore_state(executor, content)
    return executor


class ExecutableFiles:
    """The part of an executor that reads and writes files."""

    def save(self, filename: str, export_model: bool = True, save_rng_state: bool = True) -> None:
        """Write the compiled model to a file.

        Args:
            filename: a file, or a directory, in which it is called ``model.poptorch``.
            export_model: write the module, options and optimizer too, so that ``poptorch.load`` can read the file.
            save_rng_state: write the random state too.
        """
        save(self, filename, export_model, save_rng_state)

    def compileAndExport(self, filename: str, *args: Any, export_model: bool = True, **kwargs: Any) -> None:
        """:meth:`compile`, then :meth:`save`."""
        self.compile(*args, **kwargs)
        self.save(filename, export_model=export_model)

    def loadExecutable(self, filename: str) -> None:
        """Take over the executable of a file, in place of compiling.

        Raises:
            poptorch.Error: the file holds no executable of this kind and version.
        """
        load_executable(self, filename)


def _signature_to_file(arguments: Any) -> Any:
    shapes = [(tuple(t.shape), t.dtype) for t in arguments.tensors()]
    # tensors without memory do not travel through pickle everywhere; one element stands for each
    stand_ins = arguments.with_tensors([torch.zeros(1) for _ in shapes])
    return shapes, stand_ins


def _signature_from_file(stored: Any) -> _args_parser.Arguments:
    shapes, stand_ins = stored
    return stand_ins.with_tensors([torch.zeros(shape, dtype=dtype) for shape, dtype in shapes])


# -- what else compiling leaves behind ---------------------------------------------------------------------------


def after_compile(executor: Any) -> None:
    """Write the cache entry, the exported graph and the profile that options and environment ask for."""
    options = executor._options
    exported = os.environ.get("POPTORCH_EXPORT_PROTO_FILE")
    cache = (
        options._Popart.options.get("cachePath")
        if options._Popart.options.get("enableEngineCaching")
        else None
    )
    if not (exported or cache or options._profile_dir):
        return
    graph = as_json(graph_operators(executor._executable.graph))
    if exported:
        _write(exported, graph.encode() if _set("POPTORCH_EXPORT_PROTO_AS_BINARY") else _readable(graph))
    if options._profile_dir:
        kind = "training" if executor._training else "inference"
        name = options.model_name if options.exists("model_name") else kind
        seconds = executor._compile_seconds
        report = json.dumps({"model": name, "compilation_seconds": seconds, "graph": json.loads(graph)})
        _write(os.path.join(options._profile_dir, name, "profile.pop"), report.encode())
    if cache:
        _cache(cache, executor, graph)


def _cache(folder: str, executor: Any, graph: str) -> None:
    """One file for each graph. With several processes the first to come writes it while the others wait."""
    source = executor._executable.program.source
    digest = hashlib.sha256((graph + source + repr(executor._training)).encode()).hexdigest()[:20]
    path = os.path.join(os.path.expanduser(folder), f"{digest}.popef")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with (
        _lock(path + ".lock") if executor._options.Distributed.numProcesses > 1 else contextlib.nullcontext()
    ):
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

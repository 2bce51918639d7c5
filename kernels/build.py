"""Builds this room's C++ on first use and keeps the libraries in a cache.

A library is named by a hash of everything it is made from (sources, flags, compiler, processor), so a cache
may be shared by machines and versions, and a finished file is moved into place in one step, so that any
number of processes may build at once.
"""

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

ROOM = Path(__file__).resolve().parent
# No -ffast-math: NaN and infinity must survive. -fopenmp-simd reads the `omp simd` lines, without OpenMP.
CPU_FLAGS = ("-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-march=native")
COMMON_FLAGS = ("-std=c++17", "-fPIC", "-pthread")


class BuildError(RuntimeError):
    """A library could not be built or loaded; the message says why and what to do."""


def compiler() -> List[str]:
    """The C++ compiler's command: ``CXX`` if set, else the first of g++, clang++ and c++ on the path.

    Raises:
        BuildError: There is none, or ``CXX`` is no command.
    """
    try:
        chosen = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise BuildError(
            f"the variable CXX is {os.environ['CXX']!r}, which is no command ({error}): mend or unset it"
        ) from None
    names = [chosen[0]] if chosen else ["g++", "clang++", "c++"]
    for name in names:
        path = shutil.which(name)
        if path:
            return [path] + chosen[1:]
    raise BuildError(
        f"no C++ compiler found (looked for {', '.join(names)}): install one, for example with "
        "`apt-get install g++`, or name it in the environment variable CXX"
    )


def cache_folder() -> Path:
    """Where built libraries are kept: ``IPU_TRAIN_CACHE``, else the platform's cache folder.

    ``off`` keeps no plans; a library must be somewhere to be loaded, and is where it is without the variable.
    """
    if os.environ.get("IPU_TRAIN_CACHE", "off") not in ("", "off"):
        return Path(os.environ["IPU_TRAIN_CACHE"]).expanduser() / "kernels"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "ipu-train" / "kernels"


def shared_library(
    name: str, sources: Sequence[Path], includes: Sequence[Path], flags: Sequence[str]
) -> Path:
    """The path of a shared library made from ``sources``, built now if the cache has none.

    Args:
        name: The start of the file's name.
        sources: Translation units. What they may include counts as read: all sources and headers of their
            folders, all headers of ``includes``.
        includes: Folders of headers.
        flags: Compiler flags beyond :data:`COMMON_FLAGS`; ``-march=native`` is dropped where the compiler
            does not know it.

    Raises:
        BuildError: No compiler, or the compilation failed; the message ends with the compiler's last lines. Or the file
            system refused: a full disk, for example.
    """
    try:
        return _shared_library(name, sources, includes, flags)
    except OSError as error:
        raise BuildError(
            f"the library {name} cannot be built in {cache_folder()} ({error}): make room there or choose another "
            "cache folder with the environment variable IPU_TRAIN_CACHE, or another compiler with CXX"
        ) from error


def _shared_library(
    name: str, sources: Sequence[Path], includes: Sequence[Path], flags: Sequence[str]
) -> Path:
    command = compiler()
    macros = _predefined_macros(command, flags)
    if macros is None:
        flags = [flag for flag in flags if flag != "-march=native"]
        macros = _predefined_macros(command, flags) or ""
    read = sorted(set(_readable(sources, includes)))
    digest = hashlib.sha256("\0".join([*command, *flags, *COMMON_FLAGS, macros, sys.platform]).encode())
    for path in read:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    file_name = f"{name}-{digest.hexdigest()[:24]}.so"
    found = cache_folder() / file_name
    # Perhaps in a cache that only others may write; not Path.exists, which raises where a folder may not be read.
    if os.path.exists(str(found)):
        return found
    arguments = [*command, *COMMON_FLAGS, *flags, *(f"-I{folder}" for folder in includes)]
    with _writable_cache() as folder:
        target = folder / file_name
        if not target.exists():
            with _lock(folder / f"{name}.lock"):
                if not target.exists():
                    _compile(arguments, sources, target)
    return target


def load(path: Path) -> ctypes.CDLL:
    """Loads a library; a :class:`BuildError` says which one could not be."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(
            f"{path} was built but does not load ({error}); delete it, or choose another cache folder with "
            "the environment variable IPU_TRAIN_CACHE"
        ) from None


def _readable(sources: Sequence[Path], includes: Sequence[Path]) -> Iterator[Path]:
    folders = {path.parent for path in sources}
    for folder in folders:
        yield from folder.glob("*.cpp")  # one source may include another, as the host's vertices the codelets
    for folder in folders | set(includes):
        for path in folder.rglob("*"):
            # without a suffix, as the device's own headers are
            if path.suffix in (".hpp", "") and path.is_file():
                yield path


def _predefined_macros(command: Sequence[str], flags: Sequence[str]) -> Optional[str]:
    """Names the compiler's version and, with -march=native, this processor's instruction sets."""
    result = subprocess.run(
        [*command, *flags, "-x", "c++", "-dM", "-E", os.devnull],
        capture_output=True,
    )
    return result.stdout.decode(errors="replace") if result.returncode == 0 else None


def _compile(arguments: Sequence[str], sources: Sequence[Path], target: Path) -> None:
    """Compiles the sources, as many at a time as there are processors, and links them to ``target``."""
    with tempfile.TemporaryDirectory(prefix=target.stem, dir=str(target.parent)) as folder:
        objects = [os.path.join(folder, f"{index}.o") for index in range(len(sources))]
        commands = [[*arguments, "-c", str(source), "-o", name] for source, name in zip(sources, objects)]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(_run, commands))
        library = os.path.join(folder, "library.so")
        _run([*arguments, "-shared", *objects, "-o", library])
        os.replace(library, str(target))


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode != 0:
        lines = result.stdout.decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if "error" in line][:5] or lines[-5:]
        quoted = " ".join(map(shlex.quote, command))
        raise BuildError(f"the C++ compiler failed ({quoted}):\n  " + "\n  ".join(errors))


_private_cache: Optional[Tuple[int, "tempfile.TemporaryDirectory"]] = None


@contextlib.contextmanager
def _writable_cache() -> Iterator[Path]:
    """The cache folder, or, where it cannot be written, a private one that ends with the process."""
    global _private_cache
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(str(folder), os.W_OK)
    except OSError:
        writable = False
    if not writable:
        if _private_cache is None or _private_cache[0] != os.getpid():
            _private_cache = (os.getpid(), tempfile.TemporaryDirectory(prefix="ipu-train-"))
        folder = Path(_private_cache[1].name)
    yield folder


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time, so that a group of processes compiles once. Only saves time."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # another user's file, or a network file system without locks
            fcntl.flock(held.enter_context(open(str(path), "w")), fcntl.LOCK_EX)
        yield

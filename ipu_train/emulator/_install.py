"""Make ``import poptorch`` mean the emulator, with ``popdist``, ``popart`` and ``horovod.torch`` beside it.

Here that is a matter of ``sys.modules``. Processes started later find the same through small modules in
``_shims``, a folder that is added to ``sys.path`` (which ``multiprocessing`` hands on) and to ``PYTHONPATH``
(which other Python programs read). It comes last, so that a real SDK is found before it, unless it was
told to win.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import sys
import types
from typing import Any, Dict, List, Optional, Tuple

SHIMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_shims")
_LOAD_ANYTHING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # read by torch.load
_OURS = "true"  # one of the values that torch takes for yes; users write 1
PACKAGE = __name__.rpartition(".")[0]

# stand-in -> what it is called
_STAND_INS = {
    "stand_ins.popdist": "popdist",
    "stand_ins.popdist_poptorch": "popdist.poptorch",
    "stand_ins.popart": "popart",
    "stand_ins.horovod": "horovod.torch",
}
_NOT_POPTORCH = {"__main__", "_install"}


def install(force: bool = False) -> bool:
    """Let ``import poptorch`` give the emulator, here and in processes started from now on.

    A Poplar SDK that can be imported wins unless ``force``. One line on standard error says which it is.

    Args:
        force: use the emulator even where the SDK is installed.

    Returns:
        Whether ``poptorch`` is the emulator now.
    """
    if _emulates():
        return True
    if not force:
        sdk, problem = _importSdk()
        if sdk is not None:
            _say(f"poptorch is the Poplar SDK's, {sdk}")
            return False
        if problem:
            _say(f"the Poplar SDK's poptorch cannot be imported ({problem})")
    alias()
    _handOn(first=force)
    _say(f"poptorch is the embedded emulator, version {sys.modules['poptorch'].__version__}")
    return True


def uninstall() -> None:
    """Undo :func:`install`. Modules that imported the emulator as ``poptorch`` keep it."""
    if not _emulates():
        return
    for name in _aliases():
        sys.modules.pop(name, None)
    from torch.utils.data import Sampler

    if Sampler.__dict__.get("__init__") is _takeDataSource:
        del Sampler.__init__
    if os.environ.get(_LOAD_ANYTHING) == _OURS:
        del os.environ[_LOAD_ANYTHING]
    while SHIMS in sys.path:
        sys.path.remove(SHIMS)
    rest = [path for path in _pythonPath() if path != SHIMS]
    if rest:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
    else:
        os.environ.pop("PYTHONPATH", None)


def alias() -> None:
    """Enter the emulator's modules into ``sys.modules`` under PopTorch's names."""
    sys.modules.update(_aliases())
    _acceptDataSource()
    _loadWholeModules()


def _takeDataSource(self: Any, data_source: Any = None) -> None:
    """``Sampler.__init__`` as torch 2.0.1 has it."""
    object.__init__(self)


def _acceptDataSource() -> None:
    """Let samplers call ``super().__init__(data_source)``, as they had to for the torch that PopTorch 3.4 came with.

    torch 2.0.1 took the argument and ignored it; later versions do not take it any more.
    """
    from torch.utils.data import Sampler

    if Sampler.__init__ is object.__init__:
        Sampler.__init__ = _takeDataSource  # type: ignore[method-assign]


def _loadWholeModules() -> None:
    """Let ``torch.load`` read pickled modules and executors unasked, as the torch that PopTorch 3.4 came with did.

    From torch 2.6 on it only reads tensors by default, which programs that save whole models do not know. Pickles can
    run code: who loads files of others sets ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=1``, which stays as it is.
    """
    if _LOAD_ANYTHING not in os.environ and os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0") in ("", "0"):
        os.environ[_LOAD_ANYTHING] = _OURS


def _emulates() -> bool:
    return getattr(sys.modules.get("poptorch"), "__name__", None) == PACKAGE


def _aliases() -> Dict[str, types.ModuleType]:
    """All modules by the names that programs import them under."""
    package = importlib.import_module(PACKAGE)
    modules = {"poptorch": package}
    for info in pkgutil.iter_modules(package.__path__):
        if info.name not in _NOT_POPTORCH and not info.ispkg:
            modules[f"poptorch.{info.name}"] = importlib.import_module(f"{PACKAGE}.{info.name}")
    for name, public in _STAND_INS.items():
        modules[public] = importlib.import_module(f"{PACKAGE}.{name}")
    # packages, for ``import popdist.poptorch`` and ``import horovod.torch``
    vars(modules["popdist"]).update(poptorch=modules["popdist.poptorch"], __path__=[])
    horovod = sys.modules.get("horovod")
    if horovod is None or getattr(horovod, "torch", None) is not modules["horovod.torch"]:
        horovod = types.ModuleType("horovod", "Stand-in for Horovod: only horovod.torch.")
        # libraries look whether there is one, which no module without a spec survives
        spec = importlib.machinery.ModuleSpec("horovod", None, is_package=True)
        vars(horovod).update(torch=modules["horovod.torch"], __path__=[], __spec__=spec)
    modules["horovod"] = horovod
    return modules


def _importSdk() -> Tuple[Optional[str], str]:
    """Where the SDK's PopTorch lies, or why it cannot be imported; None and nothing where there is none."""
    try:
        spec = importlib.util.find_spec("poptorch")
    except (ImportError, ValueError):
        return None, ""
    if spec is None or os.path.dirname(os.path.abspath(spec.origin or "")) == SHIMS:
        return None, ""
    try:
        module = importlib.import_module("poptorch")
    except Exception as error:  # a wheel without the SDK around it fails in many ways
        for name in [n for n in sys.modules if n == "poptorch" or n.startswith("poptorch.")]:
            del sys.modules[name]
        return None, f"{type(error).__name__}: {error}"
    return f"version {module.__version__} in {os.path.dirname(str(module.__file__))}", ""


def _handOn(first: bool) -> None:
    """Let processes started later find the emulator too."""
    paths = _pythonPath()
    for path in (sys.path, paths):
        if SHIMS not in path:
            path.insert(0 if first else len(path), SHIMS)
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def _pythonPath() -> List[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _say(text: str) -> None:
    sys.stderr.write(f"ipu-train: {text}\n")
    sys.stderr.flush()

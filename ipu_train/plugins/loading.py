"""From a name in a configuration to what is registered under it."""

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, Optional

from .. import models
from ..models import RegistrationError
from ..models.own import OWN as OWN_MODELS
from . import datasets
from .datasets import OwnDataset

GROUP = "ipu_train.plugins"
GIVEN = " given from Python"  # ends the name of what stands in no file
_FUNCTION = re.compile(r"(?:.+\.py|\w+(?:\.\w+)*):\w+")
_loaded: Dict[str, Any] = {}  # files, by their resolved paths
_asked = False


def find_model(name: str) -> bool:
    """Whether ``models.build`` knows a name, after looking for it in a file or in installed packages.

    Raises:
        RegistrationError: the file or package cannot be loaded, or the function makes no network.
    """
    if name not in models.names():
        if _FUNCTION.fullmatch(name):
            function = _function(name)
            known = next((own for own in OWN_MODELS.values() if own.build is function), None)
            if known is None:
                models.register_model(name, function)
            else:
                OWN_MODELS[name] = known
        else:
            _check_findable(name, "the network")
            _ask_packages()
    return name in models.names()


def find_dataset(name: str) -> Optional[OwnDataset]:
    """The data set of that name, after looking for it in a file or in installed packages; None for none.

    Raises:
        RegistrationError: the file or package cannot be loaded, or the function is not registered there.
    """
    if name not in datasets.OWN:
        if _FUNCTION.fullmatch(name):
            function = _function(name)
            known = next((own for own in datasets.OWN.values() if own.open is function), None)
            if known is None:
                raise RegistrationError(
                    f"{name}: the function needs @ipu_train.register_dataset(...) above it, which tells the shape "
                    "of its images"
                )
            datasets.OWN[name] = known
        else:
            _check_findable(name, "the data set")
            _ask_packages()
    return datasets.OWN.get(name)


def _check_findable(name: str, what: str) -> None:
    if name.endswith(GIVEN):
        raise RegistrationError(
            f"{name}: {what} is known in the program alone that has given it. Go on there, or train with a function in "
            "a file or a package, which commands find again"
        )


def _function(name: str) -> Any:
    """``my_file.py:function`` or ``package.module:function``."""
    place, _, attribute = name.rpartition(":")
    module = _file(place) if place.endswith(".py") else _module(place)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise RegistrationError(f"{name}: {place} has no function {attribute}")
    return found


def _file(place: str) -> Any:
    path = Path(os.path.expanduser(place))
    if not path.is_file():
        where = "" if path.is_absolute() else f" in {Path.cwd()}, where the command is given"
        raise RegistrationError(f"{place}: there is no such file{where}")
    key = str(path.resolve())
    for module in list(sys.modules.values()):  # running, or imported in another way
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).name == path.name and Path(file).resolve() == path.resolve():
            return module
    if key not in _loaded:
        try:
            _loaded[key] = _executed(path.resolve())
        except Exception as error:  # whatever the user's own code raises
            raise RegistrationError(f"{place} cannot be loaded: {type(error).__name__}: {error}") from error
    return _loaded[key]


def _executed(path: Path) -> Any:
    """A file as Python would import it from its own folder: it finds its neighbours, and ``sys.modules`` knows it.

    Dataclasses, pickle and TorchScript look modules up there. Its folder comes last on the path and a name that means
    something else is left to that, so that nobody else's imports change.
    """
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    known = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    if known is not None and known.origin is not None and Path(known.origin).resolve() == path:
        return importlib.import_module(path.stem)
    name = f"{path.stem} in {path.parent}"
    spec = importlib.util.spec_from_file_location(name, str(path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(place: str) -> Any:
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise RegistrationError(f"{place} cannot be imported: {type(error).__name__}: {error}") from error


def _ask_packages() -> None:
    """Let installed packages register what they have, once."""
    global _asked
    if _asked:
        return
    _asked = True
    from importlib import metadata

    points: Any = metadata.entry_points()
    group = points.select(group=GROUP) if hasattr(points, "select") else points.get(GROUP, ())
    for point in group:
        try:
            point.load()()
        except Exception as error:
            raise RegistrationError(
                f"the installed package behind {point.name} ({point.value}) cannot register its models and data sets: "
                f"{type(error).__name__}: {error}"
            ) from error

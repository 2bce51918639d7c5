"""Finding and reading the files of a configuration; every way in which that can fail is one message."""

import importlib.util
import os
from pathlib import Path
from typing import List, Optional, Union

from .errors import ConfigError, Problem, suggestion
from .reader import MOST_CHARACTERS

_MOST_BYTES = 4 * MOST_CHARACTERS  # UTF-8 needs at most four for a character
_FAMILIES = "families/"  # what recipes share
_ENDINGS = (".yaml", ".yml")


def builtin_folder() -> Path:
    """The folder of the recipes that ship with ipu-train."""
    spec = importlib.util.find_spec("ipu_train.configs")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError([Problem("ipu_train.configs", "", "is not installed; reinstall ipu-train")])
    return Path(next(iter(spec.submodule_search_locations)))


def builtin_names() -> List[str]:
    """Names of the recipes that ship with ipu-train."""
    return sorted(path.stem for path in builtin_folder().glob("*.yaml"))


def _builtin(name: str) -> Optional[Path]:
    """The file of the recipe of that name, with or without its ending; None where there is none."""
    path = builtin_folder() / (name if name.endswith(_ENDINGS) else name + ".yaml")
    inside = _is_bare(name[len(_FAMILIES) :] if name.startswith(_FAMILIES) else name)
    return path if inside and _is_file(path) else None


def _is_bare(text: str) -> bool:
    return bool(text) and os.sep not in text and "/" not in text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~ of a user that does not exist
        return Path(text)


def find(name_or_path: Union[str, "os.PathLike[str]"]) -> Path:
    """The file that a path, or the bare name of a recipe that ships with ipu-train, stands for.

    Raises:
        ConfigError: there is no such file, or it is a folder.
    """
    text = os.fspath(name_or_path)
    path = _expanded(text)
    if _is_file(path):
        return path
    builtin = _builtin(text)
    if builtin is not None:
        return builtin
    if _is_folder(path):
        raise _unusable(text, _folder_message(path))
    raise _unusable(text, _missing_message(text, path, ""))


def find_base(name: str, beside: Path) -> Path:
    """The file that ``base: NAME`` in the file ``beside`` stands for: a file near it, else a recipe.

    A file of a recipe's name whose base is that very name builds on the recipe.

    Raises:
        ValueError: there is no such file; the message says where it was looked for.
    """
    near = beside.parent / _expanded(name)
    for path in [near] + ([] if name.endswith(_ENDINGS) else [near.with_name(near.name + ".yaml")]):
        if _is_file(path) and not (_builtin(name) is not None and _same(path, beside)):
            return path
    builtin = _builtin(name)
    if builtin is not None:
        return builtin
    if _is_folder(near):
        raise ValueError(f"{name} {_folder_message(near)}")
    raise ValueError(f"{name}: {_missing_message(name, near, f' beside {beside.name}')}")


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(str(one)) == os.path.realpath(str(other))


def _missing_message(text: str, path: Path, where: str) -> str:
    names = builtin_names()
    few = len(names) <= 12
    listed = f"recipes: {', '.join(names)}" if few else f"{len(names)} recipes in {builtin_folder()}"
    known = f" ({listed})" if names else ""
    if _is_bare(text):
        stem = text[: -len(".yaml")] if text.endswith(".yaml") else text
        return f"no such file{where}, and no recipe of that name{suggestion(stem, names)}{known}"
    if not _is_folder(path.parent):
        return f"no such file: the folder {path.parent} does not exist"
    siblings = [item.name for item in path.parent.glob("*.yaml")]
    return f"no such file{suggestion(path.name, siblings)}"


def _folder_message(path: Path) -> str:
    inside = sorted(item.name for item in path.glob("*.yaml"))
    if "config.yaml" in inside:
        return f"is a folder; did you mean {path / 'config.yaml'}?"
    return "is a folder, not a YAML file" + (f" (it holds {', '.join(inside[:5])})" if inside else "")


def _unusable(place: str, message: str) -> ConfigError:
    return ConfigError([Problem(place or '""', "", message)])


def read_text(path: Path) -> str:
    """The text of a file; every way in which that can fail is a ConfigError that names the file."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            message = f"has {path.stat().st_size:,} bytes, more than any configuration; is it really one?"
            raise _unusable(str(path), message)
        data = path.read_bytes()
    except OSError as error:
        raise _unusable(str(path), f"cannot be read: {error.strerror or error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unusable(f"{path}:{line}", "is not UTF-8 text; is it really a YAML file?") from None

"""A YAML file and overrides -> a checked configuration that knows where each of its values comes from."""

import importlib.util
import os
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

from .errors import ConfigError, Problem, suggestion
from .messages import complaints
from .overrides import AFTER_FILE, Override, apply, parse_overrides
from .printing import dump, explain, leaves
from .reader import Lines, parse
from .schema import SECTIONS, Config

DEFAULT, OVERRIDE = "default", "override"


class Resolved(NamedTuple):
    """A checked configuration and where it comes from.

    Attributes:
        config: the configuration; every default is filled in.
        origins: dotted path of each value -> ``resnet.yaml:12``, ``override`` or ``default``.
        source: the YAML file.
        text: what it holds.
        overrides: what was changed beside it.
    """

    config: Config
    origins: Dict[str, str]
    source: Path
    text: str
    overrides: Tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the configuration: the file's, without ``.yaml``."""
        return self.source.stem

    def dump(self) -> str:
        """YAML of the whole configuration; loading it gives the same configuration again."""
        return dump(self.config)

    def explain(self) -> str:
        """The same YAML with the origin of each value beside it."""
        return explain(self.config, self.origins)

    def changed(self, overrides: Iterable[str]) -> "Resolved":
        """The configuration with further overrides; defaults that depend on them are filled in anew.

        Raises:
            ConfigError: the overrides do not fit.
        """
        return load_text(self.text, self.source, (*self.overrides, *overrides))

    def error(self, path: str, message: str) -> ConfigError:
        """An error about one value that only another part of the program can judge (a model's name, say).

        The message is placed where the value was written: ``resnet.yaml:3: model.name: ...``.
        """
        origin = self.origins.get(path, DEFAULT)
        place = str(self.source) if origin == DEFAULT else origin
        return ConfigError([Problem(place, path, message)])


def builtin_folder() -> Path:
    """The folder of the recipes that ship with ipu-train."""
    spec = importlib.util.find_spec("ipu_train.configs")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError([Problem("ipu_train.configs", "", "is not installed; reinstall ipu-train")])
    return Path(next(iter(spec.submodule_search_locations)))


def builtin_names() -> List[str]:
    """Names of the recipes that ship with ipu-train."""
    return sorted(path.stem for path in builtin_folder().glob("*.yaml"))


def find(name_or_path: Union[str, "os.PathLike[str]"]) -> Path:
    """The file that a path, or the bare name of a recipe that ships with ipu-train, stands for.

    Raises:
        ConfigError: there is no such file, or it is a folder.
    """
    text = os.fspath(name_or_path)
    path = Path(text).expanduser()
    bare = os.sep not in text and "/" not in text
    if path.is_file():
        return path
    if bare and text:
        builtin = builtin_folder() / (text if text.endswith((".yaml", ".yml")) else text + ".yaml")
        if builtin.is_file():
            return builtin
    if path.is_dir():
        raise _unusable(text, _folder_message(path))
    names = builtin_names()
    few = len(names) <= 12
    listed = f"recipes: {', '.join(names)}" if few else f"{len(names)} recipes in {builtin_folder()}"
    known = f" ({listed})" if names else ""
    if bare:
        stem = text[: -len(".yaml")] if text.endswith(".yaml") else text
        raise _unusable(text, f"no such file, and no recipe of that name{suggestion(stem, names)}{known}")
    siblings = [item.name for item in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    if not path.parent.is_dir():
        raise _unusable(text, f"no such file: the folder {path.parent} does not exist")
    raise _unusable(text, f"no such file{suggestion(path.name, siblings)}")


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
        data = path.read_bytes()
    except OSError as error:
        raise _unusable(str(path), f"cannot be read: {error.strerror or error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unusable(f"{path}:{line}", "is not UTF-8 text; is it really a YAML file?") from None


def load(name_or_path: Union[str, "os.PathLike[str]"], overrides: Iterable[str] = ()) -> Resolved:
    """Read, override and check a configuration.

    Args:
        name_or_path: a path, or the bare name of a recipe that ships with ipu-train (``quickstart``).
        overrides: ``section.key=value`` texts, applied in order.

    Raises:
        ConfigError: anything is wrong; it carries every problem of the file and of the overrides at once.
    """
    source = find(name_or_path)
    return load_text(read_text(source), source, overrides)


def load_text(text: str, source: Path, overrides: Iterable[str] = ()) -> Resolved:
    """:func:`load` of a text that is already read; ``source`` is its name in messages."""
    place, overrides = str(source), tuple(overrides)
    parsed, problems = parse_overrides(overrides)
    try:
        values, lines, found = parse(text, place)
    except ConfigError as error:
        raise ConfigError(problems + error.problems) from None
    problems += found
    if values is None:
        problems.append(Problem(place, "", "is empty; give at least model.name and data.name"))
        raise ConfigError(problems)
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        message = f"holds {kind}; a configuration is a mapping of sections (model:, data:, ...) to their keys"
        raise ConfigError(problems + [Problem(place, "", message)])
    values = {key: {} if value is None and key in SECTIONS else value for key, value in values.items()}
    by_path: Dict[str, Tuple[int, Override]] = {}
    for position, override in enumerate(parsed):
        top = override.path.split(".")[0]
        if isinstance(values.get(top, {}), dict) or top not in SECTIONS:
            apply(values, override)
            by_path[override.path] = (position, override)
    problems += [_locate(path, message, place, lines, by_path) for path, message in complaints(values)]
    if problems:
        raise ConfigError(problems)
    config = Config.model_validate(values)
    return Resolved(config, dict(_origins(config, source, lines, by_path)), source, text, overrides)


def _above(path: str) -> Iterator[str]:
    """A path and all that contain it: ``a.b[0]``, ``a.b``, ``a``."""
    path = path.replace("[", ".[")
    while path:
        yield path.replace(".[", "[")
        path = path.rpartition(".")[0]


def _overridden(path: str, by_path: Dict[str, Tuple[int, Override]]) -> Optional[Tuple[int, Override]]:
    return next((by_path[candidate] for candidate in _above(path) if candidate in by_path), None)


def _locate(
    path: str, message: str, place: str, lines: Lines, by_path: Dict[str, Tuple[int, Override]]
) -> Problem:
    found = _overridden(path, by_path)
    if found is not None:
        return Problem(found[1].place, path, message, AFTER_FILE + found[0])
    line = next((lines[candidate] for candidate in _above(path) if candidate in lines), None)
    return Problem(f"{place}:{line}" if line else place, path, message, line or 0)


def _origins(
    config: Config, source: Path, lines: Lines, by_path: Dict[str, Tuple[int, Override]]
) -> Iterator[Tuple[str, str]]:
    for path, _ in leaves(config):
        if _overridden(path, by_path) is not None:
            yield path, OVERRIDE
        elif path in lines:
            yield path, f"{source.name}:{lines[path]}"
        else:
            yield path, DEFAULT

"""A YAML file and overrides -> a checked configuration that knows where each of its values comes from."""

import os
from pathlib import Path
from typing import Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Tuple, Union

from .errors import TAKE_BACK, ConfigError, Problem
from .files import find, read_text
from .layers import Texts, Written, laid, read
from .messages import complaints
from .overrides import AFTER_FILE, MAPPINGS, Override, apply, parse_overrides
from .printing import dump, explain, leaves
from .schema import SECTIONS, Config

# The first line of a run folder's config.yaml: whose run it is.
NAME_LINE = "# run of {}\n"

DEFAULT, OVERRIDE = "default", "override"


class Resolved(NamedTuple):
    """A checked configuration and where it comes from.

    Attributes:
        config: the configuration; every default is filled in.
        origins: dotted path of each value -> ``resnet.yaml:12``, ``override`` or ``default``.
        source: the YAML file.
        texts: what it and the bases below it hold.
        overrides: what was changed beside it.
    """

    config: Config
    origins: Dict[str, str]
    source: Path
    texts: Texts
    overrides: Tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the configuration: the file's, without ``.yaml``, or that of the run whose ``config.yaml`` it is."""
        first = self.texts[0][1].partition("\n")[0] + "\n"
        before, after = NAME_LINE.split("{}")
        if first.startswith(before) and first.endswith(after):
            return first[len(before) : len(first) - len(after)]
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
        return _load(self.texts, (*self.overrides, *overrides))

    def error(self, path: str, message: str) -> ConfigError:
        """An error about one value that only another part of the program can judge (a model's name, say).

        The message is placed where the value was written: ``resnet.yaml:3: model.name: ...``.
        """
        origin, inside = self.origins.get(path, DEFAULT), path + "."
        if path in MAPPINGS and origin == DEFAULT:  # what is written inside it
            origins = [o for key, o in self.origins.items() if key.startswith(inside) and o != DEFAULT]
            origin = OVERRIDE if OVERRIDE in origins else next(iter(origins), DEFAULT)
        place = str(self.source) if origin == DEFAULT else origin
        if origin == OVERRIDE:
            keys = [(text.partition("=")[0].strip(), text) for text in self.overrides]
            written = [text for key, text in keys if key in _above(path) or key.startswith(inside)]
            place = f'override "{written[-1]}"' if written else origin
        return ConfigError([Problem(place, path, message)])


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
    """:func:`load` of a text that is already read; ``source`` is its name in messages, and where bases are near."""
    return _load([(source, text)], tuple(overrides))


def _load(texts: Texts, overrides: Tuple[str, ...]) -> Resolved:
    source = texts[0][0]
    parsed, problems = parse_overrides(overrides)
    try:
        layers, found = read(texts)
    except ConfigError as error:
        raise ConfigError(problems + error.problems) from None
    problems += found
    values, places = laid(layers)
    by_path: Dict[str, Tuple[int, Override]] = {}
    for position, override in enumerate(parsed):
        top = override.path.split(".")[0]
        if isinstance(values.get(top, {}), dict) or top not in SECTIONS:
            apply(values, override)
            for replaced in [path for path in by_path if path.startswith(override.path + ".")]:
                del by_path[replaced]
            by_path[override.path] = (position, override)
    problems += [_locate(path, message, source, places, by_path) for path, message in complaints(values)]
    if problems:
        raise ConfigError(problems)
    config = Config.model_validate(values)
    origins = dict(_origins(config, places, by_path))
    return Resolved(config, origins, source, [(layer.source, layer.text) for layer in layers], overrides)


def _above(path: str) -> Iterator[str]:
    """A path and all that contain it: ``a.b[0]``, ``a.b``, ``a``."""
    path = path.replace("[", ".[")
    while path:
        yield path.replace(".[", "[")
        path = path.rpartition(".")[0]


def _overridden(path: str, by_path: Dict[str, Tuple[int, Override]]) -> Optional[Tuple[int, Override]]:
    return next((by_path[candidate] for candidate in _above(path) if candidate in by_path), None)


def _locate(
    path: str,
    message: str,
    source: Path,
    places: Mapping[str, Written],
    by_path: Dict[str, Tuple[int, Override]],
) -> Problem:
    found = _overridden(path, by_path)
    if found is None and "." in path:  # what an override has put into a key that takes a single value
        inside = [one for key, one in by_path.items() if key.startswith(path + ".")]
        found = inside[-1] if inside else None
    if found is not None:
        return Problem(found[1].place, path, message, AFTER_FILE + found[0])
    written = next((places[candidate] for candidate in _above(path) if candidate in places), None)
    # what is to be taken back may stand in a recipe, which is not the reader's
    if written is not None and message.endswith(TAKE_BACK):
        message += f" ({path}=null)"
    return (
        Problem(str(source), path, message)
        if written is None
        else Problem(written[0], path, message, written.order)
    )


def _origins(
    config: Config, places: Mapping[str, Written], by_path: Dict[str, Tuple[int, Override]]
) -> Iterator[Tuple[str, str]]:
    for path, _ in leaves(config):
        if _overridden(path, by_path) is not None:
            yield path, OVERRIDE
        else:
            yield path, places[path].origin if path in places else DEFAULT

"""A configuration and the bases it names, read and laid over each other; every value knows the file it stands in."""

import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .errors import ConfigError, Problem
from .files import find_base, read_text
from .keys import BASE, takes_text
from .reader import Lines, parse, spelt_null
from .schema import SECTIONS

# Bases are short; a longer chain is a mistake that would only be slow.
LONGEST_CHAIN = 16
# Mistakes in a base are reported after those of the file that names it, and before those of overrides.
_AFTER = 10**6.0


class Written(NamedTuple):
    """Where a value is written.

    Attributes:
        place: for messages, ``recipes/resnet.yaml:12``.
        origin: for printed configurations, ``resnet.yaml:12``.
        order: for sorting.
    """

    place: str
    origin: str
    order: float


class Layer(NamedTuple):
    """One file: its name, text and plain values without the base, and the line of every key."""

    source: Path
    text: str
    values: Dict[str, Any]
    lines: Lines

    def written(self, path: str, depth: int, name: str) -> Written:
        line = self.lines[path]
        return Written(f"{self.source}:{line}", f"{name}:{line}", depth * _AFTER + line)


Texts = Sequence[Tuple[Path, str]]  # files and what they hold, each the base of the one before


def read(texts: Texts) -> Tuple[List[Layer], List[Problem]]:
    """The layers of a configuration, itself first, and problems that did not stop the reading.

    Args:
        texts: the configuration, and all of its bases where they have been read before.

    Raises:
        ConfigError: a file that holds no configuration, or a base that is not there or leads round in a circle.
    """
    layers: List[Layer] = []
    problems: List[Problem] = []
    here, content = texts[0]
    while True:
        try:
            layer, base, found = _layer(content, here, len(layers))
        except ConfigError as error:
            raise ConfigError(problems + error.problems) from None
        layers.append(layer)
        problems += found
        if base is None:
            return layers, problems
        if len(layers) < len(texts):
            here, content = texts[len(layers)]
            continue
        try:
            below = find_base(base, here)
            _refuse_circle(below, layers)
        except ValueError as error:
            written = layer.written(BASE, len(layers) - 1, "")
            problem = Problem(written.place, BASE, str(error), written.order)
            raise ConfigError([*problems, problem]) from None
        here, content = below, read_text(below)


def _layer(text: str, source: Path, depth: int) -> Tuple[Layer, Optional[str], List[Problem]]:
    place = str(source)
    values, lines, found = parse(text, place, takes_text)
    problems = [problem._replace(line=problem.line + depth * _AFTER) for problem in found]
    if values is None:
        message = "is empty; give at least model.name and data.name"
        raise ConfigError([*problems, Problem(place, "", message)])
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        message = f"holds {kind}; a configuration is a mapping of sections (model:, data:, ...) to their keys"
        raise ConfigError([*problems, Problem(place, "", message)])
    base = values.pop(BASE, None)
    if base is not None and (not isinstance(base, str) or not base.strip() or "\0" in base):
        message = "must be the name of a recipe or the path of a file"
        raise ConfigError([*problems, Problem(f"{place}:{lines[BASE]}", BASE, message)])
    taken_back = spelt_null(text)
    for key in SECTIONS:
        if key in values and values[key] is None and key not in taken_back:
            values[key] = {}  # all of its keys are comments, say
    return Layer(source, text, values, lines), base, problems


def _refuse_circle(below: Path, layers: List[Layer]) -> None:
    seen = [os.path.realpath(str(layer.source)) for layer in layers]
    chain = " -> ".join([*(layer.source.name for layer in layers), below.name])
    if os.path.realpath(str(below)) in seen:
        raise ValueError(f"the bases lead round in a circle: {chain}")
    if len(layers) >= LONGEST_CHAIN:
        raise ValueError(f"more than {LONGEST_CHAIN} files build on each other: {chain}")


def laid(layers: List[Layer]) -> Tuple[Dict[str, Any], Dict[str, Written]]:
    """Plain values of all layers, the first on top, and where each of them is written, by dotted path."""
    names = [layer.source.name for layer in layers]
    values: Dict[str, Any] = {}
    places: Dict[str, Written] = {}
    for depth in reversed(range(len(layers))):
        layer = layers[depth]
        name = layer.source.name if names.count(layer.source.name) == 1 else str(layer.source)
        _lay(values, layer.values, "", places)
        for path in layer.lines:
            if path != BASE:
                places[path] = layer.written(path, depth, name)
    for key in SECTIONS:
        if key in values and values[key] is None:  # back to its defaults
            values[key] = {}
    return values, places


def _lay(below: Dict[str, Any], above: Mapping[str, Any], prefix: str, places: Dict[str, Written]) -> None:
    """Lay a mapping over another, in place; what is replaced is forgotten with its place."""
    for key, value in above.items():
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _lay(below[key], value, path, places)
            continue
        for old in [old for old in places if old.startswith((f"{path}.", f"{path}["))]:
            del places[old]
        below[key] = _copy(value)


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value

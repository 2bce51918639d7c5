"""``section.key=value`` on the command line."""

import json
import re
from typing import Any, Dict, Iterable, List, Match, NamedTuple, Optional, Tuple

from .errors import ConfigError, Problem, nearest, suggestion
from .keys import BASE, key, keys_of, split, takes_text
from .reader import parse
from .schema import SECTIONS


class Override(NamedTuple):
    """One parsed override: ``text`` as written, dotted ``path``, and its ``value``."""

    text: str
    path: str
    value: Any

    @property
    def place(self) -> str:
        return f'override "{self.text}"'


# Keys with keys of the user's choice below them; those of the device's are one name, dots and all.
MAPPINGS = ("model.options", "data.options", "device.engine_options", "device.session_options")

# Overrides are reported after all lines of the file, in the order given.
AFTER_FILE = 1e9


def parse_override(text: str, position: int = 0) -> Override:
    """Read ``section.key=value``; the value is YAML (``[0.5, 0.75]``, ``null``, ``1e-4``, ``off``).

    Raises:
        ConfigError: no ``=``, no key, an unknown section, or a value that is no YAML.
    """

    def fail(message: str) -> ConfigError:
        return ConfigError([Problem(f'override "{text}"', "", message, AFTER_FILE + position)])

    path, equals, value_text = text.partition("=")
    path = path.strip()
    if not equals:
        if key(*split(path)) is not None:
            raise fail(f"has no value; write {path}=VALUE, without spaces beside the =")
        lists = "" if "." in path else "; lists have commas and no spaces between their values"
        raise fail(f"is not of the form section.key=value, such as training.epochs=5{lists}")
    parts = path.split(".")
    if not all(parts):
        raise fail("has no key before the =; write section.key=value, such as training.epochs=5")
    if len(parts) == 1 and path in SECTIONS:
        raise fail(f"{path} is a section; set its keys one by one, such as {path}.{keys_of(path)[0]}=...")
    if path == BASE:
        raise fail("a base is named in a file: write base: NAME at its top")
    if parts[0] not in keys_of(""):
        meant = _with_its_section(path) if len(parts) == 1 else None
        hint = f"; did you mean {meant}?" if meant else suggestion(parts[0], keys_of(""))
        raise fail(f'there is no section "{parts[0]}"{hint} (sections: {", ".join(SECTIONS)})')
    if len(parts) > 2 and ".".join(parts[:2]) not in MAPPINGS:
        raise fail(f"{parts[0]}.{parts[1]} has no keys below it; write {parts[0]}.{parts[1]}=value")
    try:
        value, _, problems = parse(value_text, "value", lambda inner: takes_text(path + inner))
    except ConfigError as error:
        raise fail(f"the value is {error.problems[0].message}") from None
    if problems:
        raise fail(problems[0].message)
    return Override(text, path, value)


def _with_its_section(name: str) -> Optional[str]:
    """``optimizer.learning_rate`` for ``learning_rate`` or ``lr``; None where no section has such a key."""
    places: Dict[str, str] = {}
    for section in SECTIONS:
        for own in keys_of(section):
            places.setdefault(own, f"{section}.{own}")
    return places.get(name) or places.get(nearest(name, [*SECTIONS, *places]) or "")


def quoted(text: str) -> str:
    """A text as YAML that means it, whatever characters it has: those of names of files, say."""
    written = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]", _escaped, written)


def _escaped(match: Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def text_override(path: str, text: str) -> str:
    """The override that sets a key to a text: as it is, or quoted where YAML would make something else of it."""
    plain = f"{path}={text}"
    try:
        return plain if parse_override(plain).value == text else f"{path}={quoted(text)}"
    except ConfigError:
        return f"{path}={quoted(text)}"


def parse_overrides(texts: Iterable[str]) -> Tuple[List[Override], List[Problem]]:
    """The overrides that can be understood, and the problems of the others."""
    found: List[Override] = []
    problems: List[Problem] = []
    for position, text in enumerate(texts):
        try:
            found.append(parse_override(text, position))
        except ConfigError as error:
            problems += error.problems
    return found, problems


def apply(values: Dict[str, Any], override: Override) -> None:
    """Set the override in nested plain values, making sections that the file leaves out."""
    *above, key = _keys(override.path)
    target = values
    for part in above:
        inner = target.get(part)
        if not isinstance(inner, dict):  # absent or null; a file's error of type is reported before this
            inner = target[part] = {}
        target = inner
    target[key] = override.value


def _keys(path: str) -> List[str]:
    """``device.engine_options.opt.enableInlining`` -> ["device", "engine_options", "opt.enableInlining"]."""
    for mapping in MAPPINGS[2:]:
        if path.startswith(mapping + "."):
            return [*mapping.split("."), path[len(mapping) + 1 :]]
    return path.split(".")

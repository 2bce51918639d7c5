"""A configuration as YAML: bare, or with the origin of each value."""

from typing import Any, Dict, Iterator, Mapping, Tuple

import yaml

from .reader import RESOLVERS, TAG
from .schema import Config


class _Writer(yaml.SafeDumper):
    """Quotes whatever either YAML 1.1 or our reader would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern in RESOLVERS:
    _Writer.add_implicit_resolver(TAG + _name, _pattern, None)


def _text(writer: _Writer, value: str) -> Any:
    lines = value.isprintable()
    return writer.represent_scalar(TAG + "str", value, style=None if lines else '"')


_Writer.add_representer(str, _text)


def scalar(value: Any) -> str:
    """A value in one line of YAML. Floats are written with all the digits that tell them apart."""
    text = yaml.dump(
        value, Dumper=_Writer, default_flow_style=True, width=2**31, allow_unicode=True, sort_keys=False
    )
    return text[: -len("\n...\n")] if text.endswith("\n...\n") else text.rstrip("\n")


def leaves(config: Config) -> Iterator[Tuple[str, Any]]:
    """(dotted path, value) of everything in a configuration; lists and empty mappings are values."""
    yield from _leaves(config.values(), "")


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[Tuple[str, Any]]:
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _lines(values: Mapping[str, Any], prefix: str, indent: str) -> Iterator[Tuple[str, str]]:
    """(line, dotted path of the value on it, or an empty one for the head of a section)."""
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else key
        name = indent + scalar(key)
        if isinstance(value, dict) and value:
            yield f"{name}:", ""
            yield from _lines(value, path, indent + "  ")
        else:
            yield f"{name}: {scalar(value)}", path


def dump(config: Config) -> str:
    return "".join(line + "\n" for line, _ in _lines(config.values(), "", ""))


def explain(config: Config, origins: Dict[str, str]) -> str:
    lines = list(_lines(config.values(), "", ""))
    width = min(max(len(line) for line, path in lines if path), 60)
    text = ""
    for line, path in lines:
        text += (f"{line:<{width}}  # {origins[path]}" if path else line) + "\n"
    return text

"""YAML text -> plain Python values, with the line of every key.

PyYAML parses; this module builds the values itself, because PyYAML's own constructor keeps the last of two
equal keys without a word, reads ``1e-4`` as a string and ``off``, ``1:30`` or ``2021-06-07`` as something
other than what is written (YAML 1.1). Plain scalars are read as YAML 1.2's core schema does: ``true`` /
``false``, ``null``, numbers, else a string; ``_`` may group digits.

Size, depth and number of values are bounded, aliases counted as often as they are used: no text makes the reader run
for long or fill the memory.
"""

import re
from functools import lru_cache
from typing import Any, Callable, Dict, List, Set, Tuple

import yaml

from .errors import ConfigError, Problem

Lines = Dict[str, int]

TAG = "tag:yaml.org,2002:"
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_INT = re.compile(r"^[-+]?(?:0x[0-9a-fA-F]+|0o[0-7]+|[0-9][0-9_]*)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


# A resolved recipe has 4 thousand characters, 130 values and a depth of 3.
MOST_CHARACTERS = 100_000
MOST_VALUES = 5_000
DEEPEST = 20
LONGEST_NUMBER = 40  # digits


class TooMuch(yaml.MarkedYAMLError):
    """More than any configuration needs."""


class _Composer(yaml.SafeLoader):
    """PyYAML's parser with the resolvers above in place of its YAML 1.1 ones, and with bounds."""

    yaml_implicit_resolvers: Dict[str, List[Tuple[str, Any]]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.values += 1
        if self.depth > DEEPEST or self.values > 2 * MOST_VALUES:  # keys and values
            mark = self.peek_event().start_mark
            what = f"nested deeper than {DEEPEST} levels" if self.depth > DEEPEST else _MANY
            raise TooMuch(None, None, what, mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_MANY = f"holds more than {MOST_VALUES} values"


# One ordered list: what fits none of the patterns is a string.
RESOLVERS = [
    ("bool", _BOOL),
    ("null", _NULL),
    ("int", _INT),
    ("float", _FLOAT),
    ("merge", re.compile("^<<$")),
]
for _name, _pattern in RESOLVERS:
    _Composer.add_implicit_resolver(TAG + _name, _pattern, None)


def _never(_path: str) -> bool:
    return False


def parse(
    text: str, place: str, takes_text: Callable[[str], bool] = _never
) -> Tuple[Any, Lines, List[Problem]]:
    """Read one YAML document.

    Args:
        text: the document.
        place: what to call it in messages (a file name, an override).
        takes_text: tells of a dotted path whether a number there is a name, which keeps its spelling (``007``,
            ``2024_11``, ``1.10``).

    Returns:
        The value (None for an empty document); the line of every key, by dotted path; and problems that do
        not stop the reading (keys given twice, keys that are no names).

    Raises:
        ConfigError: the text is no YAML, or larger than any configuration; the message has line and column.
    """
    if len(text) > MOST_CHARACTERS:
        message = (
            f"has {len(text):,} characters, more than any configuration ({MOST_CHARACTERS:,}); is it one?"
        )
        raise ConfigError([Problem(place, "", message)])
    try:
        node = _compose(text)
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_problem(error, text, place)]) from None
    builder = _Builder(place, takes_text)
    try:
        value = None if node is None else builder.build(node, "", set())
    except TooMuch as error:
        raise ConfigError([_syntax_problem(error, text, place)]) from None
    return value, builder.lines, builder.problems


def spelt_null(text: str) -> Set[str]:
    """The first level's keys of a readable mapping whose value is a written null (``null``, ``~``), not left out."""
    pairs = getattr(_compose(text), "value", ())
    return {key.value for key, value in pairs if value.tag == TAG + "null" and value.value}


@lru_cache(maxsize=512)
def _compose(text: str) -> Any:
    """The nodes of a document, which nobody changes: a search reads the same files and overrides again and again."""
    loader = _Composer(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _syntax_problem(error: yaml.YAMLError, text: str, place: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a character YAML does not allow
        position = getattr(error, "position", 0)
        line, column = text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1
        what = f"the character {text[position : position + 1]!r} is not allowed in YAML"
    else:
        line, column = mark.line + 1, mark.column + 1
        what = str(getattr(error, "problem", None) or error)
        source = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
        if "\t" in source[: mark.column + 1]:
            what += "; YAML indents with spaces, and this line has a tab"
        elif "mapping values are not allowed" in what:
            what += '; quote a value that holds ": ", and indent the keys of one section alike'
    if isinstance(error, TooMuch):
        return Problem(f"{place}:{line}:{column}", "", f"{what}, more than any configuration needs", line)
    return Problem(f"{place}:{line}:{column}", "", f"not valid YAML: {what}", line)


class _Builder:
    """Values, lines and problems of a node tree."""

    def __init__(self, place: str, takes_text: Callable[[str], bool]):
        self.place, self.takes_text = place, takes_text
        self.lines: Lines = {}
        self.problems: List[Problem] = []
        self.values = 0

    def problem(self, node: yaml.Node, path: str, message: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(f"{self.place}:{line}", path, message, line))

    def build(self, node: yaml.Node, path: str, above: Set[int]) -> Any:
        self.count(node, above)
        if id(node) in above:
            self.problem(node, path, "an alias that contains itself")
            return None
        if not isinstance(node, yaml.ScalarNode) and node.tag not in (TAG + "map", TAG + "seq"):
            self.problem(node, path, f'the tag "{node.tag}" is not understood here; write a plain value')
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, above | {id(node)})
        if isinstance(node, yaml.SequenceNode):
            inside = above | {id(node)}
            return [self.build(item, f"{path}[{i}]", inside) for i, item in enumerate(node.value)]
        return self.scalar(node, path)

    def count(self, node: yaml.Node, above: Set[int]) -> None:
        """One more value; an alias counts as often as it is used.

        Raises:
            TooMuch: beyond the bounds.
        """
        self.values += 1
        if self.values > MOST_VALUES or len(above) > DEEPEST:
            what = _MANY if self.values > MOST_VALUES else f"nested deeper than {DEEPEST} levels"
            raise TooMuch(None, None, f"{what} (with its aliases)", node.start_mark)

    def mapping(self, node: yaml.Node, path: str, above: Set[int]) -> Dict[str, Any]:
        result: Dict[str, Any] = {}
        merged: Dict[str, Any] = {}
        first: Dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(key_node, path, "a key must be a name, not a list or a mapping")
                continue
            if key_node.tag == TAG + "merge":
                merged.update(self.merge(value_node, path, above))
                continue
            key = key_node.value
            inner = f"{path}.{key}" if path else key
            if key in first:
                self.problem(key_node, inner, f"given twice; the first time in line {first[key]}")
                continue
            first[key] = line
            self.lines[inner] = line
            result[key] = self.build(value_node, inner, above)
        return {**merged, **result}

    def merge(self, node: yaml.Node, path: str, above: Set[int]) -> Dict[str, Any]:
        """``<<: *anchor``: the keys of one mapping, or of a list of them (the earlier wins)."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: Dict[str, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                self.problem(source, path, "<< takes an alias of a mapping")
                continue
            if id(source) in above:
                self.problem(source, path, "an alias that contains itself")
                continue
            self.count(source, above)
            result.update(self.mapping(source, path, above | {id(source)}))
        return result

    def scalar(self, node: yaml.Node, path: str) -> Any:
        kind = node.tag[len(TAG) :] if node.tag.startswith(TAG) else node.tag
        text = node.value
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind in ("int", "float") and self.takes_text(path):
                return text
            if kind == "int" and len(text) > LONGEST_NUMBER:
                self.problem(node, path, f"a number of {len(text)} digits is too long")
                return None
            if kind == "int":
                return int(text.replace("_", ""), 0 if text.lstrip("+-")[:2] in ("0x", "0o") else 10)
            if kind == "float":
                plain = text.replace("_", "").lower()
                return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
        except (KeyError, ValueError):
            self.problem(node, path, f'"{text}" is not a {kind}')
            return None
        if kind not in ("str", "merge"):
            self.problem(node, path, f'the tag "{node.tag}" is not understood here; write a plain value')
            return None
        return text

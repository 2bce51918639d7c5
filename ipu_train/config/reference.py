"""What every key of a configuration means: for a terminal, and as a page."""

from functools import lru_cache
from typing import Any, Dict, Iterable, List, Tuple

from .. import models
from .errors import ConfigError, Problem, nearest
from .files import builtin_folder, builtin_names, read_text
from .json_schema import json_schema, of_key
from .keys import BASE, BASE_HELP, Key, all_keys, key, keys_of, sections_of
from .layers import laid, read
from .printing import scalar
from .schema import CHOICES, SECTIONS

_OPTIONS = "model.options"


def explain(path: str = "") -> str:
    """The meaning of a key, of all keys of a section, or of everything for an empty path.

    Raises:
        ConfigError: there is no such key or section.
    """
    if not path:
        return "\n".join([_overview(), "", "One of them in full: ipu-train config --explain section.key"])
    if path == BASE:
        return f"{BASE}\n  {BASE_HELP}"
    if path in SECTIONS:
        return "\n".join([f"{path}: {section_words(path)}", *_rows(path)])
    if path.startswith(_OPTIONS + "."):
        return _explain_option(path)
    section, _, name = path.rpartition(".")
    found = key(section, name)
    if found is None:
        raise _unknown(path)
    return "\n".join([*_in_full(found), *(_options() if path == _OPTIONS else [])])


def _unknown(path: str) -> ConfigError:
    known = [*SECTIONS, *(found.path for found in all_keys())]
    near = nearest(path, known) or next((k for k in known if k.endswith("." + path)), None)
    hint = f"; did you mean {near}?" if near else ""
    message = f"there is no such key{hint} (`ipu-train config --explain` lists all)"
    return ConfigError([Problem(f"--explain {path}", "", message)])


def section_words(section: str) -> str:
    typed = CHOICES[section].common if section in CHOICES else sections_of(section)[""]
    return (typed.__doc__ or "").splitlines()[0]


def _overview() -> str:
    lines = [f"{BASE}: {BASE_HELP}"]
    for section in SECTIONS:
        lines += ["", f"{section}: {section_words(section)}", *_rows(section)]
    return "\n".join([*lines, "", *_rows("")])


def _rows(section: str) -> List[str]:
    keys = [found for name in keys_of(section) for found in [key(section, name)] if found is not None]
    width = max(len(found.path) for found in keys)
    return [f"  {found.path:<{width}}  {_first_sentence(found.description)}" for found in keys]


def _first_sentence(text: str) -> str:
    end = next(
        (i for i in range(len(text)) if text.startswith(". ", i) and not text[:i].endswith(" al")), None
    )
    return text if end is None else text[: end + 1]


def _in_full(found: Key) -> List[str]:
    lines = [found.path, f"  {found.description}", f"  type     {type_words(found)}"]
    readers = list(found.fields)
    if readers != [""] and len(readers) < len(CHOICES[found.section].sections):
        lines.append(f"  read by  {', '.join(readers)}")
    lines.append(f"  default  {default_words(found)}")
    used = recipes_by_value(found.path)
    for value, names in used.items():
        lines.append(f"  {'recipes' if value == next(iter(used)) else '       '}  {value}: {_some(names)}")
    return lines


def _some(names: List[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def type_words(found: Key) -> str:
    """The type, choices and bounds of a key in words."""
    if found.path in ("model.name", "model.norm"):
        return f"the name of a {'model' if found.name == 'name' else 'norm'} (`ipu-train models` lists all)"
    if found.choices:
        return "one of " + ", ".join(found.choices)
    schema = of_key(found)
    variants = schema.get("anyOf", [schema])
    words = list(dict.fromkeys(_words(variant) for variant in variants if variant != {"type": "null"}))
    takes_null = any("null: " in (field.description or "") for field in found.fields.values())
    return " or ".join([*words, *(["null"] if takes_null else [])])


def _words(schema: Dict[str, Any]) -> str:
    kind = schema.get("type")
    if "enum" in schema:
        values = schema["enum"]
        return "true or false" if values[:2] == [True, False] else " or ".join(map(scalar, values))
    if kind == "array":
        few, many = schema.get("minItems"), schema.get("maxItems")
        count = f"{few} " if few == many and few else ""
        plural = "names" if "string" in schema["items"].get("type", "") else "numbers"
        return f"a list of {count}{plural}{_bounds(schema['items'])}"
    names = {"integer": "a whole number", "number": "a number", "object": "a mapping of names to values"}
    return names.get(str(kind), "text") + _bounds(schema)


def _bounds(schema: Dict[str, Any]) -> str:
    words = (
        ("above {:g}", "exclusiveMinimum"),
        ("at least {:g}", "minimum"),
        ("below {:g}", "exclusiveMaximum"),
        ("at most {:g}", "maximum"),
    )
    found = [text.format(schema[name]) for text, name in words if schema.get(name) is not None]
    if "exclusiveMinimum" in schema and schema.get("minimum") == schema["exclusiveMinimum"]:
        del found[1]  # above 0 says more than at least 0
    return ", " + ", ".join(found) if found else ""


def default_words(found: Key) -> str:
    """The default of a key, one for each choice where they differ."""
    defaults = found.defaults
    if not defaults or (found.name == "name" and found.section in ("data", "model")):
        return "none; it must be given"
    if found.name == "name":
        return str(CHOICES[found.section].default)
    by_value: Dict[str, List[str]] = {}
    for chosen, value in defaults.items():
        by_value.setdefault(scalar(value), []).append(chosen)
    if len(by_value) == 1:
        return next(iter(by_value))
    return "; ".join(f"{value} ({', '.join(chosen)})" for value, chosen in by_value.items())


def recipes_by_value(path: str) -> Dict[str, List[str]]:
    """Value (as YAML) -> the recipes that set a key to it, themselves or through their base."""
    used: Dict[str, List[str]] = {}
    for name, values in recipe_values():
        inner: Any = values
        for part in path.split("."):
            inner = inner.get(part) if isinstance(inner, dict) else None
        if inner is not None:
            used.setdefault(scalar(inner), []).append(name)
    return dict(sorted(used.items(), key=lambda item: -len(item[1])))


@lru_cache(maxsize=1)
def recipe_values() -> List[Tuple[str, Dict[str, Any]]]:
    """Name and plain values of every recipe, its bases laid below it; defaults are not filled in."""
    found: List[Tuple[str, Dict[str, Any]]] = []
    for name in builtin_names():
        path = builtin_folder() / f"{name}.yaml"
        layers, _ = read([(path, read_text(path))])
        found.append((name, laid(layers)[0]))
    return found


def _option_names() -> Dict[str, List[str]]:
    """Option -> the models that have it."""
    having: Dict[str, List[str]] = {}
    for model in models.names():
        for option in models.option_kinds(model):
            having.setdefault(option, []).append(model)
    return having


def _options() -> Iterable[str]:
    having = _option_names()
    width = max(map(len, having))
    yield "  options, each with the models that have it"
    for option, names in having.items():
        kind = models.option_kinds(names[0])[option]
        every = "all" if len(names) == len(models.names()) else _some(names, 3)
        yield f"    {option:<{width}}  {kind.words}; {every}"


def _explain_option(path: str) -> str:
    option = path[len(_OPTIONS) + 1 :]
    having = _option_names()
    if option not in having:
        near = nearest(option, having)
        hint = f"; did you mean {_OPTIONS}.{near}?" if near else ""
        message = f"no model has such an option{hint} (options: {', '.join(having)})"
        raise ConfigError([Problem(f"--explain {path}", "", message)])
    kinds = {models.option_kinds(name)[option] for name in having[option]}
    defaults = {"the model's own" if kind.default is None else scalar(kind.default) for kind in kinds}
    lines = [path, f"  type     {next(iter(kinds)).words}", f"  default  {' or '.join(sorted(defaults))}"]
    lines += [f"  models   {', '.join(having[option])}"]
    used = recipes_by_value(path)
    return "\n".join([*lines, *(f"  recipes  {value}: {_some(names)}" for value, names in used.items())])


_HEAD = """\
# Configuration reference

<!-- Written by `python scripts/configuration_reference.py`; a test keeps it equal to the schema. -->

One YAML file is one run: sections of keys, as below. `section.key=value` after a command changes a key;
`ipu-train config --config X` prints what a file resolves to and where each value comes from, and
`ipu-train config --explain section.key` explains a key and names the recipes that set it. `null` stands for the
default. Only `model.name` and `data.name` must be given (and `data.path` for an image folder). Editors that know JSON
Schema complete and check keys while typing: `ipu-train config --json-schema` writes the schema, and the line
`# yaml-language-server: $schema=PATH` in a file names it.

`base`: """


def page() -> str:
    """All keys as a Markdown page."""
    text = _HEAD + BASE_HELP + "\n"
    for section in SECTIONS:
        text += f"\n## {section}\n\n{section_words(section)}\n"
        if section in CHOICES:
            text += "\n" + "".join(
                f"* `{name}`: {(typed.__doc__ or '').splitlines()[0]}\n"
                for name, typed in CHOICES[section].sections.items()
            )
        text += "\n" + _table(section)
    return text + "\n## Top level\n\n" + _table("")


def _table(section: str) -> str:
    rows = ["| Key | Meaning | Type | Default |", "|---|---|---|---|"]
    for name in keys_of(section):
        found = key(section, name)
        if found is None:
            continue
        readers = list(found.fields)
        some = readers != [""] and len(readers) < len(CHOICES[section].sections)
        only = f" Read by {', '.join(readers)}." if some else ""
        cells = (f"`{name}`", found.description + only, type_words(found), f"`{default_words(found)}`")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def schema_text() -> str:
    """The JSON Schema as text."""
    import json

    return json.dumps(json_schema(), indent=1) + "\n"

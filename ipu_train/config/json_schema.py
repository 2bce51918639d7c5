"""The schema of a configuration file as JSON Schema (draft 2020-12), for editors that complete and check while typing.

It knows every key, type, choice and bound; what must hold between keys is for ``ipu-train config`` to check.
"""

from typing import Any, Dict, List

from .. import models
from .keys import BASE, BASE_HELP, Key, all_keys, key, keys_of, sections_of
from .schema import CHOICES, SECTIONS

Schema = Dict[str, Any]

_NULL: Schema = {"type": "null"}
# What a validator makes a list of.
_SHORT: Dict[str, List[Schema]] = {
    "device.pipeline_splits": [{"enum": ["auto", "list"]}],
    "device.available_memory_proportion": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}],
}
_KINDS = {"bool": "boolean", "int": "integer", "float": "number", "str": "string"}


def json_schema() -> Schema:
    """The schema of a whole file; a file with a base may leave sections out."""
    properties: Dict[str, Schema] = {BASE: {"type": ["string", "null"], "description": BASE_HELP}}
    properties.update({name: _section(name) for name in SECTIONS})
    properties.update({found.name: of_key(found) for found in all_keys() if not found.section})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of ipu-train",
        "description": "One YAML file is one run; `ipu-train config --explain` explains every key.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "if": {"not": {"required": [BASE]}},
        "then": {"required": ["model", "data"]},
    }


def _section(name: str) -> Schema:
    description = CHOICES[name].common.__doc__ if name in CHOICES else sections_of(name)[""].__doc__
    properties = {k: of_key(found) for k in keys_of(name) for found in [key(name, k)] if found is not None}
    schema: Schema = {
        "description": (description or "").splitlines()[0],
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }
    if name in CHOICES:
        schema["allOf"] = [_of_choice(name, chosen) for chosen in CHOICES[name].sections]
    return schema


def _of_choice(name: str, chosen: str) -> Schema:
    """What holds where the key ``name`` has this value: other choices' keys are null, some have types of their own."""
    typed = CHOICES[name].sections[chosen]
    narrower: Dict[str, Schema] = {}
    for other in CHOICES[name].order:
        found = key(name, other)
        if found is None or other == "name":
            continue
        if other not in typed.model_fields:
            narrower[other] = _NULL
        elif len(_variants(found)) > 1:
            narrower[other] = {"anyOf": [_property(name, chosen, other), _NULL]}
    return {
        "if": {"properties": {"name": {"const": chosen}}, "required": ["name"]},
        "then": {"properties": narrower},
    }


def of_key(found: Key) -> Schema:
    """The schema of one key: its type and bounds, its description, its default where there is one for all choices."""
    variants = _variants(found)
    if found.name == "name" and found.section in CHOICES:
        variants = [{"enum": found.choices}]
    if (found.section, found.name) == ("model", "name"):
        variants = [{"enum": models.names()}]
    if (found.section, found.name) == ("model", "norm"):
        variants = [{"enum": models.norm_names()}]
    if (found.section, found.name) == ("model", "options"):
        variants = [_options()]
    variants = [*variants, *_SHORT.get(found.path, [])]
    required = found.section in ("", "model", "data") and found.field.is_required()
    if _NULL not in variants and not (required and found.name == "name"):
        variants = [*variants, _NULL]
    schema: Schema = variants[0] if len(variants) == 1 else {"anyOf": variants}
    schema = {**schema, "description": found.description}
    defaults = list(found.defaults.values())
    if defaults and all(default == defaults[0] for default in defaults) and defaults[0] is not None:
        schema["default"] = defaults[0]
    return schema


def _variants(found: Key) -> List[Schema]:
    """The different types that a key has over the choices that read it, null apart."""
    result: List[Schema] = []
    for chosen in found.fields:
        own = _property(found.section, chosen, found.name)
        for variant in own.get("anyOf", [own]):
            if variant not in result:
                result.append(variant)
    return result


_PROPERTIES: Dict[Any, Dict[str, Schema]] = {}


def _property(section: str, chosen: str, name: str) -> Schema:
    """pydantic's schema of a key, without its title, description and default."""
    if (section, chosen) not in _PROPERTIES:
        typed = sections_of(section)[chosen]
        _PROPERTIES[section, chosen] = typed.model_json_schema()["properties"]
    whole = _PROPERTIES[section, chosen][name]
    return {k: v for k, v in whole.items() if k not in ("title", "description", "default")}


def _options() -> Schema:
    kinds: Dict[str, Schema] = {}
    for model in models.names():
        for option in models.option_kinds(model).values():
            kinds[option.name] = {"type": [_KINDS[option.kind], "null"], "description": f"{option.words}."}
    return {"type": "object", "properties": kinds, "additionalProperties": False}

"""pydantic's findings -> messages that name the key, what is allowed and the nearest valid name."""

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Type

import yaml
from pydantic import BaseModel, ValidationError

from .base import PROBLEMS, Section
from .errors import suggestion
from .schema import SECTIONS, Config, complaints_between

Complaint = Tuple[str, str]


def complaints(values: Any) -> List[Complaint]:
    """Everything that is wrong with a configuration given as plain values: (dotted path, message)."""
    try:
        Config.model_validate(values)
    except ValidationError as error:
        found = list(_translate(error, Config, ""))
        if isinstance(values, Mapping):
            found += _between_valid_sections(values, found)
        return _unique(found)
    return []


def _between_valid_sections(values: Mapping[str, Any], found: List[Complaint]) -> List[Complaint]:
    """Checks between those sections that are valid: pydantic waits with them until all are."""
    wrong = {path.split(".")[0] for path, _ in found}
    valid: Dict[str, Section] = {}
    for name in SECTIONS:
        if name not in wrong:
            section = Config.model_fields[name].annotation
            valid[name] = section.model_validate(values.get(name, {}))  # type: ignore[union-attr]
    return list(complaints_between(valid))


def _unique(found: List[Complaint]) -> List[Complaint]:
    return list(dict.fromkeys(found))


def _translate(error: ValidationError, model: Type[BaseModel], prefix: str) -> Iterator[Complaint]:
    for detail in error.errors(include_url=False):
        path = _dotted(detail["loc"], prefix)
        if detail["type"] == PROBLEMS:
            for key, message in detail["ctx"]["complaints"]:
                yield f"{path}.{key}" if path else key, message
        elif detail["type"] == "extra_forbidden":
            yield path, _unknown_key(path)
        elif detail["type"] == "missing":
            yield path, _missing(path)
        else:
            yield path, _message(detail, path)


def _dotted(location: Tuple[Any, ...], prefix: str) -> str:
    text = prefix
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def field(path: str) -> Optional[Any]:
    """pydantic's description of the key ``section.key`` (or of what it holds), None for an unknown one."""
    model: Any = Config
    found = None
    for part in path.split("[")[0].split("."):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return found
        found = model.model_fields.get(part)
        if found is None:
            return None
        model = found.annotation
    return found


def keys_of(path: str) -> List[str]:
    """The valid keys of a section, or of the top level for an empty path."""
    model = Config if not path else getattr(Config.model_fields.get(path), "annotation", None)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _unknown_key(path: str) -> str:
    section, _, key = path.rpartition(".")
    names = keys_of(section)
    # A key that another section knows was most likely put in the wrong place, not misspelt.
    elsewhere = [f"{name}.{key}" for name in SECTIONS if name != section and key in keys_of(name)]
    hint = f"; {elsewhere[0]} exists" if elsewhere else suggestion(key, names)
    return f"unknown key{hint} (allowed in {section or 'a configuration'}: {', '.join(names)})"


def _missing(path: str) -> str:
    if path in SECTIONS:
        return f"the section is missing; give at least {path}.name"
    return f"is missing{_about(path)}"


def _about(path: str) -> str:
    known = field(path)
    return f" ({known.description})" if known is not None and known.description else ""


def show(value: Any) -> str:
    """A value as a user would write it, cut to a readable length."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).strip()
    except yaml.YAMLError:
        text = repr(value)
    text = text[: -len("\n...")] if text.endswith("\n...") else text
    text = '""' if text == "''" else text
    return text if len(text) <= 60 else text[:57] + "..."


_PLAIN = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list, such as [a, b]",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a section of keys, not a single value",
}
_BOUNDS = {
    "greater_than": ("gt", "must be above {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be below {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "too_short": ("min_length", "must have at least {} entries"),
    "too_long": ("max_length", "must have at most {} entries"),
}


def _message(detail: Mapping[str, Any], path: str) -> str:
    kind, value, ctx = detail["type"], detail["input"], detail.get("ctx", {})
    got = f"; got {show(value)}"
    if kind == "literal_error":
        allowed = _choices(path)
        hint = suggestion(value, allowed) if isinstance(value, str) else ""
        return f"must be one of {', '.join(allowed)}{got}{hint}"
    if kind in _PLAIN:
        what = _PLAIN[kind]
    elif kind in _BOUNDS:
        name, template = _BOUNDS[kind]
        bound = ctx[name]
        what = template.format(f"{bound:g}" if isinstance(bound, float) else bound)
    else:
        what = detail["msg"]
    if kind == "model_type" and path in SECTIONS:
        return f"{what}{got} (keys: {', '.join(keys_of(path))})"
    return f"{what}{got}{_about(path)}"


def _choices(path: str) -> List[str]:
    """The values a key may have, from the annotation of its field, through Optional and Annotated."""
    known = field(path)
    choices: List[str] = []

    def collect(annotation: Any) -> None:
        for argument in getattr(annotation, "__args__", ()):
            if isinstance(argument, bool):
                choices.append("true" if argument else "false")
            elif isinstance(argument, (str, int)):
                choices.append(str(argument))
            elif argument is type(None):
                choices.append("null")
            else:
                collect(argument)

    if known is not None:
        collect(known.annotation)
    return choices

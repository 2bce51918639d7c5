"""pydantic's findings -> messages that name the key, what is allowed and the nearest valid name."""

from typing import Any, Iterable, Iterator, List, Mapping, Tuple

import yaml
from pydantic import TypeAdapter, ValidationError

from .base import PROBLEMS
from .errors import TAKE_BACK, suggestion
from .keys import BASE, key, keys_of, split, words
from .schema import CHOICES, SECTIONS, Config, complaints_between

Complaint = Tuple[str, str]

# A file with more mistakes than this is no configuration; looking for the nearest valid names would take long.
_MOST = 200


def complaints(values: Any) -> List[Complaint]:
    """Everything that is wrong with a configuration given as plain values: (dotted path, message)."""
    try:
        Config.model_validate(values)
    except ValidationError as error:
        found = list(_translate(error))
        if isinstance(values, Mapping):
            found += _between_valid_sections(values, found)
        return _unique(found)
    return []


def _between_valid_sections(values: Mapping[str, Any], found: List[Complaint]) -> List[Complaint]:
    """Checks between those sections that are valid: pydantic waits with them until all are."""
    wrong = {path.split(".")[0] for path, _ in found}
    return list(complaints_between({n: section(n, **values.get(n, {})) for n in SECTIONS if n not in wrong}))


def section(which: str, **keys: Any) -> Any:
    """One typed section by itself: ``section("optimizer", name="adam", learning_rate=1e-3)``.

    Raises:
        pydantic.ValidationError: they do not fit.
    """
    if which in CHOICES:
        keys = CHOICES[which].prepared(keys)
        typed = CHOICES[which].chosen(keys)
        if typed is not None:
            return typed.model_validate(keys)
    adapter: TypeAdapter = TypeAdapter(Config.model_fields[which].annotation)
    return adapter.validate_python(keys)


def _unique(found: List[Complaint]) -> List[Complaint]:
    return list(dict.fromkeys(found))


def _translate(error: ValidationError) -> Iterator[Complaint]:
    details = error.errors(include_url=False)
    for detail in details[:_MOST]:
        location, chosen = _without_choice(detail["loc"])
        path = _dotted(location)
        if detail["type"] == PROBLEMS:
            for name, message in detail["ctx"]["complaints"]:
                yield f"{path}.{name}" if path else name, message
        elif detail["type"] == "extra_forbidden":
            yield path, _unknown_key(path, chosen)
        elif detail["type"] == "missing":
            yield path, _missing(path)
        elif detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
            given = detail["input"].get("name")
            yield f"{path}.name", _must_be_one_of(CHOICES[path].sections, given)
        else:
            yield path, _message(detail, path, chosen)
    if len(details) > _MOST:
        yield "", f"and {len(details) - _MOST} more mistakes; is it really a configuration of ipu-train?"


def _without_choice(location: Tuple[Any, ...]) -> Tuple[Tuple[Any, ...], str]:
    """pydantic names the choice between a section and its key: ("optimizer", "sgd", "momentum")."""
    if len(location) > 1 and location[0] in CHOICES:
        return (location[0], *location[2:]), str(location[1])
    return location, ""


def _dotted(location: Tuple[Any, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _unknown_key(path: str, chosen: str) -> str:
    head, _, name = path.rpartition(".")
    names = keys_of(head)
    if chosen and name in names:
        readers = ", ".join(CHOICES[head].readers(name))
        return f"{chosen} does not read it (only {readers}); {TAKE_BACK}"
    # A key that another section knows was most likely put in the wrong place, not misspelt.
    elsewhere = [f"{other}.{name}" for other in SECTIONS if other != head and name in keys_of(other)]
    hint = f"; {elsewhere[0]} exists" if elsewhere else suggestion(name, names)
    allowed = names if head else [BASE, *names]
    return f"unknown key{hint} (allowed in {head or 'a configuration'}: {', '.join(allowed)})"


def _missing(path: str) -> str:
    if path in SECTIONS:
        return f"the section is missing; give at least {path}.name"
    return f"is missing{_about(path)}"


def _about(path: str) -> str:
    known = key(*split(path))
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
    "model_attributes_type": "must be a section of keys, not a single value",
}
_BOUNDS = {
    "greater_than": ("gt", "must be above {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be below {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "too_short": ("min_length", "must have at least {} entries"),
    "too_long": ("max_length", "must have at most {} entries"),
}


def _must_be_one_of(allowed: Iterable[str], value: Any) -> str:
    hint = suggestion(value, allowed) if isinstance(value, str) else ""
    return f"must be one of {', '.join(allowed)}; got {show(value)}{hint}"


def _not_one_of(path: str, value: Any, chosen: str) -> str:
    """A value that is none of the words of its key; it may be a word of another choice's key."""
    known = key(*split(path))
    if known is None:
        return f"is not allowed; got {show(value)}"
    takers = [name for name, field in known.fields.items() if value in words(field.annotation)]
    message = _must_be_one_of(words(known.fields[chosen].annotation), value)
    return f"{message} ({show(value)} is for {', '.join(takers)} only)" if takers else message


def _message(detail: Mapping[str, Any], path: str, chosen: str) -> str:
    kind, value, ctx = detail["type"], detail["input"], detail.get("ctx", {})
    got = f"; got {show(value)}"
    if kind == "literal_error":
        return _not_one_of(path, value, chosen)
    if kind in _PLAIN:
        what = _PLAIN[kind]
    elif kind in _BOUNDS:
        name, template = _BOUNDS[kind]
        bound = ctx[name]
        what = template.format(f"{bound:g}" if isinstance(bound, float) else bound)
    else:
        what = detail["msg"]
    if kind in ("model_type", "model_attributes_type") and path in SECTIONS:
        return f"{what}{got} (keys: {', '.join(keys_of(path))})"
    return f"{what}{got}{_about(path)}"

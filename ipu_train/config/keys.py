"""What can be written in a configuration: every key, read from the typed sections."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Type

from pydantic.fields import FieldInfo

from .base import Section
from .schema import CHOICES, SECTIONS, Config

BASE = "base"
BASE_HELP = (
    "Another configuration that this one starts from: a file beside this one, a path, or the name of a recipe. What "
    "is written here is laid over it, key by key; lists and single values replace, null takes back."
)


class Key(NamedTuple):
    """One key of a section.

    Attributes:
        section, name: ``optimizer``, ``momentum``; an empty section for the top level.
        fields: name of each choice that reads it -> pydantic's description; one entry, "", in sections without choices.
    """

    section: str
    name: str
    fields: Dict[str, FieldInfo]

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def field(self) -> FieldInfo:
        return next(iter(self.fields.values()))

    @property
    def description(self) -> str:
        common = CHOICES[self.section].common.model_fields if self.section in CHOICES else {}
        return (common["name"] if self.name == "name" and common else self.field).description or ""

    @property
    def choices(self) -> List[str]:
        """The words the key may have, as YAML has them; empty where it takes more than a few words."""
        found: List[str] = []
        for chosen, field in self.fields.items():
            found += [chosen] if chosen and self.name == "name" else words(field.annotation)
        return list(dict.fromkeys(found))

    @property
    def defaults(self) -> Dict[str, Any]:
        """Default by choice; required keys have none."""
        return {
            chosen: field.get_default(call_default_factory=True)
            for chosen, field in self.fields.items()
            if not field.is_required()
        }


def words(annotation: Any) -> List[str]:
    """The literal values in a type, through Optional and Annotated, as YAML has them."""
    found: List[str] = []
    for argument in getattr(annotation, "__args__", ()):
        if isinstance(argument, bool):
            found.append("true" if argument else "false")
        elif isinstance(argument, (str, int)):
            found.append(str(argument))
        elif argument is type(None):
            found.append("null")
        else:
            found += words(argument)
    return [] if found == ["null"] else found


def sections_of(section: str) -> Dict[str, Type[Section]]:
    """Name of each choice of a section -> its typed section; one entry, "", in a section without choices."""
    if section in CHOICES:
        return dict(CHOICES[section].sections)
    return {"": Config if not section else Config.model_fields[section].annotation}  # type: ignore[dict-item]


def keys_of(section: str) -> List[str]:
    """The valid keys of a section, or of the top level for an empty name; none for what is no section."""
    if section in CHOICES:
        return list(CHOICES[section].order)
    if section and section not in SECTIONS:
        return []
    return list(sections_of(section)[""].model_fields)


def key(section: str, name: str) -> Optional[Key]:
    """The description of a key; None where there is none of that name."""
    if name not in keys_of(section) or (not section and name in SECTIONS):
        return None
    readers = {
        chosen: typed.model_fields[name]
        for chosen, typed in sections_of(section).items()
        if name in typed.model_fields
    }
    return Key(section, name, readers)


def all_keys() -> Iterator[Key]:
    """Every key of every section, in the order of a resolved configuration, and those of the top level."""
    for section in [*SECTIONS, ""]:
        for name in keys_of(section):
            found = key(section, name)
            if found is not None:
                yield found


def takes_text(path: str) -> bool:
    """Whether the key of a dotted path takes a path or a name, or a list of them."""
    found = key(*split(path)) if path else None
    return found is not None and any(_is_text(field.annotation) for field in found.fields.values())


def _is_text(annotation: Any) -> bool:
    if getattr(annotation, "__origin__", None) is dict:
        return False
    return annotation is str or any(_is_text(inner) for inner in getattr(annotation, "__args__", ()))


def split(path: str) -> Tuple[str, str]:
    """``optimizer.betas[0]`` -> ("optimizer", "betas"); ``run_dir`` -> ("", "run_dir")."""
    parts = path.split("[")[0].split(".")
    return ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])

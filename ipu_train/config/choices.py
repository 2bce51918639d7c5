"""Sections whose key ``name`` chooses what else can be set: an optimizer, a schedule, a source of images, an average.

Each choice is a typed section of its own, with its own defaults. Keys that only other choices read may be null, so
that an override, or a file laid over another, can take back what was set.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Type

from .base import Section


class Choice(NamedTuple):
    """The typed sections among which ``name`` chooses.

    Attributes:
        common: what the typed sections share.
        sections: by name.
        order: of all their keys, as a resolved configuration prints them.
        default: the name where none is given; None where it has to be.
    """

    common: Type[Section]
    sections: Dict[str, Type[Section]]
    order: Tuple[str, ...]
    default: Optional[str] = None

    def chosen(self, values: Any) -> Optional[Type[Section]]:
        """The typed section that plain values choose; None when they choose none that exists."""
        name = values.get("name", self.default) if isinstance(values, Mapping) else None
        return self.sections.get(name) if isinstance(name, str) else None

    def readers(self, key: str) -> List[str]:
        """Names of the choices that read a key."""
        return [name for name, section in self.sections.items() if key in section.model_fields]

    def prepared(self, values: Any) -> Any:
        """Plain values with the default name, and without the nulls of keys that only other choices read."""
        if not isinstance(values, Mapping):
            return values
        if self.default is not None and values.get("name") is None:
            values = {**values, "name": self.default}
        section = self.chosen(values)
        if section is None:
            return values
        own = section.model_fields
        return {k: v for k, v in values.items() if v is not None or k in own or not self.readers(k)}

    def whole(self, values: Dict[str, Any]) -> Dict[str, Any]:
        """A dumped section with every key of the choice, null where what is chosen does not read it."""
        return {key: values.get(key) for key in self.order}


def choice(
    order: str, common: Type[Section], *sections: Type[Section], default: Optional[str] = None
) -> Choice:
    """A choice between sections derived from ``common``, each of which has its name as the only value of ``name``."""
    by_name = {section.model_fields["name"].annotation.__args__[0]: section for section in sections}  # type: ignore
    return Choice(common, by_name, tuple(order.split()), default)

"""What the sections of the schema share."""

from typing import Any, ClassVar, Dict, Iterator, List, Mapping, Tuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Annotated, Literal

Complaint = Tuple[str, str]  # (dotted key inside the section, message)

PROBLEMS = "ipu_train_problems"  # the error type under which a section reports several problems at once


def complain(complaints: List[Complaint]) -> None:
    """Report all complaints as one validation error, which the loader takes apart again."""
    if complaints:
        text = (
            "; ".join(f"{key}: {message}" for key, message in complaints).replace("{", "(").replace("}", ")")
        )
        raise PydanticCustomError(PROBLEMS, text, {"complaints": complaints})


class Section(BaseModel):
    """One section of the YAML: unknown keys and values of other types are refused, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    # Value of ``name`` -> the keys that choice reads, with their defaults. A key of this table that the
    # chosen name does not read must stay null, so that no setting is ever ignored in silence.
    READS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def complaints(self) -> Iterator[Complaint]:
        """What is wrong between the keys of this section, each being valid by itself."""
        return iter(())

    @model_validator(mode="after")
    def _check(self) -> "Section":
        complain([*self._choose(), *self.complaints()])
        return self

    def _choose(self) -> Iterator[Complaint]:
        if not self.READS:
            return
        chosen = self.READS[self.name]  # type: ignore[attr-defined]
        for key in sorted({key for row in self.READS.values() for key in row}):
            value = getattr(self, key)
            if key in chosen:
                if value is None:
                    self.fill(key, chosen[key])
            elif value is not None:
                readers = ", ".join(name for name, row in self.READS.items() if key in row)
                yield key, f"{self.name} does not read it (only {readers}); remove it or set it to null"

    def fill(self, key: str, value: Any) -> None:
        """Put a default in the place of null, so that the resolved configuration shows what is used."""
        self.__dict__[key] = value


def _flag(value: Any) -> Any:
    words = {"yes": True, "on": True, "no": False, "off": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _auto_flag(value: Any) -> Any:
    return "auto" if isinstance(value, str) and value.lower() == "auto" else _flag(value)


def _auto_off(value: Any) -> Any:
    value = _flag(value)
    return {True: "auto", False: "off"}[value] if isinstance(value, bool) else value


def _precision(value: Any) -> Any:
    """``16.16`` without quotes is a number in YAML."""
    return f"{value:.2f}" if isinstance(value, float) else value


def _text(value: Any) -> Any:
    """A path or a name that happens to look like a number."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Flag = Annotated[bool, BeforeValidator(_flag)]
AutoFlag = Annotated[Literal["auto", True, False], BeforeValidator(_auto_flag)]
AutoOff = Annotated[Literal["auto", "off"], BeforeValidator(_auto_off)]
Precision = Annotated[Literal["32.32", "16.32", "16.16"], BeforeValidator(_precision)]
Text = Annotated[str, BeforeValidator(_text)]
FloatType = Literal["float16", "float32"]

Defaults = Dict[str, Dict[str, Any]]

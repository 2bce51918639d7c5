"""What the sections of the schema share."""

from typing import Any, Dict, Iterator, List, Mapping, Tuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import Annotated, Literal

Complaint = Tuple[str, str]  # (dotted key inside the section, message)

PROBLEMS = "ipu_train_problems"  # the error type under which a section reports several problems at once
TEXT = "ipu_train_text"  # the error type of a text that cannot be a name or a path

# Linux takes no longer path
LONGEST_TEXT = 4096


def complain(complaints: List[Complaint]) -> None:
    """Report all complaints as one validation error, which the loader takes apart again."""
    if complaints:
        text = (
            "; ".join(f"{key}: {message}" for key, message in complaints).replace("{", "(").replace("}", ")")
        )
        raise PydanticCustomError(PROBLEMS, text, {"complaints": complaints})


def takes_null(annotation: Any) -> bool:
    """Whether null is a value of its own for a key of this type."""
    return type(None) in getattr(annotation, "__args__", ())


class Section(BaseModel):
    """One section of the YAML: unknown keys and values of other types are refused, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, values: Any) -> Any:
        """A key that is null where null is no value of its own has its default: so null takes back what a base sets."""
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {
            key: value
            for key, value in values.items()
            if value is not None or key not in fields or takes_null(fields[key].annotation)
        }

    def complaints(self) -> Iterator[Complaint]:
        """What is wrong between the keys of this section, each being valid by itself."""
        return iter(())

    @model_validator(mode="after")
    def _check(self) -> "Section":
        complain(list(self.complaints()))
        return self

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


def _usable(value: str) -> str:
    """Refuse what no file system and no terminal takes: nothing at all, control characters, half characters."""
    if not value.strip():
        raise PydanticCustomError(TEXT, "must not be empty")
    if len(value) > LONGEST_TEXT:
        raise PydanticCustomError(TEXT, f"must have at most {LONGEST_TEXT} characters, and has {len(value)}")
    wrong = next((c for c in value if ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000), None)
    if wrong is not None:
        raise PydanticCustomError(TEXT, f"must not hold the character {wrong!a}")
    return value


def _json(*words: Any, kind: Any = None) -> WithJsonSchema:
    """What an editor may be told of a type whose validator takes more than the type itself."""
    schema: Dict[str, Any] = {"enum": list(words)} if words else {"type": kind}
    return WithJsonSchema(schema)


_WORDS = ("yes", "on", "no", "off")
Flag = Annotated[bool, BeforeValidator(_flag), _json(True, False, *_WORDS)]
AutoFlag = Annotated[
    Literal["auto", True, False], BeforeValidator(_auto_flag), _json("auto", True, False, *_WORDS)
]
AutoOff = Annotated[
    Literal["auto", "off"], BeforeValidator(_auto_off), _json("auto", "off", True, False, "yes", "on", "no")
]
_PRECISIONS = ("32.32", "16.32", "16.16")
Precision = Annotated[
    Literal["32.32", "16.32", "16.16"],
    BeforeValidator(_precision),
    _json(*_PRECISIONS, *map(float, _PRECISIONS)),
]
Text = Annotated[str, BeforeValidator(_text), AfterValidator(_usable), _json(kind=["string", "number"])]
FloatType = Literal["float16", "float32"]

# Bounds that no run has a reason to leave. Beyond them a typing error is likelier than a wish, and what follows is a
# machine without memory or a number that float32 cannot hold.
MOST_EPOCHS = 100_000
MOST_UPDATES = 10**9
MOST_IMAGES_AT_ONCE = 2**16  # of a micro-batch
MOST_CLASSES = 100_000  # ImageNet-21k has 21,841
LARGEST_SIDE = 4096  # pixels
LARGEST_SCALING = 2.0**40  # of a loss; float32 ends at 2^128

Epochs = Annotated[float, Field(ge=0, le=MOST_EPOCHS)]

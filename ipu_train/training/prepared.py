"""How the images of a run were prepared: kept in its checkpoints, so that a model can be used where its data is not."""

from typing import Any, Dict, List, Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Literal

from ..data import DataSource
from .checkpoint import CheckpointError


class Prepared(BaseModel):
    """What an image must become before the network sees it, and what the network's outputs mean.

    An image file is decoded to ``channels`` channels; the centre square of ``centre_share`` of its shorter side is
    resized to ``image_size`` x ``image_size`` pixels (by ``interpolation``, with ``antialias``); of each channel,
    pixel / 255, ``mean`` is subtracted and the rest divided by ``std``.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    source: str
    channels: int = Field(ge=1)
    image_size: int = Field(ge=1)
    centre_share: float = Field(gt=0, le=1)
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = "bilinear"
    antialias: bool = True
    transparency: Literal["error", "black", "white"] = "error"
    mean: List[float]
    std: List[float]
    class_names: List[str]

    @classmethod
    def of(cls, source: DataSource) -> "Prepared":
        """The preparation of a source's validation images."""
        return cls(
            source=source.name,
            channels=source.channels,
            image_size=source.image_size,
            centre_share=source.centre_share,
            interpolation=source.resizing.interpolation,
            antialias=source.resizing.antialias,
            transparency=source.transparency,
            mean=list(source.mean),
            std=list(source.std),
            class_names=list(source.class_names),
        )

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> "Prepared":
        """What :meth:`as_dict` gave, from a file.

        Raises:
            CheckpointError: something is missing or of another type.
        """
        try:
            return cls.model_validate(saved)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise CheckpointError(
                f"how the images were prepared cannot be read: {field}: {first['msg']}"
            ) from None

    def as_dict(self) -> Dict[str, Any]:
        return self.model_dump()

"""What a configuration would need and cost on IPUs, before anything runs: predictions, pipeline splits, remedies."""

from .images import Images, images_of
from .prediction import describe, predict, with_splits
from .remedies import DoesNotFit, Remedy, refuse, remedies
from .settings import settings_of

__all__ = [
    "DoesNotFit",
    "Images",
    "Remedy",
    "describe",
    "images_of",
    "predict",
    "refuse",
    "remedies",
    "settings_of",
    "with_splits",
]

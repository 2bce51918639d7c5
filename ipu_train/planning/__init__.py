"""What a configuration would need and cost on IPUs, before anything runs: predictions, pipeline splits, remedies."""

from .images import Images, images_of
from .kept import keep_plans
from .prediction import describe, predict, with_splits
from .remedies import DoesNotFit, Remedy, doubt, refuse, remedies
from .settings import question, settings_of
from .settle import check_filled
from .traces import Traces

__all__ = [
    "DoesNotFit",
    "Images",
    "Remedy",
    "Traces",
    "check_filled",
    "describe",
    "doubt",
    "images_of",
    "keep_plans",
    "predict",
    "question",
    "refuse",
    "remedies",
    "settings_of",
    "with_splits",
]

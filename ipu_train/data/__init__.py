"""Images: sources, decoding, augmentation, and an order that is a function of seed, epoch and position."""

from .datasets import IGNORED_LABEL, ImageDataset, PaddedDataset
from .errors import DataError
from .loader import loader
from .mixing import MixingDraws
from .sampler import EpochSampler
from .source import DataSource
from .sources import open_data, training_images

__all__ = [
    "IGNORED_LABEL",
    "DataError",
    "DataSource",
    "EpochSampler",
    "ImageDataset",
    "MixingDraws",
    "PaddedDataset",
    "loader",
    "open_data",
    "training_images",
]

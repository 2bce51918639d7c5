"""What the pixels of a source come from beside its files: the version of the code that makes them, and libraries."""

from typing import List

from ..config.data import DataConfig, ImageFolder
from .pixels import has_simplejpeg

# Counts the changes of what random crops, resizing and augmentations make of the same file, seed, epoch and position.
# 1: random crops resized by Pillow from the whole picture. 2: cut out, then resized by torch's kernel for bytes.
VERSION = 2


def made_by(config: DataConfig) -> str:
    """In words, for checkpoints; empty where pixels depend on nothing but the configuration and torch."""
    parts: List[str] = []
    is_folder = isinstance(config, ImageFolder)
    if is_folder:
        parts.append(f"pipeline {VERSION}")
    if is_folder or _draws_policies(config):
        import PIL

        parts.append(f"Pillow {PIL.__version__}")
    if isinstance(config, ImageFolder) and config.decoder != "pillow" and has_simplejpeg():
        import simplejpeg

        parts.append(f"simplejpeg {simplejpeg.__version__}")
    if _draws_policies(config):
        import torchvision

        parts.append(f"torchvision {torchvision.__version__}")
    return ", ".join(parts)


def _draws_policies(config: DataConfig) -> bool:
    return config.auto_augment != "none" or bool(config.color_jitter)

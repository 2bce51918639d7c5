"""Checkpoints, for programs that read or write them: ``ipu_train.checkpoint.load(folder)``."""

from .training.checkpoint import Checkpoint, CheckpointError, list_checkpoints, load, newest, save

__all__ = ["Checkpoint", "CheckpointError", "list_checkpoints", "load", "newest", "save"]

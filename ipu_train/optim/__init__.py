"""Optimizers, learning-rate schedules and averages of weights."""

from .averaging import WeightAverage, average_states, build_average
from .optimizers import base_learning_rate, build_optimizer
from .schedules import learning_rate

__all__ = [
    "WeightAverage",
    "average_states",
    "base_learning_rate",
    "build_average",
    "build_optimizer",
    "learning_rate",
]

"""Optimizers, learning-rate schedules and averages of weights."""

from .averaging import WeightAverage, average_states, build_average
from .host_update import HostUpdate, build_host_update
from .optimizers import base_learning_rate, build_optimizer
from .schedules import learning_rate, loss_scaling

__all__ = [
    "HostUpdate",
    "WeightAverage",
    "average_states",
    "base_learning_rate",
    "build_average",
    "build_host_update",
    "build_optimizer",
    "learning_rate",
    "loss_scaling",
]

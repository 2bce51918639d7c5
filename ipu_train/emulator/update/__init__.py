"""Optimizers as the device runs them: what is read from torch's, the rules, LAMB, loss scaling.

Who updates weights as a device would, without one, needs :class:`DeviceOptimizer` and :func:`snapshot` alone.
"""

from .hyper_parameters import Snapshot, snapshot
from .rules import DeviceOptimizer

__all__ = ["DeviceOptimizer", "Snapshot", "snapshot"]

"""Several processes that train one model: who they are, and what they do together. This face imports no torch."""

from .launched import Launched, LaunchError, launched
from .lost import Elsewhere, ProcessLost

__all__ = ["Elsewhere", "LaunchError", "Launched", "ProcessLost", "launched"]

"""What a run tells: metrics file, Weights & Biases, progress bar, table of results, picture."""

from .metrics import TRAIN, VALIDATION, MetricsError, MetricsFile, read_metrics
from .plot import as_written, plot_run
from .progress import Progress, counting, tell
from .table import epoch_line, results, table
from .tracker import Tracker

__all__ = [
    "TRAIN",
    "VALIDATION",
    "MetricsError",
    "MetricsFile",
    "Progress",
    "Tracker",
    "as_written",
    "counting",
    "epoch_line",
    "plot_run",
    "read_metrics",
    "results",
    "table",
    "tell",
]

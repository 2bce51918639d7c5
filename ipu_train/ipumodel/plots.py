"""Memory over the schedule, as a picture."""

from typing import TYPE_CHECKING

import numpy as np

from . import constants as k
from . import ranges
from .memory import ALWAYS_LIVE

if TYPE_CHECKING:
    from .report import IpuReport, Report


def full_bytes(report: "Report", ipu: "IpuReport") -> float:
    """Bytes over all tiles of an IPU at which its fullest tile is full: it holds more than the mean tile.

    What I/O tiles hold takes nothing of the others.
    """
    return report.computing.total_bytes / k.WORST_TILE_SHARE + ipu.memory.categories["io_tiles"]


def plot_memory(report: "Report", path: str) -> str:
    """Writes a picture of always-live and live bytes over the steps of one micro-batch; one panel an IPU."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(report.ipus), 1, figsize=(9, 2.6 * len(report.ipus) + 0.6), squeeze=False, sharey=True
    )
    error = ranges.MEMORY.ninety_per_cent_within
    band = f"error of the model: {error:.0%}"
    for ipu, axis in zip(report.ipus, axes[:, 0]):
        capacity = full_bytes(report, ipu) / 1e6
        always = sum(ipu.memory.categories[name] for name in ALWAYS_LIVE) / 1e6
        live = always + np.asarray(ipu.memory.live) / 1e6
        steps = np.arange(len(live))
        axis.fill_between(
            steps, always, live, step="mid", alpha=0.7, label="activations, gradients, temporaries"
        )
        axis.fill_between(steps, 0, always, step="mid", alpha=0.5, label="always live: weights, state, code")
        axis.axhline(capacity, color="tab:red", linewidth=1, label="capacity: the fullest tile is full")
        axis.axhspan(capacity, capacity * (1 + error), color="tab:red", alpha=0.12, linewidth=0, label=band)
        boundary = ipu.schedule.forward_steps
        if 0 < boundary < len(live):
            axis.axvline(boundary - 0.5, color="grey", linewidth=0.8, linestyle=":")
        axis.set(ylabel="MB", title=f"IPU {ipu.ipu}", xlim=(0, max(1, len(live) - 1)), ylim=(0, None))
    axes[0, 0].legend(fontsize=8, loc="upper right")
    axes[-1, 0].set_xlabel("step of the micro-batch: forward | backward (and recompute), weight update")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path

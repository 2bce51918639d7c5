"""The four power terms over depth, one line for each norm."""

from pathlib import Path
from typing import Any, List, Optional, Sequence

from .plot import as_written
from .powers import TERMS, Layer, by_norm, recorded_layers

PICTURE_FILE = "powers.png"

# Okabe and Ito's colours, told apart with every kind of colour vision.
COLOURS = ("#E69F00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#000000", "#8c6d31")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
_TITLES = {
    "squared_mean_of_means": "squared mean of instance means",
    "variance_of_means": "variance of instance means",
    "squared_mean_of_stds": "squared mean of instance deviations",
    "variance_of_stds": "variance of instance deviations",
}


def plain(axes: Any) -> None:
    axes.grid(True, color="#e3e3e3", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def draw_powers(
    path: str, layers: Sequence[Layer], title: str, predicted: Optional[Sequence[float]] = None
) -> None:
    """Two by two: a term each, over depth.

    Args:
        predicted: squared mean of means of layer norm by theory, at depths 1, 2, ...
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 7), layout="constrained")
    grid: List[Any] = list(figure.subplots(2, 2, sharex=True).flat)
    for term, axes in zip(TERMS, grid):
        for number, (norm, rows) in enumerate(by_norm(layers).items()):
            axes.plot(
                [row.depth for row in rows],
                [getattr(row, term) for row in rows],
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4 if len(rows) <= 30 else 2.5,
                linewidth=1.3,
                label=norm,
            )
        if predicted is not None and term == TERMS[0]:
            depths = range(1, len(predicted) + 1)
            axes.plot(depths, predicted, color="#555555", linestyle="--", linewidth=1, label="layer, theory")
        axes.set_title(_TITLES[term], fontsize=10)
        bottom, top = axes.get_ylim()
        axes.set_ylim(min(0.0, bottom), top + 0.04 * top)  # whole markers, also where all values are alike
        plain(axes)
    for axes in grid[2:]:
        axes.set_xlabel("norm, by depth")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = grid[0].get_legend_handles_labels()  # beside the axes, where no line runs through them
    grid[1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8, frameon=False)
    figure.suptitle(as_written(title), fontsize=11)
    figure.savefig(path, dpi=130)


def draw_run(folder: Path, title: str) -> Optional[Path]:
    """``powers.png`` in the run folder; None without lines or without matplotlib."""
    layers = recorded_layers(folder)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return None
    if not layers:
        return None
    draw_powers(str(folder / PICTURE_FILE), layers, title)
    return folder / PICTURE_FILE

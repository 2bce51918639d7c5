"""What companions do to an output, as a picture."""

from typing import Dict, List, Sequence

from ..tracking import as_written
from ..tracking.powers_picture import COLOURS, MARKERS, plain
from .companions import Dependence


def draw_dependence(path: str, points: Sequence[Dependence], title: str) -> None:
    """The share of an output's variance that its companions make, over the micro-batch size."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    series: Dict[str, List[Dependence]] = {}
    for point in points:
        series.setdefault(point.norm, []).append(point)
    for number, (norm, rows) in enumerate(series.items()):
        axes.plot(
            [row.micro_batch_size for row in rows],
            [row.relative_variance for row in rows],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=9 - min(number, 6),  # the batch-independent ones lie on top of each other
            label=norm,
        )
    sizes = sorted({point.micro_batch_size for point in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(
        0, max(0.01, 1.05 * max(point.relative_variance for point in points))
    )  # a share is never negative
    axes.set_xlabel("images in the micro-batch")
    axes.set_ylabel("variance of an output that\nthe other images make")
    axes.legend(fontsize=8, frameon=False)
    plain(axes)
    axes.set_title(as_written(title), fontsize=10)
    figure.savefig(path, dpi=130)

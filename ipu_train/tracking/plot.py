"""``curves.png``: loss and accuracy of a run, training and validation, in one picture."""

import io
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

from .. import durable
from .metrics import TRAIN, VALIDATION, PathLike, Record, read_metrics
from .progress import tell
from .table import shown

# Okabe and Ito's colours, told apart with every kind of colour vision.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#555555"
_MARKED = 60  # curves of at most so many values show each; a single value has no line
_SMOOTHED_LINES = 40  # a training curve is averaged over about its length / 40


def as_written(text: str) -> str:
    """Text that matplotlib draws as it is: a class or a run named ``$x_$`` is no formula to it, and may be no UTF-8."""
    return "\n".join(shown(line) for line in text.split("\n")).replace("$", r"\$")


def plot_run(run_dir: PathLike, title: Optional[str] = None) -> Optional[Path]:
    """Draw the metrics of a run folder.

    Args:
        run_dir: run folder with ``metrics.jsonl``.
        title: above the picture; None: the folder's name.

    Returns:
        Path of the picture; None when there is nothing to draw, or no matplotlib (said in one line).

    Raises:
        MetricsError: the metrics cannot be read.
    """
    folder = Path(run_dir)
    records = read_metrics(folder / "metrics.jsonl")
    if not any(record.get("split") in (TRAIN, VALIDATION) for record in records):
        return None
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, PercentFormatter, StrMethodFormatter
    except ImportError:
        tell("curves.png needs matplotlib; install ipu-train[plots] (the metrics are in metrics.jsonl)")
        return None
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    per_epoch = steps_per_epoch(records)
    for axes, key in ((left, "loss"), (right, "accuracy")):
        _draw(axes, records, key, per_epoch)
        axes.set_xlabel("epoch" if per_epoch else "weight update")
        axes.set_ylabel(key)
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    if _loss_axis(left) == "log":
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        left.yaxis.set_minor_locator(LogLocator(subs="auto"))
        left.yaxis.set_minor_formatter("")
    _accuracy_axis(right)
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    figure.suptitle(
        as_written(title if title is not None else folder.resolve().name), fontsize=11, color=_GREY
    )
    path, picture = folder / "curves.png", io.BytesIO()
    figure.savefig(picture, dpi=150)
    durable.write(path, picture.getvalue())
    return path


def steps_per_epoch(records: Sequence[Record]) -> Optional[float]:
    """Weight updates of an epoch, from the last validation, which ends one; None when there is none."""
    for record in reversed(records):
        if record.get("split") == VALIDATION and record.get("epoch") and record.get("step"):
            return record["step"] / record["epoch"]
    return None


def points(records: Sequence[Record], split: str, key: str) -> Tuple[List[float], List[float]]:
    """Weight updates and values of one curve; lines without the value are left out."""
    found = [
        r for r in records if r.get("split") == split and r.get(key) is not None and r.get("step") is not None
    ]
    return [r["step"] for r in found], [r[key] for r in found]


def smooth(values: Sequence[float], window: int) -> List[float]:
    """Mean over a centred window that shrinks towards both ends."""
    half = window // 2
    result = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        part = values[i - reach : i + reach + 1]
        result.append(sum(part) / len(part))
    return result


def _draw(axes: Any, records: Sequence[Record], key: str, per_epoch: Optional[float]) -> None:
    """Both curves; the legend has their last values, where they can lie on nothing."""
    # the lower curve is wider, so that it shows from under one that coincides with it
    for split, colour, width in ((TRAIN, _BLUE, 3.0), (VALIDATION, _ORANGE, 1.6)):
        steps, values = points(records, split, key)
        if not values:
            continue
        x = [step / (per_epoch or 1) for step in steps]
        window = max(1, len(values) // _SMOOTHED_LINES) if split == TRAIN else 1
        if window > 1:
            axes.plot(x, values, color=colour, alpha=0.25, linewidth=0.8)
        last = smooth(values, window)[-1] if window == 1 else sum(values[-window:]) / window
        text = f"{last:.2%}" if key == "accuracy" else f"{last:.3g}"
        marker = "o" if len(values) <= _MARKED else None
        axes.plot(
            x,
            smooth(values, window),
            color=colour,
            linewidth=width,
            marker=marker,
            markersize=2 + width,
            clip_on=False,
            label=f"{split}: {text} at the end",
        )
    if axes.lines:
        axes.legend(frameon=False, loc="best")
        _time_axis(axes)


def _time_axis(axes: Any) -> None:
    """From 0, or from the first value where most of the way there was made by another run; room at the end."""
    at = [x for line in axes.lines for x in line.get_xdata()]
    first, last = min(at), max(at)
    room = 0.04 * (last - first) or 0.5 * last or 1.0
    begins_late = len(set(at)) > 1 and first > 0.5 * last
    axes.set_xlim(first - room if begins_late else 0, last + room)


def _loss_axis(axes: Any) -> str:
    """Makes the axis logarithmic where the losses span more than a factor of ten."""
    values = [y for line in axes.lines for y in line.get_ydata()]
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
    elif values:
        axes.set_ylim(bottom=min(0, min(values)))
    return axes.get_yscale()


def _accuracy_axis(axes: Any) -> None:
    """Around the values, within 0 and 100 %, and never so close that noise looks like progress."""
    values = [y for line in axes.lines for y in line.get_ydata()]
    if values:
        room = max(0.05, 0.08 * (max(values) - min(values)))
        axes.set_ylim(max(0.0, min(values) - room), min(1.0, max(values) + room))

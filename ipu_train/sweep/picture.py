"""``sweep.png``: memory against micro-batch size for each norm under the capacity of a tile, and throughput below."""

import contextlib
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..ipumodel.ranges import MEMORY
from ..tracking import as_written, tell
from .clear_places import put_clear
from .points import series
from .records import Record, predicted
from .words import Saving, short

# Okabe and Ito's colours, told apart with every kind of colour vision; Proxy Norm's own norm has the strong one.
_COLOURS = ("#E69F00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#000000")
_GREY, _RED = "#555555", "#B3261E"
_STYLES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def prepare_to_draw() -> None:
    """Import what :func:`draw` needs, where it is there."""
    with contextlib.suppress(ImportError):
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401


def draw(
    path: Path, records: Sequence[Record], savings: Sequence[Saving] = (), subtitle: str = ""
) -> Optional[Path]:
    """Draw the points of a sweep; points that do not fit are hollow. The last of the savings is the headline.

    Returns:
        The path; None when there is nothing to draw or no matplotlib (said in one line).
    """
    usable = predicted(list(records))
    if not usable:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, NullLocator
    except ImportError:
        tell("sweep.png needs matplotlib; install ipu-train[plots] (the points are in sweep.csv)")
        return None
    figure = Figure(figsize=(9, 7.6), dpi=150, layout="constrained")
    memory, speed = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (1.7, 1)})
    styles = _styles(usable)
    for name, style in styles.items():
        members = [one for one in usable if series(one["norm"], one["settings"]) == name]
        _line(memory, members, [one["worst_tile_bytes"] / 1e3 for one in members], style)
        _line(speed, members, [one["images_per_second"] for one in members], style)
    capacity = _capacity(memory, usable)
    sizes = sorted({one["micro_batch_size"] for one in usable})
    speed.set_xscale("log", base=2)
    speed.set_xticks(sizes)
    speed.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    speed.xaxis.set_minor_locator(NullLocator())
    speed.set_xlabel("micro-batch size (gradient accumulation keeps the global batch)")
    for axes, label in ((memory, "fullest tile, kB"), (speed, "images/s")):
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(True, color="#e3e3e3", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ratio = usable[0]["total_bytes"] / max(1, usable[0]["worst_tile_bytes"])
    whole = memory.secondary_yaxis(
        "right", functions=(lambda kb: kb * ratio / 1e3, lambda mb: mb * 1e3 / ratio)
    )
    whole.set_ylabel("IPU, MB", color=_GREY)
    whole.tick_params(colors=_GREY)
    whole.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    headline, below = "Memory follows the micro-batch", subtitle
    if savings:
        headline, below = savings[-1].headline, f"{savings[-1].like_with_like}\n{subtitle}".strip()
    figure.legend(handles=_legend(styles, usable), frameon=False, loc="outside lower center", ncols=4)
    figure.suptitle(headline, fontsize=13)
    memory.set_title(as_written(below), fontsize=10, color=_GREY)
    arrow = _arrow(memory, savings[-1], usable) if savings else None
    put_clear(figure, memory, [text for text in (capacity, arrow) if text is not None])
    figure.set_layout_engine("none")  # laid out already; savefig would do it, and draw, twice more
    FigureCanvasAgg(figure).print_png(str(path))
    return path


def _styles(records: Sequence[Record]) -> Dict[str, Dict[str, Any]]:
    """Colour and marker for the norm, kind of line for the settings."""
    norms = list(dict.fromkeys(one["norm"] for one in records))
    settings = list(dict.fromkeys(repr(one["settings"]) for one in records))
    found = {}
    for one in records:
        norm, choice = norms.index(one["norm"]), settings.index(repr(one["settings"]))
        more = ", ".join(f"{path.split('.')[-1]} {value}" for path, value in one["settings"].items())
        found[series(one["norm"], one["settings"])] = {
            "color": _COLOURS[norm % len(_COLOURS)],
            "marker": _MARKERS[norm % len(_MARKERS)],
            "linestyle": _STYLES[choice % len(_STYLES)],
            "label": short(one["norm"]) + (f", {more}" if more else ""),
            # earlier norms are wider, so that a line shows from under one that coincides with it
            "linewidth": min(2 + 2 * (len(norms) - 1 - norm), 8),
            "markersize": min(7 + 2 * (len(norms) - 1 - norm), 13),
        }
    return found


def _legend(styles: Dict[str, Dict[str, Any]], records: Sequence[Record]) -> List[Any]:
    """A filled marker for each series, and what a hollow one means where there are any."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **style) for style in styles.values()]
    if not all(one["fits"] for one in records):
        hollow: Dict[str, Any] = {
            "marker": "o",
            "markersize": 8,
            "markerfacecolor": "white",
            "markeredgewidth": 1.8,
        }
        handles.append(Line2D([], [], color=_GREY, linestyle="none", label="hollow: does not fit", **hollow))
    return handles


def _line(axes: Any, members: List[Record], values: List[float], style: Dict[str, Any]) -> None:
    sizes = [one["micro_batch_size"] for one in members]
    axes.plot(sizes, values, markerfacecolor="white", markeredgewidth=1.8, **style)
    inside = [(size, value) for size, value, one in zip(sizes, values, members) if one["fits"]]
    if inside:
        axes.plot(*zip(*inside), **{**style, "linestyle": "none", "label": "_"})


def _capacity(axes: Any, records: Sequence[Record]) -> Tuple[Any, List[Any]]:
    """The line; gives its text and the places where it may stand."""
    capacity = records[0]["bytes_per_tile"] / 1e3
    error = MEMORY.ninety_per_cent_within
    axes.axhline(capacity, color=_RED, linewidth=1.6, label="_capacity")
    axes.axhspan(capacity, capacity * (1 + error), color=_RED, alpha=0.1, linewidth=0)
    sizes = [one["micro_batch_size"] for one in records]
    text = f"capacity of a tile: {capacity:,.0f} kB (shaded: the model's error, {error:.0%})"
    places = []
    for size, side in ((max(sizes), "right"), (min(sizes), "left")):
        for above in (False, True):
            for gap in (6, 24, 42):
                places.append(
                    ((size, capacity), (0, gap if above else -gap), side, "bottom" if above else "top")
                )
    return axes.annotate(
        text, (max(sizes), capacity), textcoords="offset points", xytext=(0, 0), color=_RED
    ), places


def _arrow(axes: Any, saving: Saving, records: Sequence[Record]) -> Optional[Tuple[Any, List[Any]]]:
    """From Batch Norm at the micro-batch it needs to the other norm at a small one; its text and places for it."""

    def place(end: Dict[str, Any]) -> Any:
        for one in records:
            if all(one[key] == end[key] for key in ("norm", "micro_batch_size", "total_bytes")):
                return one["micro_batch_size"], one["worst_tile_bytes"] / 1e3
        return None

    start, end = place(saving.batch_norm), place(saving.other)
    if start is None or end is None:
        return None
    axes.annotate(
        "",
        end,
        xytext=start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": _GREY,
            "linewidth": 1.4,
            "connectionstyle": "angle3,angleA=180,angleB=90",
            "shrinkA": 10,
            "shrinkB": 9,
        },
        zorder=5,
    )
    speed = saving.other["images_per_second"] / saving.batch_norm["images_per_second"]
    much = f"{saving.ratio:.1f}x less memory" if saving.ratio >= 1 else f"{1 / saving.ratio:.1f}x more memory"
    middle = (start[0] * end[0]) ** 0.5
    places = [
        ((x, start[1]), (0, gap), "center", "bottom")
        for gap in (8, 22, 36, 54, 75, 100)
        for x in (middle, (middle * end[0]) ** 0.5, end[0])
    ]
    text = f"{much}, {speed:.2f}x the images/s,\nsame global batch"
    drawn = axes.annotate(text, start, textcoords="offset points", xytext=(0, 0), color=_GREY, zorder=6)
    return drawn, places

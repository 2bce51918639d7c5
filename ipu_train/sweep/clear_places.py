"""Texts of a picture at the first place where they lie on no line, marker, arrow or other text."""

from typing import Any, List, Sequence, Tuple

import numpy as np

# (point in data coordinates, offset in points, horizontal alignment, vertical alignment)
Place = Tuple[Tuple[float, float], Tuple[float, float], str, str]

_MARGIN = 4.0  # pixels around a text that stay free
_STEPS = 400  # points looked at along a line


def put_clear(figure: Any, axes: Any, texts: Sequence[Tuple[Any, List[Place]]]) -> None:
    """Move each annotation to the first of its places that is clear, or to the one that covers least.

    Args:
        figure: it is laid out for this, so that positions are known.
        texts: annotations with ``textcoords="offset points"``, and their places; earlier ones come first.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for text, _ in texts:
        text.set_visible(False)
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()
    drawn = _drawn(axes, renderer)
    inside = axes.get_window_extent(renderer)
    for text, places in texts:
        text.set_visible(True)
        judged = []
        for position, place in enumerate(places):
            _put(text, place)
            box = text.get_window_extent(renderer).padded(_MARGIN)
            outside = not (
                inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            )
            judged.append((_covered(drawn, box) + len(drawn) * outside, position))
            if judged[-1][0] == 0:
                break
        _put(text, places[min(judged)[1]])
        drawn = np.concatenate([drawn, _grid_in(text.get_window_extent(renderer))])


def _put(text: Any, place: Place) -> None:
    text.xy, (horizontal, vertical) = place[0], place[2:]
    text.set_position(place[1])
    text.set_horizontalalignment(horizontal)
    text.set_verticalalignment(vertical)


def _covered(points: np.ndarray, box: Any) -> int:
    x, y = points.T
    return int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())


def _drawn(axes: Any, renderer: Any) -> np.ndarray:
    """[n, 2] pixels along the lines and arrows of the axes, with their widths and markers."""
    dot = renderer.points_to_pixels(1.0)
    found = [np.zeros((0, 2))]
    for line in axes.lines:
        path = line.get_transform().transform(line.get_xydata())
        thick = line.get_linewidth() * dot / 2 if line.get_linestyle() not in ("none", "None") else 0.0
        dense = _along(path) if thick else path
        found += [dense + (0, shift) for shift in (-thick, 0, thick)]
        if line.get_marker() not in ("none", "None", None, ""):
            half = line.get_markersize() * dot / 2
            found += [path + (dx, dy) for dx in (-half, 0, half) for dy in (-half, 0, half)]
    for note in axes.texts:
        arrow = getattr(note, "arrow_patch", None)
        if arrow is not None:
            outline = arrow.get_transform().transform_path(arrow.get_path())
            found.append(_along(outline.to_polygons(closed_only=False)[0]))
    return np.concatenate(found)


def _along(path: np.ndarray) -> np.ndarray:
    """Points at small distances along a polygon."""
    if len(path) < 2:
        return path
    at = np.linspace(0, len(path) - 1, _STEPS)
    return np.stack([np.interp(at, np.arange(len(path)), path[:, axis]) for axis in (0, 1)], axis=1)


def _grid_in(box: Any) -> np.ndarray:
    across = np.meshgrid(np.linspace(box.x0, box.x1, 20), np.linspace(box.y0, box.y1, 5))
    return np.stack([axis.ravel() for axis in across], axis=1)

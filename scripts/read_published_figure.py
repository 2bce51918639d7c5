"""Published training rates of EfficientNets, measured on the figure that shows them.

    python scripts/read_published_figure.py front_page.png

The figure is ``Making_EfficientNet_More_Efficient/img/front_page.png`` of github.com/graphcore/graphcore-research at
6c320fd (Masters et al. 2021, arXiv 2106.03640). Of each marker in the right panel, images per second on 16 IPUs from
its place on the logarithmic axis: a disc, and the lines to the markers before and after it, are fitted to those pixels
that are white or of the marker's colour; what lies under another series does not count. Prints one line a marker; the
rates are in ``scripts/ipumodel_networks.py``.
"""

import argparse
import sys

import numpy as np
from PIL import Image
from scipy.optimize import minimize

# Series: colour of its markers and lines, and rough places (x, y) of B0 to B5 in pixels.
SERIES = {
    "G1-GN-Native": ((72, 118, 177), ((922, 339), (859, 232), (844, 192), (781, 153), (683, 101), (602, 69))),
    "G16-GN-Native": ((227, 126, 35), ((934, 341), (884, 231), (864, 191), (820, 137), (739, 81), (635, 34))),
    "G16-LN_PN-Native": (
        (184, 43, 44),
        ((915, 319), (868, 198), (851, 169), (807, 118), (727, 69), (624, 28)),
    ),
    "G16-GN-Half": ((97, 159, 58), ((983, 418), (929, 282), (911, 230), (870, 178), (810, 110), (703, 58))),
    "G16-LN_PN-Half": (
        (136, 103, 185),
        ((974, 389), (917, 251), (898, 208), (856, 158), (796, 95), (691, 43)),
    ),
}
# Ticks of the axis: images per second and rough pixel.
TICKS = {1000: 576, 3000: 692, 10000: 819, 30000: 935}
_RADIUS, _WIDTH = 5.19, 4.2  # of markers and lines, as fitted to those that nothing hides
_WINDOW = 9


def axis(picture):
    """(slope, offset) of pixel = slope log10(images per second) + offset, from the ticks below the axis."""
    dark = (255.0 - picture[570:573].mean((0, 2))) / 255.0
    places = []
    for near in TICKS.values():
        window = np.arange(near - 4, near + 5)
        places.append(float((dark[window] * window).sum() / dark[window].sum()))
    return np.polyfit(np.log10(list(TICKS)), places, 1)


def coverage(x, y, neighbours, columns, rows):
    """How much of each pixel a marker at (x, y) and its lines cover, 0 to 1."""
    found = np.clip(_RADIUS - np.hypot(columns - x, rows - y) + 0.5, 0, 1)
    for to_x, to_y in neighbours:
        along_x, along_y = to_x - x, to_y - y
        along = ((columns - x) * along_x + (rows - y) * along_y) / (along_x**2 + along_y**2)
        along = np.clip(along, 0, 1)
        away = np.hypot(columns - x - along * along_x, rows - y - along * along_y)
        found = np.maximum(found, np.clip(_WIDTH / 2 - away + 0.5, 0, 1))
    return found


def place(picture, colour, guess, neighbours):
    """((x, y) of a marker, share of its surroundings that is visible)."""
    left, top = int(guess[0]) - _WINDOW, int(guess[1]) - _WINDOW
    rows, columns = np.mgrid[top : top + 2 * _WINDOW + 1, left : left + 2 * _WINDOW + 1]
    height, width = picture.shape[:2]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    away = picture[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)] - 255.0
    towards = np.array(colour) - 255.0
    seen = (away @ towards) / (towards @ towards)
    visible = inside & (np.linalg.norm(away - seen[..., None] * towards, axis=-1) < 25)

    def misfit(at):
        return (((coverage(*at, neighbours, columns, rows) - np.clip(seen, 0, 1)) ** 2)[visible]).sum()

    starts = [(guess[0] + dx, guess[1] + dy) for dx in (-3, -1.5, 0, 1.5, 3) for dy in (-1.5, 0, 1.5)]
    found = min((minimize(misfit, start, method="Nelder-Mead") for start in starts), key=lambda one: one.fun)
    return found.x, visible.mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure")
    options = parser.parse_args()
    picture = np.asarray(Image.open(options.figure).convert("RGB")).astype(float)
    slope, offset = axis(picture)
    for name, (colour, places) in SERIES.items():
        for size, guess in enumerate(places):
            neighbours = [places[i] for i in (size - 1, size + 1) if 0 <= i < len(places)]
            (x, _), visible = place(picture, colour, guess, neighbours)
            print(f"B{size}-{name:18s} {10 ** ((x - offset) / slope):8,.0f} images/s, {visible:.0%} visible")
    return 0


if __name__ == "__main__":
    sys.exit(main())

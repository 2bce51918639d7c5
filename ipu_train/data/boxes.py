"""Where the objects of ImageNet are: crops that miss the object are drawn again."""

import csv
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from .errors import DataError

FILE = "imagenet_2012_bounding_boxes.csv"  # its usual name, in the data set's folder
LEAST_SHARE = 0.1  # of a crop's area that the object must fill
TRIES = 10

Box = Tuple[float, float, float, float]


def read_boxes(path: Path, names: Sequence[str]) -> np.ndarray:
    """Boxes of images, float32 ``[N, 4]``: left, top, right, bottom as shares of width and height; NaN without one.

    Args:
        path: lines ``file name,left,top,right,bottom``; the first line of an image counts.
        names: paths of the images; what follows the last slash is looked up.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    found: Dict[str, Box] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row:
                    continue
                try:
                    left, top, right, bottom = (float(value) for value in row[1:])
                except ValueError:
                    if number == 1:  # a heading
                        continue
                    raise DataError(
                        f"{path}: line {number} is not a file name and four numbers; mend it, or delete the file to "
                        "train without boxes"
                    ) from None
                found.setdefault(row[0], (left, top, right, bottom))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    boxes = np.full((len(names), 4), np.nan, dtype=np.float32)
    for number, name in enumerate(names):
        box = found.get(name.replace("\\", "/").rsplit("/", 1)[-1])
        if box is not None:
            boxes[number] = box
    return boxes


def shows(box: Optional[np.ndarray], width: int, height: int, rectangle: Box) -> bool:
    """Whether the object in ``box`` (shares) fills enough of a rectangle (pixels) of an image."""
    if box is None or np.isnan(box[0]):
        return True
    left, top, right, bottom = rectangle
    across = min(right, box[2] * width) - max(left, box[0] * width)
    down = min(bottom, box[3] * height) - max(top, box[1] * height)
    area = max(across, 0.0) * max(down, 0.0)
    return bool(area >= LEAST_SHARE * (right - left) * (bottom - top))

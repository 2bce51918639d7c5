"""The confusion matrix as a picture or as a table."""

import csv
import io
from pathlib import Path

import numpy as np

from .. import durable
from ..tracking import as_written
from .evaluation import Evaluation

_NAMED, _NUMBERED = 60, 25  # classes up to which names and numbers can be read
_DARK = 0.6


def write(evaluation: Evaluation, path: Path, title: str) -> None:
    """Draw the matrix (rows: the images' classes, columns: what they were taken for), or write it as CSV."""
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["class", *evaluation.class_names])
        for name, row in zip(evaluation.class_names, evaluation.confusion.tolist()):
            writer.writerow([name, *row])
        durable.write(path, text.getvalue())
        return
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    matrix, names = evaluation.confusion, [as_written(name) for name in evaluation.class_names]
    counts = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(counts, 1)
    side = min(16.0, 3.5 + 0.42 * len(names)) if len(names) <= _NAMED else 10.0
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
    if len(names) <= _NUMBERED:
        for row, column in zip(*np.nonzero(matrix)):
            colour = "white" if shares[row, column] > _DARK else "black"
            axes.text(
                column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8
            )
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    axes.set_title(
        f"{as_written(title)}\naccuracy {evaluation.accuracy:.2%} of {evaluation.images:,} images",
        fontsize=10,
    )
    figure.colorbar(
        image, ax=axes, shrink=0.8, label="share of the class", format=PercentFormatter(1.0, decimals=0)
    )
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150, format=path.suffix.lower()[1:])
    durable.write(path, picture.getvalue())

"""What a trained network makes of images whose labels are known."""

import math
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np
import torch

from ..data import ImageDataset
from ..tracking.table import rate, table
from .program import Program

_ROWS = 30  # classes that the table shows


class Evaluation(NamedTuple):
    """Figures over a data set, each image counted once.

    Attributes:
        loss: mean cross entropy.
        accuracy, top5: share of the images whose class has the largest logit, or one of the five largest.
        images: how many.
        confusion: int64 ``[K, K]``: images of each class (row) taken for each class (column).
        class_names: of the K classes.
        images_per_second: of this pass.
    """

    loss: float
    accuracy: float
    top5: float
    images: int
    confusion: np.ndarray
    class_names: List[str]
    images_per_second: float

    def per_class(self) -> List[Dict[str, Any]]:
        """One row a class: ``class``, ``label``, ``images``, ``accuracy`` (recall), ``predicted``, ``precision``.

        Shares of nothing are None.
        """
        rows = []
        for label, name in enumerate(self.class_names):
            hits = int(self.confusion[label, label])
            own, taken = int(self.confusion[label].sum()), int(self.confusion[:, label].sum())
            rows.append(
                {
                    "class": name,
                    "label": label,
                    "images": own,
                    "accuracy": hits / own if own else None,
                    "predicted": taken,
                    "precision": hits / taken if taken else None,
                }
            )
        return rows

    def to_json(self) -> Dict[str, Any]:
        """Plain values, a loss that is no number as None.

        ``confusion`` lists (class, taken for, images) of every mistake, the most frequent first.
        """
        return {
            "accuracy": self.accuracy,
            "top5": self.top5,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "images": self.images,
            "per_class": self.per_class(),
            "confusion": [
                {"class": self.class_names[row], "predicted": self.class_names[column], "images": count}
                for row, column, count in self.mistakes()
            ],
        }

    def mistakes(self) -> List[Any]:
        """(label, predicted label, images), the most frequent first."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(wrong)
        found = [(int(r), int(c), int(wrong[r, c])) for r, c in zip(rows, columns)]
        return sorted(found, key=lambda mistake: (-mistake[2], mistake[:2]))

    def text(self) -> str:
        """Figures and a table of classes, those with the lowest accuracy first where not all are shown."""
        rows = self.per_class()
        often: Dict[int, str] = {}
        for row, column, count in self.mistakes():
            often.setdefault(row, f"{self.class_names[column]} ({count})")
        note = ""
        seen = [row for row in rows if row["images"]]
        if len(seen) > _ROWS:
            seen = sorted(seen, key=lambda row: row["accuracy"])[:_ROWS]
            note = f"\n(the {_ROWS} classes of the lowest accuracy; --json has all {len(rows)})"
        lines = [
            [
                row["class"],
                row["images"],
                _share(row["accuracy"]),
                _share(row["precision"]),
                often.get(row["label"], "-"),
            ]
            for row in seen
        ]
        head = ["class", "images", "accuracy", "precision", "most often taken for"]
        figures = (
            f"{self.images:,} images  loss {self.loss:.4f}  accuracy {self.accuracy:.2%}  top-5 {self.top5:.2%}  "
            f"({rate(self.images_per_second)} images/s)"
        )
        return f"{figures}\n\n{table(head, lines)}{note}"


def _share(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.2%}"


def evaluate(program: Program, images: ImageDataset) -> Evaluation:
    """One pass over all images, through the program that training validates with."""
    pairs: List[torch.Tensor] = []
    outputs = len(program.prepared.class_names)

    def count(logits: torch.Tensor, labels: torch.Tensor) -> None:
        nonlocal outputs
        outputs = logits.shape[1]
        pairs.append(torch.stack([labels, logits.argmax(dim=1)]))

    measured = program.measure(images, count)
    names = list(program.prepared.class_names)
    names += [f"output {label}" for label in range(len(names), outputs)]  # a classifier may have more
    confusion: np.ndarray = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, tuple(torch.cat(pairs, dim=1).numpy()), 1)
    return Evaluation(
        measured["loss"],
        measured["accuracy"],
        measured["top5"],
        int(confusion.sum()),  # without those that could not be used and were skipped
        confusion,
        names,
        measured["images_per_second"],
    )

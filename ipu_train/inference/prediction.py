"""What a trained network says of images without labels."""

import csv
import io
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import torch

from ..config import Resolved
from .errors import UseError
from .files import PreparedFiles
from .program import Program
from .trained import Trained


class Prediction(NamedTuple):
    """The classes that one image most probably shows.

    Attributes:
        image: the file.
        classes: (label, name, probability), the most probable first.
    """

    image: str
    classes: List[Tuple[int, str, float]]

    def to_json(self) -> Dict[str, Any]:
        """``image``, the best class's ``class``, ``label`` and ``probability``, and all of them in ``top``."""
        rows = [{"class": name, "label": label, "probability": p} for label, name, p in self.classes]
        return {"image": self.image, **rows[0], "top": rows}


def for_few(trained: Trained, images: int) -> Trained:
    """The same with a program that is no larger than a few images need: one replica, and a smaller micro-batch.

    Evaluation lets no image see another, so the size changes nothing but the time.
    """
    resolved = _sized(trained.resolved, images)
    return trained._replace(resolved=resolved)


def _sized(resolved: Resolved, images: int) -> Resolved:
    config = resolved.config
    size = min(config.validation_micro_batch_size, images)
    small = ["training.replicas=1", "model.norm_replicas=null", "validation.device_iterations=null"]
    if config.device.sync_pattern == "replica_and_ladder":  # which is about several replicas
        small.append("device.sync_pattern=full")
    validation = ["validation.every_epochs=1", f"validation.micro_batch_size={size}"]
    return resolved.changed([*small, *validation])


def predict(program: Program, images: PreparedFiles, most: int = 5) -> List[Prediction]:
    """The ``most`` most probable classes of every readable image, in the images' order.

    Raises:
        DataError: a file is no readable image, and ``images`` was not told to leave such out; the message names it.
    """
    names = program.prepared.class_names
    found: List[torch.Tensor] = []
    program.measure(images, lambda logits, labels: found.append(logits))
    # outputs without a class belong to none
    probabilities = torch.cat(found)[:, : len(names)].double().softmax(dim=1)
    if not bool(torch.isfinite(probabilities).all()):
        raise UseError(
            "the network's outputs are not finite: its weights, or an image, are beyond its number format"
        )
    shares, labels = probabilities.topk(min(most, len(names)), dim=1)
    unreadable = set(images.faults.indices.tolist())
    return [
        Prediction(path, [(label, names[label], share) for label, share in zip(row_labels, row_shares)])
        for index, (path, row_labels, row_shares) in enumerate(
            zip(images.paths, labels.tolist(), shares.tolist())
        )
        if index not in unreadable
    ]


def as_csv(predictions: Sequence[Prediction]) -> str:
    """One line an image: ``image``, then ``class`` and ``probability`` of the best one, ``class_2`` and so on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["image", "class", "probability"]
    for place in range(2, len(predictions[0].classes) + 1 if predictions else 2):
        head += [f"class_{place}", f"probability_{place}"]
    writer.writerow(head)
    for prediction in predictions:
        cells: List[Any] = [prediction.image]
        for _, name, share in prediction.classes:
            cells += [name, f"{share:.6g}"]
        writer.writerow(cells)
    return text.getvalue()

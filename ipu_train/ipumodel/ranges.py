"""How far predictions may be off: error ranges by kind, as recorded in ``scripts/results/ipumodel`` (a test holds them
to the records).

``validation.csv`` is made by ``scripts/ipumodel_validation.py``: layers by leaving out one family of shapes at a time,
throughput by leaving out one network at a time, and on networks that no constant was ever fitted to. No whole network's
memory is published, only which runs fitted, so the memory of a network takes the range of the bytes of layers, which it
is made of.
"""

from dataclasses import dataclass
from typing import Dict


@dataclass(frozen=True)
class Range:
    """Errors of one kind of prediction, as shares of the true value, and what they were found on."""

    median: float
    ninety_per_cent_within: float
    compared_with: str

    @property
    def text(self) -> str:
        return f"median error {self.median:.0%}, 90 % within {self.ninety_per_cent_within:.0%} ({self.compared_with})"


LAYER_CYCLES = Range(
    0.052, 0.187, "single layers, one family of shapes left out at a time; Graphcore's IPUModel, SDK 2.0"
)
LAYER_BYTES = Range(
    0.054, 0.143, "single layers, one family of shapes left out at a time; Graphcore's IPUModel, SDK 2.0"
)
MEMORY = LAYER_BYTES
THROUGHPUT = Range(
    0.062,
    0.213,
    "35 published training runs, 15 never fitted to, the others with one network left out at a time",
)


def shares() -> Dict[str, float]:
    """What nine of ten predictions for a network are within, as shares of the true value, for programs."""
    return {
        "memory_share": MEMORY.ninety_per_cent_within,
        "images_per_second_share": THROUGHPUT.ninety_per_cent_within,
    }


def sentence() -> str:
    """The ranges of a network's predictions in one line, for the foot of tables."""
    return (
        f"error of the model: memory {MEMORY.ninety_per_cent_within:.0%}, images/s "
        f"{THROUGHPUT.ninety_per_cent_within:.0%} either way (nine predictions of ten)"
    )

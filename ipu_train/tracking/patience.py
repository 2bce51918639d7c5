"""Which validation was the best, and for how many nothing was better."""

import json
import math
from typing import Any, Mapping, Optional

from .metrics import VALIDATION


def score(figures: Mapping[str, Any], metric: str) -> Optional[float]:
    """The figure that ``validation.metric`` names, turned so that higher is better; None without one, or for NaN."""
    value = figures.get(metric)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return -float(value) if metric.endswith("loss") else float(value)


class Patience:
    """Counts validations since the best one.

    Args:
        metric: what is judged by, such as ``accuracy`` or ``loss``.
        most: validations without improvement after which a run ends; None: never.
        lines: of ``metrics.jsonl``, of the run that goes on.
    """

    def __init__(self, metric: str, most: Optional[int], lines: bytes = b"") -> None:
        self.metric, self.most = metric, most
        self.best: Optional[float] = None
        self.waited = 0
        for line in lines.splitlines():
            record = json.loads(line)
            if record.get("split") == VALIDATION:
                self.see(record)

    def see(self, figures: Mapping[str, Any]) -> bool:
        """Take note of a validation; True where the run ends with it.

        One without the figure does not count: the average of the weights, say, may begin later.
        """
        if self.metric not in figures:
            return self.is_exhausted
        found = score(figures, self.metric)
        if found is not None and (self.best is None or found > self.best):
            self.best, self.waited = found, 0
        else:
            self.waited += 1
        return self.is_exhausted

    @property
    def is_exhausted(self) -> bool:
        return self.most is not None and self.waited >= self.most

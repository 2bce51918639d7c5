"""The power terms of every norm as rows, and ``powers.jsonl``: those of a run while it trains."""

import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from .. import durable
from .metrics import MetricsFile, lines_until, read_metrics

POWERS_FILE = "powers.jsonl"
# E[mu]^2, Var mu, E[sigma]^2 and Var sigma over images, of Labatie et al. 2021 (see ``models.power``)
TERMS = ("squared_mean_of_means", "variance_of_means", "squared_mean_of_stds", "variance_of_stds")


class Layer(NamedTuple):
    """The power terms of one norm's output before its affine step, averaged over its channels.

    Attributes:
        norm: as in sweeps, ``group+pn`` for group norm with Proxy Norm.
        depth: 1 for the first norm that is executed.
        name: of the module.
    """

    norm: str
    depth: int
    name: str
    squared_mean_of_means: float
    variance_of_means: float
    squared_mean_of_stds: float
    variance_of_stds: float

    @property
    def total(self) -> float:
        return sum(self[-4:])


def as_json(layers: Sequence[Layer]) -> List[Dict[str, Any]]:
    return [layer._asdict() for layer in layers]


def by_norm(layers: Sequence[Layer]) -> Dict[str, List[Layer]]:
    found: Dict[str, List[Layer]] = {}
    for layer in layers:
        found.setdefault(layer.norm, []).append(layer)
    return found


class PowerRecord:
    """``powers.jsonl`` of a run folder: every so many epochs a line with the terms of all norms, as means over the
    weight updates of that epoch.

    A line has ``epoch`` (done), ``step``, and ``layers`` as ``ipu-train inspect --json`` writes them.

    Args:
        folder: of the run.
        norm: as in sweeps.
        every_epochs: epochs between two lines; the others are not looked at.
        resume_step: weight update of the checkpoint that the run goes on from; None: a new run.
        state: of the interrupted run.
    """

    def __init__(
        self,
        folder: Path,
        norm: str,
        every_epochs: int,
        resume_step: Optional[int] = None,
        state: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self.path = folder / POWERS_FILE
        self.norm = norm
        self.every_epochs = every_epochs
        self.sums: Dict[str, List[float]] = {k: list(v) for k, v in (state or {}).get("sums", {}).items()}
        self.calls: int = (state or {}).get("calls", 0)
        self._file = MetricsFile(
            self.path, b"" if resume_step is None else lines_until(self.path, resume_step)
        )

    def is_due(self, epoch: int) -> bool:
        """Whether the epoch with that number, from 1, gets a line."""
        return epoch % self.every_epochs == 0

    def add(self, powers: Mapping[str, Sequence[Any]]) -> None:
        """The four terms of each norm, by name, in one call of the training program."""
        for name, terms in powers.items():
            sums = self.sums.setdefault(name, [0.0] * len(TERMS))
            for index, term in enumerate(terms):
                sums[index] += float(term)
        self.calls += 1

    def end_epoch(self, epoch: int, step: int) -> Dict[str, float]:
        """Write the line of an epoch; gives ``NAME/TERM`` -> value for trackers."""
        layers = [
            Layer(self.norm, depth, name, *(total / self.calls for total in sums))
            for depth, (name, sums) in enumerate(self.sums.items(), start=1)
        ]
        self.sums, self.calls = {}, 0
        rows = [
            {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
            for row in as_json(layers)
        ]
        self._file.write(epoch=epoch, step=step, layers=rows)
        return {f"{layer.name}/{term}": getattr(layer, term) for layer in layers for term in TERMS}

    def state(self) -> Dict[str, Any]:
        """What a checkpoint in the middle of an epoch needs."""
        return {"sums": {name: list(sums) for name, sums in self.sums.items()}, "calls": self.calls}

    def close(self) -> None:
        self._file.close()


def forget_after(folder: Path, step: int) -> None:
    """Cut the record of a run that goes on from a weight update without recording: what follows is trained again."""
    path = folder / POWERS_FILE
    if path.exists():
        durable.write(path, lines_until(path, step))


def recorded_layers(folder: Path) -> List[Layer]:
    """The terms of each norm of a run as means over its lines; empty without any."""
    lines = read_metrics(folder / POWERS_FILE) if (folder / POWERS_FILE).exists() else []
    result = []
    for rows in zip(*(line["layers"] for line in lines)):
        terms = [[row[term] for row in rows if row[term] is not None] for term in TERMS]
        if all(terms):
            first = rows[0]
            result.append(
                Layer(first["norm"], first["depth"], first["name"], *(sum(t) / len(t) for t in terms))
            )
    return result

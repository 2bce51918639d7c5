"""Averages of weights over a run: exponential or plain mean, of state dicts.

Everything that is a floating-point tensor is averaged, running statistics of Batch Norm included; anything
else (a counter) is taken from the newest state. Sums are kept in float32 or wider, and come back in the
weights' own type.
"""

from typing import Dict, Iterable, Mapping, Optional

import torch

from ..config import AveragingConfig
from ..config.schedule import ExponentialAverage, MeanAverage

State = Dict[str, torch.Tensor]


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to("cpu", dtype, copy=True)


def blend(average: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], share: float) -> State:
    """``average + share * (new - average)`` for each floating-point tensor; others are taken from ``new``.

    Raises:
        ValueError: the states differ in their names or shapes.
    """
    if set(average) != set(new):
        different = sorted(set(average) ^ set(new))
        raise ValueError(f"the states to average hold different names, such as {different[0]}")
    result: State = {}
    for name, old in average.items():
        tensor = new[name]
        if tensor.shape != old.shape:
            shapes = f"{tuple(tensor.shape)} in one state and {tuple(old.shape)} in another"
            raise ValueError(f"{name} has shape {shapes}")
        averaged = tensor.is_floating_point()
        result[name] = _between(old, _wide(tensor), share) if averaged else tensor.detach().clone()
    return result


def _between(old: torch.Tensor, new: torch.Tensor, share: float) -> torch.Tensor:
    found = torch.lerp(old, new, share)
    if bool(torch.isnan(found).any()):  # infinite values of a mask, which do not change
        found = torch.where(old == new, old, found)
    return found


class WeightAverage:
    """Running average over states given one after another.

    Args:
        kind: ``exponential``: each state enters with share ``1 - decay`` (the first one wholly), as Masters
        et al.
            2021 (arXiv 2106.03640) average one checkpoint an epoch with decay 0.97; ``mean``: all count
            alike.
        decay: share of the old average that is kept, for exponential.
    """

    def __init__(self, kind: str, decay: Optional[float] = None):
        if kind not in ("exponential", "mean"):
            raise ValueError(f"kind must be exponential or mean, got {kind}")
        if kind == "exponential" and (decay is None or not 0 < decay < 1):
            raise ValueError(f"an exponential average needs a decay between 0 and 1, got {decay}")
        self.kind, self.decay = kind, decay if kind == "exponential" else None
        self.count = 0
        self.average: State = {}
        self._types: Dict[str, torch.dtype] = {}

    def update(self, state: Mapping[str, torch.Tensor]) -> None:
        """Let a state enter the average. It is copied.

        Raises:
            ValueError: its names or shapes are not those of the states before.
        """
        if self.count == 0:
            self.average = {
                name: _wide(t) if t.is_floating_point() else t.detach().clone() for name, t in state.items()
            }
        else:
            share = 1 / (self.count + 1) if self.decay is None else 1 - self.decay
            self.average = blend(self.average, state, share)
        self._types = {name: tensor.dtype for name, tensor in state.items()}
        self.count += 1

    def weights(self) -> State:
        """The average as a state dict in the types of the newest state.

        Raises:
            ValueError: nothing has entered yet.
        """
        if self.count == 0:
            raise ValueError("nothing has entered the weight average yet")
        return {name: tensor.to(self._types.get(name, tensor.dtype)) for name, tensor in self.average.items()}

    def state_dict(self) -> State:
        """All that is needed to go on, as tensors: the average in its wide type, and ``count`` (int64)."""
        return {
            "count": torch.tensor(self.count),
            **{f"average.{name}": tensor.clone() for name, tensor in self.average.items()},
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from :meth:`state_dict`; types of the weights are known again after the next update."""
        self.count = int(state["count"])
        prefix = "average."
        self.average = {
            name[len(prefix) :]: tensor.clone() for name, tensor in state.items() if name.startswith(prefix)
        }
        self._types = {}


def build_average(config: AveragingConfig) -> Optional[WeightAverage]:
    """The average of a configuration's averaging section; None for none."""
    if isinstance(config, ExponentialAverage):
        return WeightAverage(config.name, config.decay)
    return WeightAverage(config.name) if isinstance(config, MeanAverage) else None


def average_states(
    states: Iterable[Mapping[str, torch.Tensor]], kind: str = "mean", decay: Optional[float] = None
) -> State:
    """Average of several checkpoints' weights, oldest first; see :class:`WeightAverage`."""
    average = WeightAverage(kind, decay)
    for state in states:
        average.update(state)
    return average.weights()

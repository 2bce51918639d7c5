"""Tensors of a compiled model that are kept under a name beside the outputs (PopTorch 3.4 user guide, "Inspecting
tensors")."""

import copy
from typing import Any, Dict, List, Optional

import torch

from .._logging import logger
from ..capture.graph import Graph
from ..enums import OutputMode
from ..inspection.ir import GRADIENT, UPDATED, slot_names
from ..poptorch_core import createError
from .batching import Batching

LOSS_SCALE = "finalLossScale"  # PopART's name of the scaling that automatic loss scaling arrived at


class Anchor:
    """One kept tensor: which it is, and which micro-batches of it."""

    def __init__(self, short_name: str, long_name: str, batching: Batching) -> None:
        self.short_name = short_name
        self.long_name = long_name
        self.batching = batching
        self.weight: Optional[str] = None  # of a gradient or an updated weight
        self.slot: Optional[int] = None
        self.of_loss_scale = False
        self.pieces: List[torch.Tensor] = []

    @property
    def of_gradient(self) -> bool:
        return self.long_name.startswith(GRADIENT)

    def keep(self, value: torch.Tensor, iteration: int, accumulation: int) -> None:
        if self.batching.keeps(iteration, accumulation):
            self.pieces.append(value.detach().clone())

    def value(self) -> torch.Tensor:
        """What the last call kept; an empty tensor when it kept nothing."""
        pieces, self.pieces = self.pieces, []
        return self.batching.join(pieces) if pieces else torch.empty(0)


def make_anchors(
    options: Any, batching: Batching, graph: Graph, weights: Dict[str, torch.Tensor]
) -> List[Anchor]:
    """The anchors that the options ask for.

    Raises:
        poptorch.Error: a tensor that the model does not have.
    """
    names = slot_names(graph) if options.anchored_tensors else {}
    anchors = []
    for short_name, (long_name, mode_is_none, mode, period) in options.anchored_tensors.items():
        own = copy.copy(batching)
        if not mode_is_none:
            own.output_mode, own.period = OutputMode(mode), period
        mode_name = own.output_mode.name
        if own.output_mode != OutputMode.Sum:  # PopTorch writes this one as it is
            mode_name = mode_name.upper()
        logger.debug("Anchor %s %s/%d", long_name, mode_name, own.period)
        anchor = Anchor(short_name, long_name, own)
        if long_name.startswith((GRADIENT, UPDATED)):
            weight = long_name[len(GRADIENT if anchor.of_gradient else UPDATED) :]
            if weight not in weights and weight.startswith("model."):
                weight = weight[len("model.") :]  # as versions before 3.0 named them
            anchor.weight = weight if weight in weights else None
        else:
            anchor.slot = names.get(long_name)
            anchor.of_loss_scale = long_name == LOSS_SCALE and options.Training.automatic_loss_scaling
        if anchor.weight is None and anchor.slot is None and not anchor.of_loss_scale:
            raise createError(
                f"Anchor tensor {long_name!r} does not exist in the model: executor.getTensorNames() lists those "
                "that do",
                "popart_exception",
            )
        anchors.append(anchor)
    return anchors

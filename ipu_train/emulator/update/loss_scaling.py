"""Automatic loss scaling (PopTorch 3.4 user guide, "Automatic loss scaling").

PopART counts, over the gradients of each update, how many elements lie above an edge close to the largest float16.
Where their share exceeds a threshold the loss scaling halves, else it doubles; ``lossScaleUpdateFactor``, which starts
at 1, is the product of these steps. PopART watches the gradients of activations, this emulator those of the weights.
"""

from typing import Any, Iterable

import torch

from ..capture.rounding import HALF_MAX

_KEY = "automaticLossScalingSettings."
LARGEST = 2.0**15  # loss scaling beyond this would overflow float16 in the loss itself


class AutomaticLossScaling:
    """Follows the size of the gradients.

    Args:
        options: PopART's settings by name; ``binEdgeLocation`` (share of the largest float16, default 0.125),
            ``thresholdUpperCountProportion`` (default 1e-7) and ``updatePeriod`` (updates, default 1) below
            ``automaticLossScalingSettings``.
    """

    def __init__(self, options: Any) -> None:
        self.edge = float(options.get(_KEY + "binEdgeLocation", 0.125)) * HALF_MAX
        self.threshold = float(options.get(_KEY + "thresholdUpperCountProportion", 1e-7))
        self.period = int(options.get(_KEY + "updatePeriod", 1))
        # updates, elements above the edge and elements since the last step; device state where it outlives an update
        self.counts = torch.zeros(3, dtype=torch.int64)

    def next_factor(self, factor: float, loss_scaling: float, gradients: Iterable[torch.Tensor]) -> float:
        """The factor after one weight update.

        Args:
            factor: the present one.
            loss_scaling: the scaling that the factor multiplies.
            gradients: of one micro-batch on average, still scaled.
        """
        above = elements = 0
        for gradient in gradients:
            # NaN counts as too large
            above += int(gradient.numel() - (gradient.abs() <= self.edge).sum())
            elements += gradient.numel()
        self.counts += torch.tensor([1, above, elements])
        updates, above, elements = self.counts.tolist()
        if updates < self.period or not elements:
            return factor
        too_large = above / elements > self.threshold
        self.counts.zero_()
        return factor / 2 if too_large else min(factor * 2, LARGEST / loss_scaling)

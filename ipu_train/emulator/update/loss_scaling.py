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
        self._updates = 0
        self._above = 0
        self._elements = 0

    def next_factor(self, factor: float, loss_scaling: float, gradients: Iterable[torch.Tensor]) -> float:
        """The factor after one weight update.

        Args:
            factor: the present one.
            loss_scaling: the scaling that the factor multiplies.
            gradients: of one micro-batch on average, still scaled.
        """
        for gradient in gradients:
            # NaN counts as too large
            self._above += int(gradient.numel() - (gradient.abs() <= self.edge).sum())
            self._elements += gradient.numel()
        self._updates += 1
        if self._updates < self.period or not self._elements:
            return factor
        too_large = self._above / self._elements > self.threshold
        self._updates = self._above = self._elements = 0
        return factor / 2 if too_large else min(factor * 2, LARGEST / loss_scaling)

"""The programs that run on the device: normalise the images, apply the network, compute the loss."""

from typing import Any, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from ..data import IGNORED_LABEL
from ..models import PowerStatistics
from .mixing import Mixing


class Normalise(nn.Module):
    """uint8 images ``[N, C, H, W]`` to the network's dtype with zero mean and unit deviation of each channel.

    Bytes travel from the host, a quarter of float32's traffic; the arithmetic is the device's.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        scale = 1.0 / (255.0 * torch.tensor(std))
        shift = -torch.tensor(mean) / torch.tensor(std)
        self.register_buffer("scale", scale.view(1, -1, 1, 1).to(dtype), persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1).to(dtype), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self.dtype) * self.scale + self.shift


def smoothed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Cross entropy of each image against ``1 - smoothing`` on its label plus ``smoothing / K`` on all K classes.

    Written out because PopTorch 3.4's cross_entropy does not read ``label_smoothing``. Masters et al. 2021 spread e
    over the K - 1 other classes (as Graphcore's public code does): the same with ``smoothing = e K / (K - 1)``.

    Args:
        logits: ``[N, K]``, any floating dtype; the loss is computed in float32.
        labels: ``[N]``.

    Returns:
        ``[N]``, float32.
    """
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    losses = F.nll_loss(log_probabilities, labels, reduction="none")
    if smoothing:
        losses = (1.0 - smoothing) * losses - smoothing * log_probabilities.mean(dim=1)
    return losses


class Overlap:
    """Marks what a program takes and returns as going over while other micro-batches are computed.

    Args:
        poptorch: the PopTorch module (or what stands in for it).
        mode: ``poptorch.OverlapMode``; None: nothing is marked.
    """

    def __init__(self, poptorch: Any, mode: Optional[Any]) -> None:
        self.poptorch, self.mode = poptorch, mode

    def inputs(self, tensors: Sequence[Optional[torch.Tensor]]) -> Sequence[Optional[torch.Tensor]]:
        if self.mode is None:
            return tensors
        return [None if t is None else self.poptorch.set_overlap_for_input(t, self.mode) for t in tensors]

    def outputs(self, tensors: Sequence[torch.Tensor]) -> Tuple[torch.Tensor, ...]:
        if self.mode is None:
            return tuple(tensors)
        return tuple(self.poptorch.set_overlap_for_output(t, self.mode) for t in tensors)


class TrainingProgram(nn.Module):
    """Returns (loss of the micro-batch, 1.0 for each image classified as its own label).

    With ``mixing`` the forward takes its coefficients as a third tensor ``[N, 6]``; with ``powers`` it returns the
    statistics of every norm as a third output. ``overlap_mode``: see :class:`Overlap`.
    """

    def __init__(
        self,
        poptorch: Any,
        normalise: Normalise,
        network: nn.Module,
        label_smoothing: float,
        mixing: Optional[Mixing] = None,
        powers: Optional[PowerStatistics] = None,
        overlap_mode: Optional[Any] = None,
    ) -> None:
        super().__init__()
        self.identity_loss = poptorch.identity_loss
        self.normalise = normalise
        self.network = network
        self.label_smoothing = label_smoothing
        self.mixing = mixing
        self.powers = powers
        self.overlap = Overlap(poptorch, overlap_mode)

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor, coefficients: Optional[torch.Tensor] = None
    ) -> Tuple[torch.Tensor, ...]:
        images, labels, coefficients = self.overlap.inputs((images, labels, coefficients))
        images = self.normalise(images)
        if self.powers is not None:
            self.powers.start()
        if self.mixing is None:
            logits = self.network(images)
            losses = smoothed_cross_entropy(logits, labels, self.label_smoothing)
        else:
            logits = self.network(self.mixing.images(images, coefficients))
            losses = sum(
                share * smoothed_cross_entropy(logits, mixed_in, self.label_smoothing)
                for mixed_in, share in self.mixing.labels(labels, coefficients)
            )
        loss = self.identity_loss(losses, "mean")
        correct = (logits.argmax(dim=1) == labels).float()
        outputs = (loss, correct) if self.powers is None else (loss, correct, self.powers.take())
        return self.overlap.outputs(outputs)


class ValidationProgram(nn.Module):
    """Returns (loss, 1.0 where correct, logits) of each image; with :data:`IGNORED_LABEL` loss and hit are 0.

    Logits, float32 ``[N, K]``, let the host look for more: they are 3 % of the bytes of an ImageNet image.
    """

    def __init__(self, normalise: Normalise, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.network(self.normalise(images))
        counted = (labels != IGNORED_LABEL).float()
        losses = smoothed_cross_entropy(logits, labels.clamp(min=0), 0.0)
        hits = (logits.argmax(dim=1) == labels).float()
        return losses * counted, hits * counted, logits.float()

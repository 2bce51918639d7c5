"""mixup and CutMix on the device, in the form of Masters et al. 2021 (arXiv 2106.03640; Graphcore's public code).

The partner of an image is its neighbour in the micro-batch: the one before it for mixup (Zhang et al. 2018), the one
two before it for CutMix (Yun et al. 2019), so that no image is mixed and cut with the same partner. CutMix takes what
mixup made. The coefficients come from the host (``data.mixing``).
"""

from typing import List, Tuple

import torch

from ..config import TrainingConfig
from ..data.mixing import BOTTOM, KEPT, LEFT, MIXUP, RIGHT, TOP


def rolled(tensor: torch.Tensor, shift: int, micro_batch_size: int) -> torch.Tensor:
    """Each entry's ``shift``-th predecessor within its micro-batch, cyclically; ``[N, ...]`` of whole micro-batches.

    The emulator may run several micro-batches as one batch: partners never come from another micro-batch.
    """
    split = tensor.reshape((-1, micro_batch_size) + tuple(tensor.shape[1:]))
    return torch.cat((split[:, -shift:], split[:, :-shift]), dim=1).reshape(tensor.shape)


class Mixing:
    """Mixes the images of each micro-batch and says which labels they then have.

    Args:
        training: ``micro_batch_size`` (at least 2), ``mixup_alpha`` and ``cutmix_lambda``.
        image_size: side of the images in pixels.
    """

    def __init__(self, training: TrainingConfig, image_size: int) -> None:
        self.micro_batch_size = training.micro_batch_size
        self.mixup, self.cutmix = training.mixup_alpha > 0, training.cutmix_lambda < 1
        self.image_size = image_size
        self.cutmix_shift = 2 if self.micro_batch_size > 2 else 1

    def _rolled(self, tensor: torch.Tensor, shift: int) -> torch.Tensor:
        return rolled(tensor, shift, self.micro_batch_size)

    def images(self, images: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Mixed images, ``[N, C, H, W]`` in their dtype; coefficients ``[N, 6]`` as of ``MixingDraws``."""
        if self.mixup:
            share = coefficients[:, MIXUP].to(images.dtype).reshape(-1, 1, 1, 1)
            images = share * images + (1.0 - share) * self._rolled(images, 1)
        if self.cutmix:
            inside = self._box(coefficients)
            images = torch.where(inside, self._rolled(images, self.cutmix_shift), images)
        return images

    def _box(self, coefficients: torch.Tensor) -> torch.Tensor:
        """True inside the box: bool ``[N, 1, H, W]``."""
        pixels = torch.arange(self.image_size, device=coefficients.device).to(coefficients.dtype)
        top, bottom, left, right = (
            coefficients[:, column].reshape(-1, 1) for column in (TOP, BOTTOM, LEFT, RIGHT)
        )
        rows = (pixels >= top) & (pixels < bottom)
        columns = (pixels >= left) & (pixels < right)
        return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)

    def labels(
        self, labels: torch.Tensor, coefficients: torch.Tensor
    ) -> List[Tuple[torch.Tensor, torch.Tensor]]:
        """Pairs of labels ``[N]`` and their share ``[N]`` (float32) in each mixed image; shares add up to 1."""
        mixed = [(labels, torch.ones_like(coefficients[:, MIXUP]))]
        if self.mixup:
            share = coefficients[:, MIXUP]
            mixed = [(labels, share), (self._rolled(labels, 1), 1.0 - share)]
        if self.cutmix:
            kept, shift = coefficients[:, KEPT], self.cutmix_shift
            mixed = [(label, kept * share) for label, share in mixed] + [
                (self._rolled(label, shift), (1.0 - kept) * self._rolled(share, shift))
                for label, share in mixed
            ]
        return mixed

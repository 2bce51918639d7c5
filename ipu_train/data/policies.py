"""Learned and random augmentations, computed by torchvision, as functions of (seed, epoch, index).

torchvision draws from torch's global generator. Here that is seeded for each image from the image's own key and put
back afterwards, so neither the number of workers nor a resume changes an image, and nobody else's numbers change.
"""

from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image

from . import keyed
from .datasets import Augment

AUTO_AUGMENT = {"autoaugment": "IMAGENET", "autoaugment_cifar10": "CIFAR10", "autoaugment_svhn": "SVHN"}
# Of torchvision, after Zhong et al. 2020 (arXiv 1708.04896): share of the image's area, and aspect ratios.
_ERASED_AREA, _ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)


class InTurn:
    """Several changes of a batch of images, one after the other."""

    def __init__(self, changes: Sequence[Augment]):
        self.changes = list(changes)

    def __call__(self, images: np.ndarray, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        for change in self.changes:
            images = change(images, epochs, indices)
        return images


class Drawn:
    """A transform of torchvision on each image of a batch, uint8 ``[N, C, H, W]`` with 1 or 3 channels.

    Args:
        transform: of PIL images, or of uint8 tensors ``[C, H, W]`` for ``on_tensors``.
        seed: of the run.
        stream: of :mod:`keyed`; different transforms draw independent numbers.
    """

    def __init__(self, transform: Callable[[Any], Any], seed: int, stream: int, on_tensors: bool = False):
        self.transform, self.seed, self.stream, self.on_tensors = transform, seed, stream, on_tensors

    def __call__(self, images: np.ndarray, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        result = np.empty_like(images)
        seeds = keyed.bits(self.seed, self.stream, epochs, indices)[:, 0] >> np.uint64(1)
        before = torch.get_rng_state()
        try:
            for image, target, seed in zip(images, result, seeds.tolist()):
                torch.default_generator.manual_seed(seed)
                target[:] = self._one(image)
        finally:
            torch.set_rng_state(before)
        return result

    def _one(self, image: np.ndarray) -> np.ndarray:
        if self.on_tensors:
            return self.transform(torch.from_numpy(image.copy())).numpy()
        grey = len(image) == 1
        picture = Image.fromarray(np.ascontiguousarray(image[0] if grey else image.transpose(1, 2, 0)))
        pixels = np.asarray(self.transform(picture))
        return pixels[None] if grey else pixels.transpose(2, 0, 1)


def policy(name: str, ops: int, magnitude: int) -> Optional[Callable[[Any], Any]]:
    """torchvision's transform for a name of ``data.auto_augment``; None for none.

    Args:
        ops, magnitude: of RandAugment: changes of one image, and their strength, 0 to 30.
    """
    if name == "none":
        return None
    from torchvision import transforms

    smooth = transforms.InterpolationMode.BILINEAR
    if name == "randaugment":
        return transforms.RandAugment(ops, magnitude, interpolation=smooth)
    if name == "trivialaugment":
        return transforms.TrivialAugmentWide(interpolation=smooth)
    return transforms.AutoAugment(
        transforms.AutoAugmentPolicy[AUTO_AUGMENT[name]],
        interpolation=smooth,
    )


def changes_of(
    policy_of_images: Optional[Callable[[Any], Any]],
    jitter: Optional[Sequence[float]],
    erasing: float,
    mean: Tuple[float, ...],
    seed: int,
) -> List[Augment]:
    """The changes that follow cropping and flipping, in the usual order.

    Args:
        policy_of_images: of :func:`policy`.
        jitter: strengths of changes of brightness, contrast, saturation and hue; None: no changes.
        erasing: probability that a rectangle of an image is erased.
        mean: of each channel, in 0..1: what an erased rectangle is filled with; the normalisation makes that 0.
        seed: of the run.
    """
    found: List[Augment] = []
    if policy_of_images is not None:
        found.append(Drawn(policy_of_images, seed, keyed.POLICY))
    if jitter is not None or erasing:
        from torchvision import transforms

        if jitter is not None:
            found.append(Drawn(transforms.ColorJitter(*jitter), seed, keyed.JITTER))
        if erasing:
            fill = [float(round(255 * value)) for value in mean]
            erase = transforms.RandomErasing(erasing, _ERASED_AREA, _ERASED_RATIO, fill)
            found.append(Drawn(erase, seed, keyed.ERASING, on_tensors=True))
    return found

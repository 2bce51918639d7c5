"""A network and images of one's own. Run it: python examples/own_network.py"""

import torch
from torch import nn

import ipu_train


@ipu_train.register_model("small", image_size=16)
def small(num_classes, in_channels, norms, *, width: int = 16):
    """Two convolutions; ``norms`` brings the norm and Proxy Norm that the configuration asks for."""
    return nn.Sequential(
        norms.convolution(in_channels, width, 3),
        norms.activated(width, "relu"),
        norms.convolution(width, 2 * width, 3, stride=2),
        norms.activated(2 * width, "relu"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_classes),
    )


@ipu_train.register_dataset("stripes", num_classes=2, image_size=16, channels=1)
def stripes(image_size, seed):
    """Training and validation images: lying and standing stripes, under noise."""
    noise = torch.randint(
        0, 128, (600, 1, image_size, image_size), generator=torch.Generator().manual_seed(seed)
    )
    lines = 127 * (torch.arange(image_size) // 2 % 2)
    images = [(n + (lines[:, None] if i % 2 else lines[None])).byte() for i, n in enumerate(noise)]
    items = [(image, i % 2) for i, image in enumerate(images)]
    return items[:500], items[500:]


if __name__ == "__main__":
    outcome = ipu_train.train(
        "quickstart",
        ["training.epochs=3", "model.options={width: 8}"],
        model=small,
        data=stripes,
    )
    print(f"accuracy {outcome.accuracy:.1%}; try: ipu-train evaluate --run {outcome.folder.path}")

"""Filter Response Normalization (Singh and Krishnan 2019, arXiv 1911.09737) and its activation, TLU."""

from typing import Optional

import torch
from torch import nn

from .norm_layers import ChannelAffine
from .proxy_norm import broadcastable


class FilterResponseNorm(ChannelAffine):
    """x / sqrt(mean_{H,W}(x^2) + eps) * weight + bias on [N, C, H, W], for each image and channel.

    No mean is subtracted. With eps fixed it needs more than one pixel: on 1x1 maps it gives the sign of x.
    Keeps for backward: its input, the normalised input, and the inverse root mean square [N, C].
    """

    def __init__(self, num_channels: int, eps: float = 1e-6, scale: bool = True, shift: bool = True):
        nn.Module.__init__(self)
        self.eps = eps
        self.set_affine(num_channels, scale, shift)

    def forward(
        self, x: torch.Tensor, weight: Optional[torch.Tensor] = None, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        weight, bias = self.affine_in(x.dtype, weight, bias)
        # A sum, as torch 2.0's mean keeps its argument for backward; of float32, as the squares of a large image add
        # up to more than float16 holds (65,504: reached by 112 x 112 pixels with a root mean square of 2.3).
        squares = (x * x).to(torch.promote_types(x.dtype, torch.float32))
        mean_square = torch.sum(squares, dim=(2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
        normalised = x * torch.rsqrt(mean_square + self.eps).to(x.dtype)
        if weight is None:
            return normalised
        return (normalised * broadcastable(weight, x.dim())).add_(broadcastable(bias, x.dim()))


class FilterResponseNormTLU(nn.Module):
    """FRN and the thresholded linear unit max(y, tau), tau [C] learnt and initially 0, on [N, C, H, W].

    Keeps for backward: what FRN keeps, and its output before the threshold.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6):
        super().__init__()
        self.norm = FilterResponseNorm(num_channels, eps)
        self.tau = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return torch.maximum(y, broadcastable(self.tau.to(y.dtype), y.dim()))

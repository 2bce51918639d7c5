"""EvoNorm (Liu et al. 2020, arXiv 2004.02967): norm and activation found together, as one layer.

Where no activation follows, the authors' code keeps the affine step alone, without statistics; so does the
factory here (``NoNorm``).
"""

import torch
from torch import nn

from .norm_layers import check_groups
from .proxy_norm import broadcastable


class EvoNormS0(nn.Module):
    """x * sigmoid(v * x) / sqrt(var_group(x) + eps) * weight + bias on [N, C, H, W]; batch-independent.

    The variance is over one image, H, W and the channels of a group. Keeps for backward: its input, the
    sigmoid and the product of both (three tensors of full size), and the inverse standard deviations.
    Raises ValueError when the groups do not divide the channels.
    """

    def __init__(self, num_channels: int, num_groups: int = 32, eps: float = 1e-5):
        super().__init__()
        check_groups(num_channels, num_groups)
        self.num_groups = num_groups
        self.eps = eps
        self.v = nn.Parameter(torch.ones(num_channels))
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c = x.shape[:2]
        v, weight, bias = (broadcastable(p.to(x.dtype), x.dim()) for p in (self.v, self.weight, self.bias))
        grouped = x.reshape(n, self.num_groups, -1)
        inverse = torch.rsqrt(torch.var(grouped, dim=2, unbiased=False) + self.eps)  # [N, groups]
        inverse = inverse.unsqueeze(2).expand(n, self.num_groups, c // self.num_groups).reshape(n, c, 1, 1)
        return (x * torch.sigmoid(v * x) * (inverse * weight)).add_(bias)


class EvoNormB0(nn.Module):
    """x / max(sqrt(var_batch(x) + eps), v * x + sqrt(var_image(x) + eps)) * weight + bias on [N, C, H, W].

    var_batch is over N, H, W (its running average in evaluation), var_image over H, W. Mixes the images of a
    batch. Keeps for backward: its input, the second argument of the maximum, the maximum and the quotient
    (four tensors of full size), and the two standard deviations.
    """

    batch_independent = False

    def __init__(self, num_channels: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.v = nn.Parameter(torch.ones(num_channels))
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, weight, bias = (broadcastable(p.to(x.dtype), x.dim()) for p in (self.v, self.weight, self.bias))
        if self.training:
            variance = torch.var(x, dim=(0, 2, 3), unbiased=False)
            with torch.no_grad():
                new = variance.detach().to(self.running_var.dtype)
                self.running_var.mul_(1 - self.momentum).add_(new * self.momentum)
        else:
            variance = self.running_var.to(x.dtype)
        of_batch = broadcastable(torch.sqrt(variance + self.eps), x.dim())
        of_image = torch.sqrt(torch.var(x, dim=(2, 3), unbiased=False, keepdim=True) + self.eps)
        return (x / torch.maximum(of_batch, v * x + of_image) * weight).add_(bias)

"""``poptorch.fps`` and ``poptorch.nearest``: the two functions of torch_cluster that PopTorch has for point clouds."""

import math
from typing import Any, List, Optional

import torch
from torch.overrides import handle_torch_function, has_torch_function

__all__ = ["fps", "nearest"]


def fps(src: torch.Tensor, ptr: List[int], ratio: float = 0.5, random_start: bool = False) -> torch.Tensor:
    """Iterative farthest point sampling: each point taken is the farthest from those taken before.

    Args:
        src: points, ``[N, F]``.
        ptr: where each point cloud begins, and the end of the last: ``[0, n1, n1 + n2, ...]``.
        ratio: share of points to take of each cloud, rounded up.
        random_start: begin with a random point of each cloud rather than its first.

    Returns:
        Indices into ``src``, cloud by cloud.
    """
    if has_torch_function((src,)):
        return handle_torch_function(fps, (src,), src, ptr, ratio, random_start)
    taken = []
    for begin, end in zip(ptr[:-1], ptr[1:]):
        points = src[begin:end].reshape(end - begin, -1)
        current = torch.zeros((), dtype=torch.long, device=src.device)
        if random_start:
            current = torch.randint(end - begin, (), device=src.device)
        distance = torch.full((end - begin,), math.inf, device=src.device, dtype=src.dtype)
        for _ in range(math.ceil((end - begin) * ratio)):
            taken.append(current + begin)
            distance = torch.minimum(distance, ((points - points[current]) ** 2).sum(1))
            current = distance.argmax()
    return torch.stack(taken)


def nearest(
    x: torch.Tensor, y: torch.Tensor, batch_x: Optional[Any] = None, batch_y: Optional[Any] = None
) -> torch.Tensor:
    """For each point of ``x`` the index of the nearest point of ``y`` in the same cloud.

    Args:
        x: ``[N, F]``.
        y: ``[M, F]``.
        batch_x, batch_y: the cloud of each point, as a list or tensor of integers; None for one cloud.

    Returns:
        ``[N]`` indices into ``y``.
    """
    tensors = [value for value in (x, y, batch_x, batch_y) if isinstance(value, torch.Tensor)]
    if has_torch_function(tensors):
        return handle_torch_function(nearest, tensors, x, y, batch_x, batch_y)
    x, y = x.reshape(x.shape[0], -1), y.reshape(y.shape[0], -1)
    distance = ((x.unsqueeze(1) - y.unsqueeze(0)) ** 2).sum(2)
    if batch_x is not None and batch_y is not None:
        cloud_x = torch.as_tensor(batch_x, device=x.device).unsqueeze(1)
        cloud_y = torch.as_tensor(batch_y, device=x.device).unsqueeze(0)
        distance = distance.masked_fill(cloud_x != cloud_y, math.inf)
    return distance.argmin(1)

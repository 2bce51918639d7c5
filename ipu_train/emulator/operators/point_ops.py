"""``poptorch.fps`` and ``poptorch.nearest``: the two functions of torch_cluster that PopTorch has for point clouds."""

import math
from typing import Any, List, Optional

import torch
from torch.overrides import handle_torch_function, has_torch_function

from .._impl import createPoptorchError

__all__ = ["fps", "nearest"]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise createPoptorchError(message)


def fps(src: torch.Tensor, ptr: List[int], ratio: float = 0.5, random_start: bool = False) -> torch.Tensor:
    """Iterative farthest point sampling: each point taken is the farthest from those taken before.

    Args:
        src: points, ``[N, F]``.
        ptr: where each point cloud begins, and the end of the last: ``[0, n1, n1 + n2, ...]``.
        ratio: share of points to take of each cloud, rounded up.
        random_start: begin with a random point of each cloud rather than its first.

    Returns:
        Indices into ``src``, cloud by cloud.

    Raises:
        poptorch.Error: arguments of other types, or a ``ptr`` without a cloud.
    """
    _check(isinstance(src, torch.Tensor), f"fps: src must be a torch.Tensor, not a {type(src).__name__}")
    _check(isinstance(ptr, list), f"fps: ptr must be a list of integers, not a {type(ptr).__name__}")
    _check(len(ptr) >= 2, f"fps: ptr must contain at least 2 elements, not {ptr}")
    _check(isinstance(ratio, float), f"fps: ratio must be a float, not {ratio!r}")
    _check(isinstance(random_start, bool), f"fps: random_start must be a bool, not {random_start!r}")
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
        batch_x, batch_y: the cloud of each point, as a sorted list or tensor of integers; None for one cloud, number 0.

    Returns:
        ``[N]`` indices into ``y``.

    Raises:
        poptorch.Error: arguments of other types or sizes; lists that are not sorted, or not of the same clouds.
    """
    for name, points in (("x", x), ("y", y)):
        _check(
            isinstance(points, torch.Tensor),
            f"nearest: {name} must be a torch.Tensor, not a {type(points).__name__}",
        )
    for name, points, clouds in (("batch_x", x, batch_x), ("batch_y", y, batch_y)):
        _check(
            clouds is None or isinstance(clouds, (list, torch.Tensor)),
            f"nearest: {name} must be a list or a torch.Tensor, not a {type(clouds).__name__}",
        )
        _check(
            clouds is None or len(clouds) in (0, len(points)),
            f"nearest: {name} must hold the cloud of each of {len(points)} points",
        )
        if isinstance(clouds, list):
            _check(clouds == sorted(clouds), f"nearest: {name} is not sorted: {clouds}")
    tensors = [value for value in (x, y, batch_x, batch_y) if isinstance(value, torch.Tensor)]
    if has_torch_function(tensors):
        return handle_torch_function(nearest, tensors, x, y, batch_x, batch_y)
    x, y = x.reshape(x.shape[0], -1), y.reshape(y.shape[0], -1)
    distance = ((x.unsqueeze(1) - y.unsqueeze(0)) ** 2).sum(2)
    given_x, given_y = (clouds is not None and len(clouds) > 0 for clouds in (batch_x, batch_y))
    if given_x or given_y:  # NearestOp.cpp: the other one is cloud 0 throughout
        batch_x = batch_x if given_x else [0] * len(x)
        batch_y = batch_y if given_y else [0] * len(y)
        if isinstance(batch_x, list) and isinstance(batch_y, list):
            _check(
                set(batch_x) == set(batch_y),
                "nearest: some clouds of batch_x do not occur in batch_y, or the other way round",
            )
        cloud_x = torch.as_tensor(batch_x, device=x.device).unsqueeze(1)
        cloud_y = torch.as_tensor(batch_y, device=x.device).unsqueeze(0)
        distance = distance.masked_fill(cloud_x != cloud_y, math.inf)
    return distance.argmin(1)

"""Why a network cannot be traced: one of the user's own may give something else than logits."""

import torch

from ..config import Resolved
from .images import Images
from .tracing import network_without_values


def check_output(resolved: Resolved, images: Images) -> None:
    """Refuse a network that gives something else than one row of logits an image; passes over all other faults.

    Raises:
        ConfigError: with both shapes.
    """
    batch = resolved.config.training.micro_batch_size
    shape = (images.channels, images.size, images.size)
    network = network_without_values(resolved, images)
    try:
        output = network(torch.zeros(batch, *shape, device="meta"))
    except Exception:  # whatever it is, the trace has met it, too
        return
    if isinstance(output, torch.Tensor) and (output.dim() != 2 or len(output) != batch):
        raise resolved.error(
            "model.name",
            f"the network's output for {batch} image(s) of {shape} has the shape {tuple(output.shape)}; ({batch}, "
            "classes) is wanted",
        )

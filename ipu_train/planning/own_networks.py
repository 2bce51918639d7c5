"""Tracing a network of the user's own: what it cannot do is said in one message, with the line of its code."""

from typing import Any, List

import torch

from ..config import Resolved
from ..ipumodel.program import Program
from ..network import build_network
from ..plugins.failures import line_of_user, reason_of
from .images import Images
from .tracing import micro_batch, network_without_values, trace_of


def traced_own(resolved: Resolved, images: Images) -> Program:
    """The training program of one micro-batch of a registered network, uncut.

    Without values first. A network whose code reads values while it is made (``torch.linspace(...).tolist()``), or that
    computes with what is on the CPU alone, is made with values and traced on fake tensors.

    Raises:
        ConfigError: it cannot be made or run, its program depends on values, or its output is no logits.
    """
    try:
        network = network_without_values(resolved, images)
        with torch.device("meta"):  # what its forward makes is to have no values either
            _check(resolved, images, _outputs(network, micro_batch(resolved, images, "meta")))
            return trace_of(resolved, network, micro_batch(resolved, images, "meta"))
    except Exception:  # whatever it is, the second attempt meets it again where it is the network's own fault
        return _traced_with_values(resolved, images)


def _traced_with_values(resolved: Resolved, images: Images) -> Program:
    network = build_network(resolved, images.classes, images.channels)
    example = micro_batch(resolved, images, "cpu")
    try:
        outputs = _outputs(network, example)
    except Exception as error:
        shape = tuple(example.shape[1:])
        message = f"the network fails on images of {shape}: {reason_of(error)}{line_of_user(error)}"
        raise resolved.error("model.name", message) from error
    _check(resolved, images, outputs)
    try:
        return trace_of(resolved, network, example)
    except Exception as error:
        raise resolved.error(
            "model.name",
            f"the network cannot be traced without values: {reason_of(error)}{line_of_user(error)}. PopTorch compiles "
            "one program for all images: what a network does may depend on shapes, and on nothing else.",
        ) from error


def _outputs(network: torch.nn.Module, example: torch.Tensor) -> List[Any]:
    """What the network gives in validation and in training."""
    with torch.no_grad():
        return [network.train(mode)(example) for mode in (False, True)]


def _check(resolved: Resolved, images: Images, outputs: List[Any]) -> None:
    """Refuse what is no row of logits an image, with a logit for each class.

    Raises:
        ConfigError: with both shapes.
    """
    batch = resolved.config.training.micro_batch_size
    given = f"the network's output for {batch} image(s) of {(images.channels, images.size, images.size)}"
    wanted = f"({batch}, classes) is wanted"
    for output in outputs:
        message = ""
        if not isinstance(output, torch.Tensor):
            message = (
                f"is a {type(output).__name__}; one tensor {wanted}, in training as in validation: return the "
                "logits of the head that classifies"
            )
        elif output.dim() != 2 or len(output) != batch:
            message = f"has the shape {tuple(output.shape)}; {wanted}"
        elif output.shape[1] < images.classes:
            message = f"has the shape {tuple(output.shape)}, and there are {images.classes} classes"
        if message:
            raise resolved.error("model.name", f"{given} {message}")

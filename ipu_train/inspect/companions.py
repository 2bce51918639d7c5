"""Batch dependence made visible: how much an image's output changes with the other images of its micro-batch."""

from typing import Any, List, NamedTuple

import numpy as np
import torch

from .. import device
from ..config import Resolved
from ..data import DataSource
from ..sweep.points import norm_of
from .errors import InspectError
from .network import compiled, prepared
from .program import LogitsProgram


class Dependence(NamedTuple):
    """What random companions do to an image's logits.

    Attributes:
        norm: as in sweeps, ``group+pn`` for group norm with Proxy Norm.
        micro_batch_size: images that meet, the one looked at among them.
        variance: of each logit over companions, averaged over logits and images.
        relative_variance: that as a share of the variance of logits over images and companions.
    """

    norm: str
    micro_batch_size: int
    variance: float
    relative_variance: float


def companions_of(images: int, size: int, looked_at: int, draws: int, seed: int) -> np.ndarray:
    """Numbers of images [looked_at * draws, size]: the first of each row is looked at, the others are random."""
    generator = np.random.default_rng(seed)
    rows: np.ndarray = np.empty((looked_at * draws, size), dtype=np.int64)
    chosen = generator.choice(images, looked_at, replace=False)
    for row in range(len(rows)):
        rows[row, 0] = chosen[row // draws]
        others = generator.choice(images - 1, size - 1, replace=False)
        rows[row, 1:] = others + (others >= rows[row, 0])  # every image but the one looked at
    return rows


def inspect_companions(
    resolved: Resolved, poptorch: Any, source: DataSource, size: int, looked_at: int, draws: int
) -> Dependence:
    """The dependence of a configuration's network at its micro-batch size, as it trains.

    Raises:
        InspectError: fewer training images than a micro-batch and the images to look at need.
    """
    config = resolved.config
    if len(source.train) < max(size, looked_at):
        raise InspectError(
            f"there are {len(source.train)} training images; {max(size, looked_at)} are needed"
        )
    network, normalise = prepared(resolved, poptorch, source)
    rows = companions_of(len(source.train), size, looked_at, draws, config.training.seed)
    per_call = config.ipus_per_replica * config.training.replicas
    calls = -(-len(rows) // per_call)
    filled = rows[np.arange(calls * per_call) % len(rows)]
    program, options = LogitsProgram(network, normalise), device.inspection_options(poptorch, config)
    model = compiled(poptorch, program, options, source, per_call * size)
    logits: List[torch.Tensor] = []
    for call in range(calls):
        keys = [(0, int(index)) for index in filled[call * per_call : (call + 1) * per_call].reshape(-1)]
        images, _ = source.train.batch(keys)
        logits.append(model(images).double().reshape(per_call, size, -1)[:, 0])
    outputs = torch.cat(logits)[: len(rows)].reshape(looked_at, draws, -1)
    return _dependence(norm_of(resolved), size, outputs)


def _dependence(norm: str, size: int, outputs: torch.Tensor) -> Dependence:
    """From logits [images, draws, classes] in float64; equal logits have a variance of exactly zero."""
    centred = (
        outputs - outputs[:, :1]
    )  # of numbers that are equal the mean may round, their difference does not
    within = centred.var(1, unbiased=True).mean()
    across = outputs.mean(1).var(0, unbiased=True).mean() if len(outputs) > 1 else torch.zeros(())
    total = float(within + across)
    return Dependence(norm, size, float(within), float(within) / total if total else 0.0)

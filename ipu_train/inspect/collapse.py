"""How fast layer norm's channels collapse to constants in the random networks, to a known accuracy."""

import math
from typing import Any, List, NamedTuple, Optional

from ..tracking.powers import Layer
from .random_net import inspect_random_net, unbiased_collapse
from .settings import RandomNetSettings
from .theory import Rate, estimated_rate

WANTED_ERROR = 0.0033  # a third of what theory is off by at most before something is wrong
MORE_NETWORKS = 24  # at most
_IMAGES, _IMAGE_SIZE = 8, 3  # of these networks: their cost is then that of drawing their weights


class Collapse(NamedTuple):
    """The estimate, None where no channel comes near collapse, and the networks that it is of."""

    rate: Optional[Rate]
    networks: int


def measured_collapse(poptorch: Any, settings: RandomNetSettings, networks: List[List[Layer]]) -> Collapse:
    """rho from the layers of random networks, and of as many more (seeds go on) as its standard error asks for.

    Args:
        networks: with layer norm, made with ``settings``.
    """
    spreads = (settings.activation, settings.gamma_std, settings.beta_std, settings.width)
    collapses = [unbiased_collapse(rows, settings.images) for rows in networks]
    rate = estimated_rate(collapses, *spreads)
    if rate is None:
        return Collapse(None, len(networks))
    needed = math.ceil(len(networks) * (rate.error / WANTED_ERROR) ** 2)
    more = min(needed - len(networks), MORE_NETWORKS)
    if more > 0:
        small = settings._replace(
            seed=settings.seed + settings.networks,
            networks=more,
            images=_IMAGES,
            image_size=min(_IMAGE_SIZE, settings.image_size),
            micro_batch_size=None,
        )
        found = inspect_random_net(poptorch, "layer", small)
        collapses += [unbiased_collapse(rows, small.images) for rows in found]
    return Collapse(estimated_rate(collapses, *spreads), len(collapses))

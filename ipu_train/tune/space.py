"""What a search is over. No torch in here."""

from typing import NamedTuple, Optional

from ..config import Resolved
from .errors import TuneError


class Space(NamedTuple):
    """What is searched.

    Attributes:
        base: the configuration.
        headroom: share of tile memory to leave free.
        total_ipus: IPUs in all; None: free.
        batch_independent: whether the network trains alike at any micro-batch.
    """

    base: Resolved
    headroom: float
    total_ipus: Optional[int] = None
    batch_independent: bool = True


def replicas_for(space: Space, ipus: int) -> int:
    """Replicas of so many IPUs each: the configuration's, or as many as the IPUs in all make.

    Raises:
        TuneError: they do not divide.
    """
    if space.total_ipus is None:
        return space.base.config.training.replicas
    if space.total_ipus < 1:
        raise TuneError(f"--total-ipus: must be at least 1, got {space.total_ipus}")
    if space.total_ipus % ipus:
        raise TuneError(
            f"--total-ipus {space.total_ipus} is no multiple of {ipus} IPUs a replica; change --ipus"
        )
    return space.total_ipus // ipus

"""Host processes that read and augment images: how many an instance needs, from what one of them delivers."""

import math
from dataclasses import dataclass
from typing import Optional

from ..config import Resolved
from .shape import Shape

RESERVE = 1.15  # so that a slow moment of the file system does not stop the IPUs
_SECONDS = 1.5


@dataclass(frozen=True)
class Workers:
    """Workers of each instance and how they were found.

    Attributes:
        count: of each instance.
        delivered, wanted: images per second of all instances that they give, and that the IPUs are predicted to take;
            None where they are not known.
        how: in words.
    """

    count: int  # type: ignore[assignment]  # tuples have a method of that name
    delivered: Optional[float]
    wanted: Optional[float]
    how: str

    @property
    def too_slow(self) -> bool:
        return self.delivered is not None and self.wanted is not None and self.delivered < self.wanted


def measured_rate(resolved: Resolved) -> Optional[float]:
    """Images per second that one process reads and augments here; None where the images are not on this machine.

    By the processor's time, as ``ipu-train data bench`` measures it: what else runs here does not count.
    """
    from ..data import DataError, open_data
    from ..data.bench import measure

    config = resolved.config
    try:
        images = open_data(config.data, config.training.seed, progress=False).train
        return measure(images, _SECONDS, rounds=3).images_per_second
    except (DataError, OSError):
        return None


def workers_for(
    shape: Shape, wanted: float, rate: Optional[float], cores_per_host: int, configured: int, given: bool
) -> Workers:
    """How many workers feed the IPUs of an instance.

    Args:
        shape: how the training is shared out.
        wanted: images per second that all IPUs are predicted to take.
        rate: of one worker; None: unknown.
        cores_per_host: of each host; an instance keeps one for itself.
        configured: ``data.workers``, what is used where the rate is not known.
        given: whether the rate was given, not measured here.
    """
    if rate is None:
        return Workers(
            configured,
            None,
            wanted,
            "data.workers as configured: the images are not on this machine, so no rate could be measured "
            "(--images-per-worker gives one)",
        )
    needed = max(1, math.ceil(RESERVE * wanted / shape.instances / rate))
    most = max(1, cores_per_host // shape.instances_per_host - 1)
    count = min(needed, most)
    how = f"a worker delivers {rate:,.0f} images/s ({'as given' if given else 'measured here'})"
    if needed > most:
        how += f"; {needed} would be needed, and {cores_per_host} cores a host leave {most} for each instance"
    return Workers(count, count * rate * shape.instances, wanted, how)

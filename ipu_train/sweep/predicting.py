"""One question to the IPU model: what a configuration costs, as plain numbers."""

from typing import Any, Callable, Dict, NamedTuple, Optional

from ..config import Resolved
from ..planning import predict
from ..planning.traces import Traces
from .content import Kept, key_of

_EVEN = (4, 8, 16)  # multiples of these share out evenly among tiles


class Answer(NamedTuple):
    """A prediction (``Report.to_json``) or, in its place, why there is none."""

    report: Optional[Dict[str, Any]]
    error: str = ""


class Oracle:
    """Predicts configurations; traces and kept predictions are shared between them.

    Args:
        kept: predictions of this sweep and of earlier ones.
        traces: of the networks, where they are traced already.
    """

    def __init__(self, kept: Kept, traces: Optional[Traces] = None) -> None:
        self.kept = kept
        self.traces = traces or Traces()

    def __call__(self, resolved: Resolved) -> Answer:
        key = key_of(resolved)
        report = self.kept.get(key)
        if report is None:
            try:
                report = predict(resolved, traces=self.traces).to_json()
            except ValueError as error:
                return Answer(None, str(error))
            self.kept.put(key, report)
        return Answer(report)


def largest_micro_batch(fits: Callable[[int], float], most: int, known: Dict[int, float]) -> Dict[int, float]:
    """Ask for the largest micro-batch size that fits: certain where memory grows with the micro-batch.

    A bisection that looks where the straight line through the two nearest known sizes meets the limit, since memory is
    nearly affine in the micro-batch; it halves the interval where that does not help. Sizes that share out evenly among
    tiles may need less than somewhat smaller ones: the next of them are looked at before it ends.

    Args:
        fits: micro-batch size -> share of the worst tile's memory that is used; at most 1 fits.
        most: largest size of interest.
        known: shares that are known already.

    Returns:
        All shares known in the end: the largest size with at most 1 is the answer (none: not even 1 fits), and the
        next size, where it is at most ``most``, is among them with more than 1.
    """
    known = {size: share for size, share in known.items() if size <= most}
    turn = 0
    while True:
        low = max((size for size, share in known.items() if share <= 1), default=0)
        high = min((size for size, share in known.items() if share > 1 and size > low), default=most + 1)
        if high - low <= 1:
            beyond = _beyond(known, low, most)
            if beyond is None:
                return known
            known[beyond] = fits(beyond)
            continue
        size = _guess(known, low, high, most) if turn % 3 < 2 else (low + high) // 2
        size = min(max(size, low + 1), high - 1)
        known[size] = fits(size)
        turn += 1


def _beyond(known: Dict[int, float], low: int, most: int) -> Optional[int]:
    """An even size not far above the first one that does not fit, still to be looked at; None for none."""
    near = {(low + 1) // step * step + step for step in _EVEN}
    return min(
        (size for size in near if 3 * size <= 4 * low and size <= most and size not in known), default=None
    )


def _guess(known: Dict[int, float], low: int, high: int, most: int) -> int:
    """Where the line through two known sizes, on both sides of the limit if there are such, reaches it."""
    if low == 0 and high > most:
        return 1
    if high > most:  # all fit so far: extrapolate, or go up fourfold
        below = [size for size in known if size < low]
        if not below:
            return low * 4
        first, second = max(below), low
    elif low == 0:
        return 1
    else:
        first, second = low, high
    slope = (known[second] - known[first]) / (second - first)
    if slope <= 0:
        return high - 1
    reach = first + (1 - known[first]) / slope
    # the line is good to a fraction of a size where both ends are near: look at the two sizes around it
    size = int(reach)
    return size + 1 if size <= low else size

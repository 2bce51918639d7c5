"""The search dealt out to processes: one micro-batch size to each at a time, then one set of best choices."""

from typing import Any, Dict, List, Optional, Sequence

from ..config import ConfigError
from ..planning.workers import Workers
from .search import Choice, at_size, rising_sizes, to_vary, varied
from .space import Space


def search(workers: Workers, space: Space, ipus: Sequence[int], bar: Any) -> List[Choice]:
    """All choices on these numbers of IPUs a replica, fitting or not; the same ones for any number of processes.

    Args:
        workers: their state is a ``Traces``.
        bar: its ``update`` is called for each size looked at.

    Raises:
        ConfigError: the configuration allows none of them.
    """
    refused: Optional[ConfigError] = None
    found: Dict[int, List[Choice]] = {count: [] for count in ipus}
    rising = {count: rising_sizes(space, count) for count in ipus}
    sizes = sorted({size for of_count in rising.values() for size in of_count})
    while sizes:
        # some processes may look at sizes after the last one that is needed: it is what they have time for
        now, sizes = sizes[: workers.count], sizes[workers.count :]
        jobs = [(size, (space, size, [count for count in rising if size in rising[count]])) for size in now]
        done = {}
        for size, there in workers.run(at_size, jobs):
            done[size] = there.choices
            refused = refused or there.refused
            bar.update()
        for size in now:
            for count in list(rising):
                here = done[size].get(count)
                if here is None:
                    continue
                found[count] += here
                if not any(one.near for one in here):
                    del rising[count]
        sizes = [size for size in sizes if any(size in of_count for of_count in rising.values())]
    if refused is not None and not any(found.values()):
        raise refused
    _vary(workers, space, found)
    return [one for count in ipus for one in found[count]]


def _vary(workers: Workers, space: Space, found: Dict[int, List[Choice]]) -> None:
    """Add what the best choices are with other available memory proportions."""
    best = {count: to_vary(choices) for count, choices in found.items()}
    of_size: Dict[int, List[Choice]] = {}
    for choices in best.values():
        for one in choices:
            of_size.setdefault(one.micro_batch_size, []).append(one)
    other: Dict[Choice, List[Choice]] = {}
    jobs = ((size, (space, choices)) for size, choices in of_size.items())
    for size, answers in workers.run(varied, jobs):
        other.update(zip(of_size[size], answers))
    for count, choices in best.items():
        found[count] += [one for given in choices for one in other[given]]

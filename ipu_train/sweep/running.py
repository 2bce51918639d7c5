"""The sweep itself: every point, then the largest micro-batch of every series, on all cores."""

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ..config import ConfigError, Resolved
from ..planning.settle import ipus_needed
from ..planning.workers import Workers
from .content import Kept, key_of
from .points import Grid, Point, at_micro_batch, series
from .predicting import Answer, Oracle, largest_micro_batch
from .records import Record, record, used_share


class Series(NamedTuple):
    """What one norm with one choice of settings comes to.

    Attributes:
        norm, settings: as in :class:`Point`.
        largest_micro_batch_size: images; 0 when not even one fits.
        limited_by: ``memory``, or ``global batch`` when all of it fits as one micro-batch, or ``configuration`` when it
            refuses that and the largest part that it takes fits.
    """

    norm: str
    settings: Dict[str, str]
    largest_micro_batch_size: int
    limited_by: str

    def to_json(self) -> Dict[str, Any]:
        return self._asdict()


def predict_points(
    workers: Workers, kept: Kept, points: List[Point], done: Callable[[Point, Record], None]
) -> None:
    """Predict every point and hand each to ``done`` as soon as it is known."""
    open_points = []
    for point in points:
        report = kept.get(key_of(point.resolved))
        if report is not None:
            done(point, record(point, Answer(report)))
        else:
            open_points.append(point)
    jobs = _batches(open_points, workers.count)
    for batch, answers in workers.run(_predict, ((job, ([p.resolved for p in job],)) for job in jobs)):
        for point, answer in zip(batch, answers):
            done(point, record(point, answer))


def _predict(oracle: Oracle, configurations: List[Resolved]) -> List[Answer]:
    return [oracle(resolved) for resolved in configurations]


def _batches(points: List[Point], workers: int) -> List[Tuple[Point, ...]]:
    """Points of one micro-batch size together, since their convolutions are planned alike; more work first."""
    by_size: Dict[int, List[Point]] = {}
    for point in points:
        by_size.setdefault(point.micro_batch_size, []).append(point)
    batches = [by_size[size] for size in sorted(by_size, reverse=True)]
    most = max(1, -(-len(points) // (2 * workers))) if workers > 1 else 1
    return [tuple(batch[i : i + most]) for batch in batches for i in range(0, len(batch), most)]


def find_largest(
    workers: Workers, sweep: Grid, points: List[Point], records: List[Record], done: Callable[[Series], None]
) -> Callable[[], List[Series]]:
    """Begin to look for the largest micro-batch of each series that fits, whatever the sizes of the sweep; what is
    given back waits for it.
    """
    first: Dict[str, Point] = {}
    known: Dict[str, Dict[int, float]] = {}
    for point in points:
        first.setdefault(series(point.norm, point.settings), point)
    for one in records:
        if "total_bytes" in one:
            share = one["worst_tile_bytes"] / one["bytes_per_tile"]
            known.setdefault(series(one["norm"], one["settings"]), {})[one["micro_batch_size"]] = share
    questions = [
        (name, (first[name].resolved, sweep.global_batch_size, shares)) for name, shares in known.items()
    ]
    # neighbours to one process: similar series ask for the same sizes, whose convolutions are then planned once
    size = max(1, -(-len(questions) // workers.count)) if workers.count > 1 else 1
    parts = [questions[i : i + size] for i in range(0, len(questions), size)]
    jobs = ((tuple(name for name, _ in part), ([asked for _, asked in part],)) for part in parts)
    answered = workers.run(_find_all_largest, jobs)

    def result() -> List[Series]:
        found = {}
        for names, answers in answered:
            for name, (size, limited) in zip(names, answers):
                found[name] = Series(first[name].norm, first[name].settings, size, limited)
                done(found[name])
        return [found[name] for name in first if name in found]

    return result


def _find_all_largest(oracle: Oracle, questions: List[Tuple[Any, ...]]) -> List[Tuple[int, str]]:
    return [_find_largest(oracle, *question) for question in questions]


def _find_largest(
    oracle: Oracle, resolved: Resolved, global_batch_size: int, known: Dict[int, float]
) -> Tuple[int, str]:
    most = max(1, global_batch_size // resolved.config.training.replicas)

    def allowed(size: int) -> Optional[Resolved]:
        try:
            return at_micro_batch(resolved, size, global_batch_size)[0]
        except ConfigError:  # mixup of one image, say
            return None

    while most > 1 and allowed(most) is None:  # of options that want several micro-batches in a weight update
        most //= 2

    def share(size: int) -> float:
        there = allowed(size)
        return math.inf if there is None else used_share(oracle(there))

    # where one image cannot be had (mixup), the search begins above it
    none = {1: 0.0} if most > 1 and allowed(1) is None else {}
    shares = largest_micro_batch(share, most, {**known, **none})
    size = max((size for size, used in shares.items() if used <= 1 and size not in none), default=0)
    whole = max(1, global_batch_size // resolved.config.training.replicas)
    return size, "global batch" if size == whole else "configuration" if size == most else "memory"


def count_ipus(
    workers: Workers, points: List[Point], records: List[Record], done: Callable[[Record], None]
) -> Callable[[], None]:
    """Begin to find ``ipus_needed`` of every record: IPUs of all replicas, with the best splits where one plan does not
    fit. What is given back waits for it and adds it.

    None where not even 16 IPUs a replica hold the micro-batch.
    """
    jobs = []
    for point, one in zip(points, records):
        if one["fits"]:
            one["ipus_needed"] = one["ipus_per_replica"] * one["replicas"]
            done(one)
        elif "total_bytes" in one:
            jobs.append((one, point.resolved))
    # the smallest micro-batches first: they are quick, and equal sizes stay together
    jobs.sort(key=lambda job: job[0]["micro_batch_size"])
    names = {i: one for i, (one, _) in enumerate(jobs)}
    answered = workers.run(_ipus_needed, ((i, (resolved,)) for i, (_, resolved) in enumerate(jobs)))

    def result() -> None:
        for i, ipus in answered:
            names[i]["ipus_needed"] = None if ipus is None else ipus * names[i]["replicas"]
            done(names[i])

    return result


def _ipus_needed(oracle: Oracle, resolved: Resolved) -> Optional[int]:
    key = key_of(resolved) + "-ipus"
    kept = oracle.kept.get(key)
    if kept is None:
        kept = {"ipus_per_replica": ipus_needed(resolved, oracle.traces)}
        oracle.kept.put(key, kept)
    return kept["ipus_per_replica"]

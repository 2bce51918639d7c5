"""The search, the comparison with the given configuration, and the YAML of the best choice."""

import shlex
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from tqdm import tqdm

from .. import pages
from ..config import Resolved
from ..ipumodel import ranges
from ..planning import keep_plans, predict, with_splits
from ..planning.traces import Traces
from ..planning.workers import Workers, cores
from ..tracking import table, tell
from .errors import NoChoiceFits, TuneError
from .rounds import search
from .search import Choice, choice, first_sizes, ranked
from .space import Space, replicas_for

_SHOWN = 5


def tune(space: Space, sizes: List[int], jobs: Optional[int], output: Path, page: Optional[str]) -> int:
    """Search, show the best choices beside the given configuration and write the best one; gives 0.

    Args:
        space: what is searched.
        sizes: IPUs of a replica to try; empty for as many as ``pipeline_splits: auto`` takes.
        jobs: processes; None: one for each core.
        output: the YAML file to write.
        page: the report page to write.

    Raises:
        TuneError: nothing to choose from; :class:`NoChoiceFits` when nothing fits.
    """
    keep_plans()
    traces = Traces()
    space = space._replace(batch_independent=traces.batch_independent(space.base))
    given = with_splits(space.base, traces=traces)
    if not sizes:
        sizes = [given.config.ipus_per_replica]
        replicas_for(space, sizes[0])
    choices = _search(space, sizes, jobs, traces)
    reference = choice(given, predict(given, traces=traces), space.headroom)
    best = ranked(choices)
    shown = [one for one in best if one.fits][:_SHOWN]
    if not shown:
        raise NoChoiceFits(_nearest(best, space.headroom))
    print(comparison(reference, shown))
    print(ranges.sentence())
    print(_per_size(best, sizes))
    tuned = space.base.changed(shown[0].overrides)
    _write(output, tuned, shown[0], reference, space.headroom)
    if page is not None:
        report = predict(tuned, traces=traces)
        pages.write(page, pages.choices_contents(tuned, report, _points(reference, shown[0], best)))
        tell(f"page     {page}")
    print(f"\nThe first choice is in {output}; train it with: ipu-train --config {shlex.quote(str(output))}")
    return 0


def _points(reference: Choice, chosen: Choice, choices: List[Choice]) -> List[Dict[str, Any]]:
    """All that was looked at, for the page; of choices that differ in nothing shown there the best one."""
    found: Dict[Any, Dict[str, Any]] = {}
    for one in [chosen, reference, *choices]:
        key = {
            "IPUs_per_replica": one.ipus_per_replica,
            "micro_batch_size": one.micro_batch_size,
            "recompute": one.recompute,
            "available_memory_proportion": one.available_memory_proportion,
        }
        costs = {name: getattr(one, name) for name in pages.COSTS if name != "categories_bytes"}
        shown = {**costs, "categories_bytes": dict(one.categories_bytes)}
        found.setdefault(tuple(key.values()), {"choice": key, "given": one is chosen, **shown})
    return list(found.values())


def _search(space: Space, sizes: List[int], jobs: Optional[int], traces: Traces) -> List[Choice]:
    traces.prepare(first_sizes(space, sizes))  # here, for all the processes to come
    with Workers(jobs or cores(), Traces.itself, (traces,)) as workers:
        bar = tqdm(desc="tune", unit=" sizes", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)
        with bar:
            found = search(workers, space, sizes, bar)
    if not found:
        raise TuneError(
            f"Nothing to choose from: the network or its global batch of {space.base.config.global_batch_size:,} "
            f"images allows no pipeline of {', '.join(map(str, sizes))} IPUs (it needs 2 x IPUs - 1 micro-batches "
            "a weight update). Raise training.gradient_accumulation or ask for fewer --ipus."
        )
    return found


def comparison(reference: Choice, best: List[Choice]) -> str:
    """One column a choice, the given configuration first."""
    columns = [reference, *best]
    rows: List[List[Any]] = [
        ["IPUs per replica", *(one.ipus_per_replica for one in columns)],
        ["replicas", *(one.replicas for one in columns)],
        ["micro-batch size", *(one.micro_batch_size for one in columns)],
        ["gradient accumulation", *(one.gradient_accumulation for one in columns)],
        ["recompute", *(one.recompute for one in columns)],
        ["available memory proportion", *(one.available_memory_proportion for one in columns)],
        ["MB of the fullest IPU", *(f"{one.total_bytes / 1e6:,.1f}" for one in columns)],
        ["worst tile, bytes", *(f"{one.worst_tile_bytes:,}" for one in columns)],
        ["of a tile's memory", *(f"{one.worst_tile_bytes / one.bytes_per_tile:.0%}" for one in columns)],
        ["images/s", *(f"{one.images_per_second:,.0f}" for one in columns)],
        ["images/s per IPU", *(f"{one.images_per_second_per_ipu:,.0f}" for one in columns)],
    ]
    depth = max(len(one.splits) for one in columns)
    for i in range(depth):
        rows.append(
            [f"IPU {i + 1} begins at", *(one.splits[i] if i < len(one.splits) else "" for one in columns)]
        )
    return table(["", "given", *(str(i + 1) for i in range(len(best)))], rows)


def _per_size(best: List[Choice], sizes: List[int]) -> str:
    lines = []
    for size in sizes:
        here = [one for one in best if one.ipus_per_replica == size]
        if not here:
            text = "cannot be made"
        elif not here[0].fits:
            text = "nothing fits"
        else:
            text = (
                f"{here[0].images_per_second:,.0f} images/s, {here[0].images_per_second_per_ipu:,.0f} per IPU"
            )
        lines.append(f"{size} IPU{'s' if size > 1 else ''} a replica: {text}")
    return "\n" + "\n".join(lines)


def _nearest(best: List[Choice], headroom: float) -> str:
    nearest = min(best, key=lambda one: one.worst_tile_bytes)
    limit = int(nearest.bytes_per_tile * (1 - headroom))
    return (
        f"Nothing fits: the leanest choice, micro-batch {nearest.micro_batch_size} on {nearest.ipus_per_replica} "
        f"IPU(s) with recompute {nearest.recompute}, needs {nearest.worst_tile_bytes:,} bytes on its worst tile, and "
        f"{limit:,} are allowed with a head-room of {headroom:.0%}. Allow more --ipus or less --headroom, or use "
        "training.precision=16.16."
    )


def _write(path: Path, tuned: Resolved, best: Choice, reference: Choice, headroom: float) -> None:
    text = (
        f"# {tuned.name}, tuned by ipu-train tune with a head-room of {headroom:.0%} of tile memory.\n"
        f"# Predicted on {tuned.config.device.chip}: {best.images_per_second:,.0f} images/s (given configuration: "
        f"{reference.images_per_second:,.0f}{'' if reference.fits else ', which does not fit so'}), worst tile "
        f"{best.worst_tile_bytes:,} of {best.bytes_per_tile:,} bytes.\n"
        f"# Global batch {tuned.config.global_batch_size:,} as given. Command: ipu-train --config "
        f"{shlex.quote(str(path))}\n"
    )
    try:
        path.write_text(text + tuned.dump(), encoding="utf-8")
    except OSError as error:
        raise TuneError(
            f"Cannot write {path}: {error.strerror or error}. Choose another --output."
        ) from error
    tell(f"tuned    {path}")

"""``ipu-train tune``: the arguments, the comparison, and the YAML of the best choice."""

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from tqdm import tqdm

from .. import pages
from ..config import Resolved, load
from ..ipumodel import ranges
from ..planning import keep_plans, predict, with_splits
from ..planning.traces import Traces
from ..planning.workers import Workers, cores
from ..tracking import table, tell
from .errors import NoChoiceFits, TuneError
from .search import Choice, Space, choice, ranked, replicas_for, search

_SHOWN = 5


def main(arguments: List[str]) -> int:
    """Search, show the best choices beside the given configuration and write the best one; gives 0.

    Raises:
        TuneError, ConfigError: bad input; :class:`NoChoiceFits` when nothing fits.
    """
    options = _parser().parse_intermixed_args(arguments)
    base = load(options.config, options.overrides)
    sizes = _sizes(options.ipus, base)
    if not 0 <= options.headroom < 1:
        raise TuneError(
            f"--headroom {options.headroom}: is the share of memory to leave free, from 0 to below 1"
        )
    if options.jobs is not None and options.jobs < 1:
        raise TuneError(f"--jobs: must be at least 1, got {options.jobs}")
    space = Space(base, options.headroom, options.total_ipus)
    for size in sizes:
        replicas_for(space, size)
    output = _output(options.output, base)
    if options.html is not None:
        pages.check(options.html)
    keep_plans()
    choices = _search(space, sizes, options.jobs)
    traces = Traces()
    given = with_splits(base, traces=traces)
    reference = choice(given, predict(given, traces=traces), options.headroom)
    best = ranked(choices)
    shown = [one for one in best if one.fits][:_SHOWN]
    if not shown:
        raise NoChoiceFits(_nearest(best, options.headroom))
    print(comparison(reference, shown))
    print(ranges.sentence())
    print(_per_size(best, sizes))
    tuned = base.changed(shown[0].overrides)
    _write(output, tuned, shown[0], reference, options.headroom)
    if options.html is not None:
        report = predict(tuned, traces=traces)
        pages.write(options.html, pages.choices_contents(tuned, report, _points(reference, shown[0], best)))
        tell(f"page     {options.html}")
    print(f"\nThe first choice is in {output}; train it with: ipu-train --config {output}")
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


def _search(space: Space, sizes: List[int], jobs: Optional[int]) -> List[Choice]:
    import torch

    torch.set_num_threads(1)
    found: List[Choice] = []
    with Workers(min(jobs or cores(), len(sizes)), Traces, ()) as workers:
        bar = tqdm(
            total=len(sizes),
            desc="tune",
            unit=" sizes",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            leave=False,
        )
        with bar:
            for _, choices in workers.run(search, ((size, (space, size)) for size in sizes)):
                found += choices
                bar.update()
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
        f"# Global batch {tuned.config.global_batch_size:,} as given. Command: ipu-train --config {path}\n"
    )
    try:
        path.write_text(text + tuned.dump(), encoding="utf-8")
    except OSError as error:
        raise TuneError(
            f"Cannot write {path}: {error.strerror or error}. Choose another --output."
        ) from error
    tell(f"tuned    {path}")


def _output(chosen: Optional[str], base: Resolved) -> Path:
    """Where the YAML goes, proved writable before the search.

    Raises:
        TuneError: it cannot be written, or is the given configuration.
    """
    path = Path(chosen) if chosen is not None else Path(f"{base.name}_tuned.yaml")
    if path.exists() and path.samefile(base.source):
        raise TuneError(f"--output {path} is the given configuration itself; choose another file")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise TuneError(f"--output {path}: must be a file in a folder that exists")
    return path


def _sizes(text: Optional[str], base: Resolved) -> List[int]:
    if text is None:
        return [base.config.ipus_per_replica]
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        raise TuneError(f"--ipus {text}: must be whole numbers of at least 1 such as 1,2,4")
    return sizes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ipu-train tune",
        description="Find micro-batch size, accumulation, recomputation, available memory proportion and pipeline "
        "splits with the most predicted images/s that fit in memory, at the configuration's global batch size.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="X", help="a YAML file, or the name of a recipe")
    add("--ipus", metavar="1,2,4", help="IPUs of a replica to try; default: the configuration's")
    add("--total-ipus", type=int, metavar="N", help="IPUs in all; default: as many as the replicas take")
    add(
        "--headroom",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="tile memory to leave free (default 0.05)",
    )
    add("--output", metavar="PATH", help="the tuned configuration; default: <name>_tuned.yaml")
    add("--html", metavar="PATH", help="write a report page of the choices and the plan of the best one")
    add("--jobs", type=int, metavar="N", help="processes; default: one for each core")
    add("overrides", nargs="*", metavar="section.key=value", help="changes to the configuration")
    return parser

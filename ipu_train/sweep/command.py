"""``ipu-train sweep``: the arguments, the order of the work, and what is said at the end."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from tqdm import tqdm

from .. import pages
from .._version import __version__
from ..config import Resolved, load
from ..ipumodel import ranges
from ..planning import images_of, keep_plans
from ..planning.workers import WorkerLost, Workers, cores
from ..tracking import tell
from . import folder as folders
from .content import model_version
from .errors import NothingFits, SweepError
from .interrupts import Interrupted, Interrupts
from .outputs import JSON_FILE, PICTURE_FILE, terminal_table, write
from .picture import draw
from .points import Grid, Point, check, grid, parse_settings, points, series
from .predicting import Oracle
from .records import Record, predicted
from .running import Series, count_ipus, find_largest, predict_points
from .words import equal_micro_batches, largest_words, savings, short

_SWEEP_DIR = "sweep_dir="


def main(arguments: List[str]) -> int:
    """Run a sweep and give the exit status: 0 done, 130 or 143 stopped by a signal, finished points written.

    Raises:
        SweepError, ConfigError: bad input; :class:`NothingFits` when no point fits (all is written then).
    """
    options = _parser().parse_intermixed_args(arguments)
    overrides, chosen = _sweep_dir(options.overrides)
    base = load(options.config, overrides)
    if options.html is not None:
        pages.check(options.html)
    sweep = grid(
        base,
        _names(options.norms),
        _sizes(options.micro_batch_sizes),
        parse_settings(options.set),
        options.global_batch_size,
    )
    all_points, left_out = points(sweep)
    for message in left_out:
        tell(f"left out, {message}")
    _prepare(all_points, options.jobs, options.measure_steps)
    keep_plans()
    path = folders.choose(base, chosen, options.resume)
    with Interrupts() as interrupts:
        run = _Run(base, sweep, all_points, path, options, interrupts)
        try:
            run.predict()
            if options.measure:
                run.measure()
        except Interrupted:
            run.finish(interrupted=True)
            return interrupts.exit_status
        except (SweepError, WorkerLost):
            run.finish(interrupted=True)
            raise
        run.finish()
    return run.verdict()


def _prepare(all_points: List[Point], jobs: Optional[int], measure_steps: int) -> None:
    """Everything that can be refused before the first point, and torch loaded for the processes to come."""
    import torch

    if measure_steps < 1:
        raise SweepError(f"--measure-steps: must be at least 1, got {measure_steps}")
    if jobs is not None and jobs < 1:
        raise SweepError(f"--jobs: must be at least 1, got {jobs}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # processes are forked after this: none may have threads that compute
    try:
        check(all_points)
    finally:
        torch.set_num_threads(threads)


class _Run:
    """The state of a sweep between its steps."""

    def __init__(
        self,
        base: Resolved,
        sweep: Grid,
        all_points: List[Point],
        path: Path,
        options: argparse.Namespace,
        interrupts: Interrupts,
    ) -> None:
        self.interrupts = interrupts
        self.base, self.sweep, self.points, self.path, self.options = base, sweep, all_points, path, options
        self.records: Dict[int, Record] = {}
        self.series: List[Series] = []
        self.started = time.time()

    def ordered(self) -> List[Record]:
        """The records so far, in the order of the points."""
        return [self.records[i] for i in sorted(self.records)]

    def predict(self) -> None:
        names = list(dict.fromkeys(series(point.norm, point.settings) for point in self.points))
        kept = folders.kept_in(self.path)
        position = {id(point): i for i, point in enumerate(self.points)}
        jobs = self.options.jobs or cores()
        bar = _bar(2 * len(self.points) + len(names), "points")

        def done(point: Point, one: Record) -> None:
            self.records[position[id(point)]] = one
            bar.set_postfix_str(f"{point.norm} at {point.micro_batch_size}", refresh=False)
            bar.update()

        def found(one: Series) -> None:
            self.series.append(one)
            bar.update()

        def counted(one: Record) -> None:
            bar.update()

        count = min(jobs, len(self.points))
        with Workers(count, Oracle, (kept,), self.interrupts.check) as workers, bar:
            predict_points(workers, kept, self.points, done)
            bar.set_description_str("largest micro-batch")
            self.series = find_largest(workers, self.sweep, self.points, self.ordered(), found)
            bar.set_description_str("IPUs needed")
            count_ipus(workers, self.points, self.ordered(), counted)

    def measure(self) -> None:
        from .measuring import measure

        with _bar(len(self.points), "measured") as bar:
            for i, point in enumerate(self.points):
                self.interrupts.check()
                measured = measure(point.resolved, self.options.measure_steps)
                self.interrupts.check()  # Ctrl-C ends the measuring process, too
                self.records[i].update(measured)
                bar.update()

    def _own_size(self) -> int:
        return self.base.config.training.micro_batch_size

    def document(self, interrupted: bool) -> Dict[str, Any]:
        images = images_of(self.base)
        largest = {series(one.norm, one.settings): one.largest_micro_batch_size for one in self.series}
        for one in self.records.values():
            name = series(one["norm"], one["settings"])
            if name in largest:
                one["largest_micro_batch_size"] = largest[name]
        return {
            "config": self.base.name,
            "model": self.base.config.model.name,
            "image": {"channels": images.channels, "size_pixels": images.size, "classes": images.classes},
            "target": self.base.config.device.chip,
            "global_batch_size": self.sweep.global_batch_size,
            "complete": not interrupted,
            "version": __version__,
            "model_version": model_version(),
            "series": [one.to_json() for one in self.series],
            "savings": [saving.to_json() for saving in savings(self.ordered(), self._own_size())],
            "error_ranges": ranges.shares(),
            "points": self.ordered(),
        }

    def finish(self, interrupted: bool = False) -> None:
        """Files, table and words, of all points or of those that were done."""
        document = self.document(interrupted)
        write(self.path, document, self.options.json)
        records = self.ordered()
        said = savings(records, self._own_size())
        lines = [saving.words for saving in said] + equal_micro_batches(said)
        largest = "Largest micro-batch that fits: " + "; ".join(largest_words(self.series))
        contents = pages.sweep_contents(self.base, records, [largest, *lines])
        for place in (self.path / pages.PAGE_FILE, self.options.html):
            if place is not None:
                pages.write(place, contents)
        config = self.base.config
        subtitle = (
            f"{config.model.name}, {images_of(self.base).size} pixels, {config.training.precision}, one "
            f"{config.device.chip} IPU, global batch {self.sweep.global_batch_size:,}"
        )
        if config.ipus_per_replica > 1:
            subtitle = subtitle.replace("one ", f"fullest of {config.ipus_per_replica} ")
        picture = draw(self.path / PICTURE_FILE, records, said, subtitle)
        if records:
            print(terminal_table(records))
        for one in dict.fromkeys(one["note"] for one in records if one["note"]):
            print(f"* {one}")
        for one in dict.fromkeys(one.get("measured_error") or one.get("measured_note") for one in records):
            if one:
                print(f"not measured: {one}")
        if self.series:
            print(f"\n{largest}")
        for line in lines:
            print(line)
        print(flush=True)
        files = {"sweep": self.path / JSON_FILE, "page": self.path / pages.PAGE_FILE, "picture": picture}
        tell("\n".join(f"{name:8} {place}" for name, place in files.items() if place is not None))
        if interrupted:
            done = f"{len(records)} of {len(self.points)} points are kept"
            tell(f"Stopped: {done}. Go on with the same command and --resume.")
        if config.logging.wandb:
            self._to_wandb(document, picture)

    def _to_wandb(self, document: Dict[str, Any], picture: Optional[Path]) -> None:
        from .wandb_table import send

        send(self.path, self.base, document, picture)

    def verdict(self) -> int:
        """0, or the error of a sweep without a usable point."""
        records = self.ordered()
        failed = [one for one in records if "error" in one]
        if failed:
            first = failed[0]
            raise SweepError(
                f"{len(failed)} of {len(records)} points could not be predicted (all others are written); the first, "
                f"{first['norm']} at micro-batch {first['micro_batch_size']}: {first['error']}"
            )
        if not any(one["fits"] for one in records):
            least = min(predicted(records), key=lambda one: one["worst_tile_bytes"])
            over = least["worst_tile_bytes"] - least["bytes_per_tile"]
            raise NothingFits(
                f"No point fits. Nearest is {short(least['norm'])} at micro-batch {least['micro_batch_size']}: "
                f"{over:,} bytes too many on its worst tile. ipu-train tune finds what would fit."
            )
        return 0


def _bar(total: int, name: str) -> Any:
    return tqdm(
        total=total, desc=name, unit="", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False
    )


def _sweep_dir(overrides: List[str]) -> Tuple[List[str], Optional[str]]:
    chosen = [text[len(_SWEEP_DIR) :] for text in overrides if text.startswith(_SWEEP_DIR)]
    if chosen and not chosen[-1]:
        raise SweepError("sweep_dir= names no folder; write sweep_dir=PATH")
    return [text for text in overrides if not text.startswith(_SWEEP_DIR)], chosen[-1] if chosen else None


def _names(text: Optional[str]) -> Optional[List[str]]:
    if text is None:
        return None
    names = [name.strip().replace(" ", "") for name in text.split(",") if name.strip()]
    if not names:
        raise SweepError("--norms: names no norm; write for example batch,group,group+pn")
    return names


def _sizes(text: Optional[str]) -> Optional[List[int]]:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SweepError(f"--micro-batch-sizes {text}: must be whole numbers such as 1,2,4,8") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ipu-train sweep",
        description="Predict memory and throughput over micro-batch sizes and norms at one global batch size.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="X", help="a YAML file, or the name of a recipe")
    add("--micro-batch-sizes", metavar="1,2,4", help="default: 1 to 32, and the configuration's own")
    add(
        "--norms",
        metavar="batch,group+pn",
        help="+pn adds Proxy Norm; default: batch,group,group+pn and its own",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="section.key=a,b",
        help="sweep over a setting; repeatable",
    )
    add(
        "--global-batch-size",
        type=int,
        metavar="N",
        help="images of a weight update; default: the configuration's",
    )
    add("--json", metavar="PATH", help="write the result as JSON to this file, too")
    add("--html", metavar="PATH", help="write the report page to this file, too")
    add("--resume", action="store_true", help="go on with the newest sweep of this configuration")
    add("--jobs", type=int, metavar="N", help="processes; default: one for each core")
    add(
        "--measure",
        action="store_true",
        help="run a few real steps of each point and measure memory and accuracy",
    )
    add("--measure-steps", type=int, default=3, metavar="N", help="weight updates of --measure (default 3)")
    add(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="changes to the configuration, or sweep_dir=PATH",
    )
    return parser

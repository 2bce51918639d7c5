"""A sweep from its points to its files, pictures and words."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from tqdm import tqdm

from .. import outputs, pages
from .._version import __version__
from ..config import Resolved
from ..ipumodel import ranges
from ..planning import Traces, images_of, keep_plans
from ..planning.workers import WorkerLost, Workers, cores
from ..tracking import tell
from . import folder as folders
from .content import kept_in, model_version
from .errors import NothingFits, SweepError
from .interrupts import Interrupted, Interrupts
from .names import JSON_FILE, PICTURE_FILE
from .outputs import terminal_table, write
from .picture import draw, prepare_to_draw
from .points import Grid, Point, series
from .predicting import Oracle
from .records import Record, predicted
from .running import Series, count_ipus, find_largest, predict_points
from .words import equal_micro_batches, largest_words, savings, short


def run(base: Resolved, sweep: Grid, all_points: List[Point], path: Path, options: argparse.Namespace) -> int:
    """Predict all points, measure them where that is asked for, and write; gives the exit status.

    Args:
        base: the configuration.
        sweep, all_points: what is swept over.
        path: where the sweep's folder will be, see :func:`.folder.place`.
        options: of the command line.

    Raises:
        ConfigError: a model, norm, number of groups or option that there is not.
        SweepError: a folder that cannot be written.
    """
    keep_plans()
    traces = Traces()  # here, for all the processes to come
    traces.prepare(point.resolved for point in all_points)
    folders.make(path)
    with Interrupts() as interrupts:
        sweeping = _Run(base, sweep, all_points, path, options, traces, interrupts)
        try:
            sweeping.predict()
            if options.measure:
                sweeping.measure()
        except Interrupted:
            sweeping.finish(interrupted=True)
            return interrupts.exit_status
        except (SweepError, WorkerLost):
            sweeping.finish(interrupted=True)
            raise
        sweeping.finish()
    return sweeping.verdict()


class _Run:
    """The state of a sweep between its steps."""

    def __init__(
        self,
        base: Resolved,
        sweep: Grid,
        all_points: List[Point],
        path: Path,
        options: argparse.Namespace,
        traces: Traces,
        interrupts: Interrupts,
    ) -> None:
        self.traces, self.interrupts = traces, interrupts
        self.base, self.sweep, self.points, self.path, self.options = base, sweep, all_points, path, options
        self.records: Dict[int, Record] = {}
        self.series: List[Series] = []
        self.started = time.time()

    def ordered(self) -> List[Record]:
        """The records so far, in the order of the points."""
        return [self.records[i] for i in sorted(self.records)]

    def predict(self) -> None:
        names = list(dict.fromkeys(series(point.norm, point.settings) for point in self.points))
        kept = kept_in(self.path)
        position = {id(point): i for i, point in enumerate(self.points)}
        count = min(self.options.jobs or cores(), len(self.points))
        bar = _bar(2 * len(self.points) + len(names), "points")

        def done(point: Point, one: Record) -> None:
            self.records[position[id(point)]] = one
            bar.set_postfix_str(f"{point.norm} at {point.micro_batch_size}", refresh=False)
            bar.update()
            if count > 1:  # the others compute: what the picture needs can be read meanwhile
                prepare_to_draw()

        def found(one: Series) -> None:
            self.series.append(one)
            bar.update()

        def counted(one: Record) -> None:
            bar.update()

        with Workers(count, Oracle, (kept, self.traces), self.interrupts.check) as workers, bar:
            predict_points(workers, kept, self.points, done)
            bar.set_description_str("largest micro-batch")
            largest = find_largest(workers, self.sweep, self.points, self.ordered(), found)
            ipus_needed = count_ipus(workers, self.points, self.ordered(), counted)
            self.series = largest()
            bar.set_description_str("IPUs needed")
            ipus_needed()

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
        most = max([config.ipus_per_replica, *(one["ipus_per_replica"] for one in records)])
        if most > 1:
            subtitle = subtitle.replace(
                f"one {config.device.chip}", f"fullest of {most} {config.device.chip}"
            )
        picture = draw(self.path / PICTURE_FILE, records, said, subtitle)
        words = outputs.words(self.options.json)
        if records:
            print(terminal_table(records), file=words)
        for one in dict.fromkeys(one["note"] for one in records if one["note"]):
            print(f"* {one}", file=words)
        for one in dict.fromkeys(one.get("measured_error") or one.get("measured_note") for one in records):
            if one:
                print(f"not measured: {one}", file=words)
        if self.series:
            print(f"\n{largest}", file=words)
        for line in lines:
            print(line, file=words)
        print(flush=True, file=words)
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

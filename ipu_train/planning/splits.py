"""The best pipeline splits of a network: balanced exactly on the costs of its stages, then planned in full."""

from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..ipumodel.planner import Known, plan
from ..ipumodel.program import Program
from ..ipumodel.report import Report
from ..ipumodel.rescale import at_splits
from ..ipumodel.settings import Settings
from ..ipumodel.target import Target
from .cut_points import CutPoint, cut_points
from .partition import balance, equal_count, leanest
from .stage_costs import Runs

_CALIBRATIONS = 3  # times that the costs are corrected by a full plan
_MOVES = 4  # rounds in which single cuts are moved to their neighbours


class Solution(NamedTuple):
    """Where the second and further IPUs begin, and the full plan of that."""

    splits: Tuple[str, ...]
    report: Report


class Splitter:
    """Plans a program at any splits; equal questions are planned once.

    Args:
        program: one micro-batch in one stage, from ``Traces``.
        settings: of the run.
        target: the chip.
        headroom: share of a tile's memory to leave free, 0 to below 1.
    """

    def __init__(self, program: Program, settings: Settings, target: Target, headroom: float = 0.0) -> None:
        self.program, self.settings, self.target = program, settings, target
        self.capacity = target.bytes_per_tile * (1.0 - headroom)
        self.cuts: List[CutPoint] = cut_points(program)
        self._reports: Dict[Tuple[str, ...], Report] = {}
        self._stages: Known = {}  # moving one cut leaves most stages as they are
        self._runs: Optional[Runs] = None

    def report(self, splits: Tuple[str, ...]) -> Report:
        """The full plan at these splits."""
        if splits not in self._reports:
            program = at_splits(self.program, splits) if splits else self.program
            self._reports[splits] = plan(program, self.target, self.settings, self._stages)
        return self._reports[splits]

    def fits(self, report: Report) -> bool:
        return report.worst_tile_bytes <= self.capacity

    def quality(self, splits: Tuple[str, ...]) -> Tuple[bool, float, float]:
        """Larger is better: fits, then images/s (bytes, where it does not fit), then bytes."""
        report = self.report(splits)
        if not self.fits(report):
            return (False, -float(report.worst_tile_bytes), report.images_per_second)
        return (True, report.images_per_second, -float(report.worst_tile_bytes))

    def solve(self, stages: int) -> Optional[Solution]:
        """The best splits into so many stages; None for a network with too few split points.

        Never worse than splitting into equal numbers of modules, which is among the candidates. Where nothing fits,
        the splits that come nearest.
        """
        if stages == 1:
            return Solution((), self.report(()))
        if len(self.cuts) + 1 < stages:
            return None
        candidates = {self._names(equal_count(len(self.cuts) + 1, stages) or ())}
        candidates.update(self._balanced(stages))
        best = self._improved(max(sorted(candidates), key=self.quality))
        return Solution(best, self.report(best))

    def _names(self, cuts: Tuple[int, ...]) -> Tuple[str, ...]:
        return tuple(self.cuts[cut - 1].name for cut in cuts)

    def can_fit(self, stages: int) -> bool:
        """Whether splits into so many stages are found at which a full plan fits; memory alone counts."""
        if stages == 1:
            return self.fits(self.report(()))
        return any(self.fits(self.report(names)) for names in self._partitions(stages, lean=True))

    def _balanced(self, stages: int) -> List[Tuple[str, ...]]:
        return list(self._partitions(stages, lean=False))

    def _partitions(self, stages: int, lean: bool) -> Iterator[Tuple[str, ...]]:
        """Exact partitions on the stage costs, fast or lean ones, which full plans correct stage by stage."""
        if self._runs is None:
            starts = [cut.operation for cut in self.cuts]
            self._runs = Runs(self.program, self.settings, self.target, starts)
        cycles, sizes = self._runs.costs(stages)
        found = set()
        for _ in range(_CALIBRATIONS):
            partition = None if lean else balance(cycles, sizes, self.capacity)
            partition = partition or leanest(cycles, sizes)
            if partition is None or self._names(partition.cuts) in found:
                return
            names = self._names(partition.cuts)
            found.add(names)
            yield names
            bounds = (0, *partition.cuts, len(self.cuts) + 1)
            for stage, ipu in enumerate(self.report(names).ipus):
                here = (stage, bounds[stage], bounds[stage + 1])
                sizes[stage] *= ipu.memory.worst_tile_bytes / max(1.0, float(sizes[here]))
                cycles[stage] *= ipu.cycles.total / max(1.0, float(cycles[here]))

    def _improved(self, splits: Tuple[str, ...]) -> Tuple[str, ...]:
        """Move single cuts to neighbouring split points while a full plan says that it helps."""
        position = {cut.name: i for i, cut in enumerate(self.cuts)}
        for _ in range(_MOVES):
            before = splits
            for which in range(len(splits)):
                for step in (-1, 1):
                    at = [position[name] for name in splits]
                    at[which] += step
                    legal = 0 <= at[which] < len(self.cuts) and all(a < b for a, b in zip(at, at[1:]))
                    if legal:
                        moved = tuple(self.cuts[i].name for i in at)
                        splits = max((splits, moved), key=self.quality)
            if splits == before:
                break
        return splits

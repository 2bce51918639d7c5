"""What a page shows of one IPU: categories, bytes at every step of the schedule, and which layers they belong to."""

from typing import Any, Dict, List

from ..ipumodel.memory import ALWAYS_LIVE
from ..ipumodel.program import Program
from ..ipumodel.report import IpuReport, Report


def ipu_contents(report: Report, ipu: IpuReport) -> Dict[str, Any]:
    """Plain values; bytes are over all tiles of the IPU. ``alive`` has [first step, last step, bytes, layer, kind]."""
    names = _Names()
    memory, moment = ipu.memory, ipu.memory.moment
    made = _made_by(report.program)
    steps = [[step.phase, names.index(step.op.layer), step.op.operator] for step in ipu.schedule.steps]
    alive = []
    for interval in ipu.schedule.intervals:
        if interval.end < interval.start or not interval.bytes:
            continue
        kind = "gradient" if interval.label.startswith("gradient") else "activation"
        layer = names.index(made.get(interval.tensor, "") or interval.label)
        alive.append([interval.start, interval.end, round(interval.bytes), layer, kind])
    return {
        "ipu": ipu.ipu,
        "starts_at": report.stage_names[ipu.stage] if ipu.stage else "",
        "fits": ipu.fits,
        "categories_bytes": dict(memory.categories),
        "total_bytes": memory.total_bytes,
        "worst_tile_bytes": memory.worst_tile_bytes,
        "always_live_bytes": sum(memory.categories[name] for name in ALWAYS_LIVE),
        "live_bytes": [round(float(size)) for size in memory.live],
        "forward_steps": ipu.schedule.forward_steps,
        "steps": steps,
        "alive": alive,
        "names": names.all,
        "peak": {
            "step": moment.step,
            "phase": moment.phase,
            "layer": moment.layer,
            "operator": moment.operator,
            "responsible": [
                {"layer": layer, "what": what, "bytes": size} for layer, what, size in moment.responsible
            ],
        },
        "cycles_by_phase": {name: round(value) for name, value in ipu.cycles.by_phase.items()},
        "cycles": round(ipu.cycles.total),
    }


def _made_by(program: Program) -> Dict[int, str]:
    made: Dict[int, str] = {}
    for op in program.forward():
        for index in op.writes:
            made.setdefault(index, op.layer)
    return made


class _Names:
    """Layers by number, so that a page holds each name once."""

    def __init__(self) -> None:
        self.all: List[str] = []
        self._known: Dict[str, int] = {}

    def index(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = len(self.all)
            self.all.append(name)
        return self._known[name]

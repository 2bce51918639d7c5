"""What ``plan`` found: a table and a picture for people, JSON with units in the key names for programs."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from . import ranges
from .costs import OpCost
from .memory import ALWAYS_LIVE, PEAK, IpuMemory
from .program import Program
from .schedule import Schedule
from .settings import Settings
from .target import Target
from .throughput import Throughput

if TYPE_CHECKING:
    from .planner import StageCost


@dataclass(frozen=True)
class IpuReport:
    """One IPU of a replica: its memory and the cycles of one micro-batch."""

    ipu: int
    stage: Optional[int]
    memory: IpuMemory
    cycles: "StageCost"
    schedule: Schedule
    costs: Sequence[OpCost] = field(default=(), repr=False)  # of each step of the schedule

    @property
    def fits(self) -> bool:
        return self.memory.fits


@dataclass(frozen=True)
class Report:
    """The prediction for one replica and the throughput of all of them."""

    micro_batch_size: int
    target: Target
    settings: Settings
    recompute: str
    ipus: List[IpuReport]
    throughput: Throughput
    unknown_operators: Dict[str, int]
    stage_names: Tuple[str, ...]
    program: Program = field(repr=False)

    @property
    def computing(self) -> Target:
        """The chip with the tiles that compute: all but those that exchange data with the host meanwhile."""
        return replace(self.target, tiles=self.target.tiles - self.settings.io_tiles)

    @property
    def fits(self) -> bool:
        """Whether every IPU's worst tile fits."""
        return all(ipu.fits for ipu in self.ipus)

    @property
    def may_fit(self) -> bool:
        """Whether it fits, or is over by no more than the model's error (``ranges.MEMORY``)."""
        within = 1.0 + ranges.MEMORY.ninety_per_cent_within
        return self.worst_tile_bytes <= within * self.target.bytes_per_tile

    @property
    def verdict(self) -> str:
        """``fits``, ``may fit: within the model's error of x %`` or ``does not fit``."""
        if self.fits:
            return "fits"
        if self.may_fit:
            return f"may fit: within the model's error of {100 * ranges.MEMORY.ninety_per_cent_within:.0f} %"
        return "does not fit"

    @property
    def total_bytes(self) -> int:
        """Bytes of the fullest IPU, over all its tiles."""
        return max(ipu.memory.total_bytes for ipu in self.ipus)

    @property
    def worst_tile_bytes(self) -> int:
        return max(ipu.memory.worst_tile_bytes for ipu in self.ipus)

    @property
    def images_per_second(self) -> float:
        return self.throughput.images_per_second

    @property
    def cycles(self) -> float:
        """Cycles of one micro-batch on the slowest IPU."""
        return self.throughput.micro_batch_cycles

    def to_json(self) -> Dict[str, Any]:
        """A dict of plain numbers and strings: bytes and cycles are integers, units are in the key names."""
        return {
            "target": self.target.name,
            "micro_batch_size": self.micro_batch_size,
            "gradient_accumulation": self.settings.gradient_accumulation,
            "replicas": self.settings.replicas,
            "precision": self.settings.precision,
            "schedule": self.settings.schedule if len(self.ipus) > 1 else "sequential",
            "recompute": self.recompute,
            "fits": self.fits,
            "may_fit": self.may_fit,
            "verdict": self.verdict,
            "total_bytes": self.total_bytes,
            "worst_tile_bytes": self.worst_tile_bytes,
            "bytes_per_tile": self.target.bytes_per_tile,
            "tiles": self.computing.tiles,
            "cycles": round(self.cycles),
            "cycles_per_image_per_ipu": round(self.throughput.cycles_per_image_per_ipu),
            "images_per_second": round(self.images_per_second, 1),
            "seconds_per_weight_update": {
                "total": self.throughput.step_seconds,
                "all_reduce": self.throughput.all_reduce_seconds,
                "update": self.throughput.update_seconds,
                "host": self.throughput.host_seconds,
                "streaming_memory": self.throughput.stream_seconds,
                "host_overlapped": self.throughput.host_overlapped_seconds,
            },
            "io_tiles": self.settings.io_tiles,
            "host_buffer_bytes": self.throughput.host_buffer_bytes,
            "pipeline_bubble_share": round(self.throughput.bubble_share, 4),
            "ipus": [self._ipu_json(ipu) for ipu in self.ipus],
            "unknown_operators": dict(self.unknown_operators),
            "bounds": {"memory": ranges.MEMORY.text, "cycles": ranges.THROUGHPUT.text},
            "error_ranges": ranges.shares(),
        }

    def _ipu_json(self, ipu: IpuReport) -> Dict[str, Any]:
        moment = ipu.memory.moment
        return {
            "ipu": ipu.ipu,
            "starts_at": self.stage_names[ipu.stage]
            if ipu.stage and ipu.stage < len(self.stage_names)
            else "",
            "categories_bytes": dict(ipu.memory.categories),
            "total_bytes": ipu.memory.total_bytes,
            "worst_tile_bytes": ipu.memory.worst_tile_bytes,
            "fits": ipu.fits,
            "missing_bytes_per_tile": ipu.memory.missing_bytes,
            "activation_peak_bytes": ipu.memory.activation_peak_bytes,
            "peak": {
                "step": moment.step,
                "steps": moment.steps,
                "phase": moment.phase,
                "operator": moment.operator,
                "layer": moment.layer,
                "responsible": [
                    {"layer": layer, "what": what, "bytes": size} for layer, what, size in moment.responsible
                ],
            },
            "cycles": round(ipu.cycles.total),
            "cycles_by_phase": {name: round(value) for name, value in ipu.cycles.by_phase.items()},
            "cycles_by_kind": {name: round(value) for name, value in ipu.cycles.by_kind.items()},
            "cycles_by_layer_kind": {name: round(value) for name, value in ipu.cycles.by_layer_kind.items()},
        }

    def table(self) -> str:
        """The report as text, one column an IPU."""
        names = [f"IPU {ipu.ipu}" for ipu in self.ipus]
        lines = [
            f"{self.target.name}: {self.computing.tiles} tiles of "
            f"{self.target.bytes_per_tile:,} bytes; "
            f"micro-batch "
            f"{self.micro_batch_size}, {self.settings.precision}, recompute {self.recompute}",
            "",
            f"{'MB over all tiles':26s}" + "".join(f"{name:>12s}" for name in names),
        ]
        for name in ALWAYS_LIVE + PEAK:
            values = [ipu.memory.categories[name] for ipu in self.ipus]
            if any(values):
                lines.append(f"{name.replace('_', ' '):26s}" + "".join(f"{v / 1e6:12.2f}" for v in values))
        lines.append(f"{'total':26s}" + "".join(f"{i.memory.total_bytes / 1e6:12.2f}" for i in self.ipus))
        lines.append(
            f"{'worst tile, bytes':26s}" + "".join(f"{i.memory.worst_tile_bytes:12,d}" for i in self.ipus)
        )
        verdict = ["fits" if i.fits else f"over {i.memory.missing_bytes:,}" for i in self.ipus]
        lines.append(f"{'':26s}" + "".join(f"{v:>12s}" for v in verdict))
        if not self.fits:
            lines.append(f"{'':26s}  {self.verdict}")
        lines.append(
            f"{'Mcycles per micro-batch':26s}" + "".join(f"{i.cycles.total / 1e6:12.3f}" for i in self.ipus)
        )
        for ipu in self.ipus:
            moment = ipu.memory.moment
            lines += [
                "",
                f"IPU {ipu.ipu}: most memory in the {moment.phase} of {moment.layer or 'the network'} "
                f"({moment.operator}), step {moment.step + 1} of {moment.steps}",
            ]
            lines += [
                f"    {size / 1e6:10.2f} MB  {what:12s} {layer}"
                for layer, what, size in moment.responsible[:5]
            ]
        lines += [
            "",
            "cycles by kind of layer: "
            + ", ".join(f"{name} {value:.0%}" for name, value in self.cycle_shares()),
        ]
        t = self.throughput
        lines.append(
            f"{t.images_per_second:,.0f} images/s on {self.settings.replicas} x {len(self.ipus)} IPUs; "
            f"{t.cycles_per_image_per_ipu:,.0f} cycles per image and IPU; bubble {t.bubble_share:.0%}"
        )
        lines += self._transfers()
        lines.append(ranges.sentence())
        if self.unknown_operators:
            lines.append(
                "operators without a rule of their own: " + ", ".join(sorted(self.unknown_operators))
            )
        return "\n".join(lines)

    def _transfers(self) -> List[str]:
        """What goes over the edge of the IPUs in a weight update, where the settings change something about it."""
        s, t = self.settings, self.throughput
        lines = []
        if s.synthetic_data:
            lines.append("synthetic data: nothing is exchanged with the host")
        elif (
            s.weights_meet_host
            or s.io_tiles
            or s.prefetch_depth > 1
            or s.single_pipeline_sync
            or s.returned_share
        ):
            tiles = f"{s.io_tiles} I/O tiles; " if s.io_tiles else ""
            lines.append(
                f"{tiles}host transfers take {1e3 * t.host_seconds:.2f} ms of a weight update, and "
                f"{1e3 * t.host_overlapped_seconds:.2f} ms beside the computation; the host keeps "
                f"{t.host_buffer_bytes / 1e6:,.1f} MB of inputs ready"
            )
        if s.optimizer_offload or s.weights_offload or s.activations_offload:
            lines.append(f"streaming memory takes {1e3 * t.stream_seconds:.2f} ms of a weight update")
        return lines

    def cycle_shares(self) -> List[Tuple[str, float]]:
        """[(kind of layer, share of all cycles)], largest first."""
        total: Dict[str, float] = {}
        for ipu in self.ipus:
            for name, value in ipu.cycles.by_layer_kind.items():
                total[name] = total.get(name, 0.0) + value
        whole = sum(total.values()) or 1.0
        return sorted(((n, v / whole) for n, v in total.items()), key=lambda item: -item[1])

    def plot(self, path: str) -> str:
        """Draws live bytes over the schedule of one micro-batch for each IPU, with the capacity line."""
        from .plots import plot_memory

        return plot_memory(self, path)

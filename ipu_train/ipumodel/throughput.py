"""Images per second of a run: pipeline, weight update, all-reduce over replicas, host transfers.

Every figure is in seconds or cycles of one IPU. The steps do not overlap: compute and exchange alternate on
an IPU (bulk-synchronous). Host transfers do where tiles are set aside for them, and in a pipeline whose IPUs exchange
data with the host by themselves; the public applications did without.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Sequence, Tuple

from . import constants as k
from .program import Program
from .settings import OPTIMIZERS, Settings
from .target import Target

if TYPE_CHECKING:
    from .planner import StageCost


@dataclass(frozen=True)
class Throughput:
    """One weight update of all replicas. ``images_per_second`` is for the whole system."""

    images_per_second: float
    cycles_per_image_per_ipu: float
    micro_batch_cycles: float
    bubble_share: float
    update_seconds: float
    all_reduce_seconds: float
    host_seconds: float
    stream_seconds: float
    step_seconds: float
    host_overlapped_seconds: float = 0.0
    host_buffer_bytes: int = 0


def _ring_rate(target: Target) -> float:
    """Bytes per second that an IPU sends in a ring of replicas: one link (see ``RING_LINKS``)."""
    return k.RING_LINKS * target.ipu_link_bytes_per_second * target.ipu_link_efficiency


def all_reduce_seconds(gradient_bytes: float, replicas: int, target: Target) -> float:
    """A ring: every IPU sends 2 (replicas - 1) / replicas of the gradients (Patarasuk and Yuan 2009)."""
    if replicas <= 1:
        return 0.0
    sent = 2.0 * (replicas - 1) / replicas * gradient_bytes
    return k.ALL_REDUCE_LATENCY_SECONDS + sent / _ring_rate(target)


def throughput(
    program: Program,
    settings: Settings,
    target: Target,
    stage_cycles: Sequence["StageCost"],
    trainable: Sequence[int],
    kept: Sequence[float] = (),
    crossing: Sequence[float] = (),
) -> Throughput:
    """:class:`Throughput` of a program.

    Args:
        target: the chip with the tiles that compute.
        stage_cycles, trainable: of each IPU: cycles of a micro-batch, number of trainable weights.
        kept: of each IPU: bytes of activations that go from the forward to the backward pass of a micro-batch.
        crossing: bytes that go from each IPU to the next in the forward pass of a micro-batch.
    """
    accumulation = settings.gradient_accumulation if program.training else 1
    stages = len(stage_cycles)
    slowest = max(c.total for c in stage_cycles)
    if settings.schedule == "sharded":
        slowest = sum(c.total for c in stage_cycles)
    fill = stages - 1 if settings.schedule in ("pipelined", "grouped", "interleaved") else 0
    if not program.training:
        fill = 0  # inference pipelines stay full
    compute = slowest * (accumulation + fill) / target.clock_hz
    copies = max([0.0, *_copy_seconds(crossing, target)])
    if fill:
        late = 0 if settings.compiler == "popart" else 1
        compute = pipeline_cycles(stage_cycles, accumulation, late) / target.clock_hz
        compute += (accumulation + 2 * fill + late) * copies
    elif settings.schedule == "sharded":
        compute += accumulation * (2 if program.training else 1) * sum(_copy_seconds(crossing, target))
    else:
        compute += accumulation * copies
    largest = max(trainable) if trainable else 0
    update = reduce = stream = 0.0
    if program.training:
        slots = OPTIMIZERS[settings.optimizer][0]
        state = settings.state_bytes_per_weight
        vectors = math.ceil(largest / target.tiles * 4 / 8) * (2 + slots)
        update = (k.UPDATE_CYCLES * vectors + 40 * k.STEP_CYCLES) / target.clock_hz
        reduce = all_reduce_seconds(largest * settings.gradient_bytes, settings.replicas, target)
        moved = _streamed_bytes(settings, largest, state, max(kept, default=0.0))
        if moved and target.streaming_bytes_per_second_per_ipu:
            stream = moved / target.streaming_bytes_per_second_per_ipu
    inputs = sum(
        t.elements * (settings.input_bytes_per_element if t.floating else 4)
        for t in program.tensors
        if t.kind == "input"
    )
    transfers = _Transfers(settings, target, inputs + settings.returned_share * 4 * (1 + program.batch))
    first = stage_cycles[0].total / target.clock_hz
    host, overlapped = transfers.seconds(accumulation, compute, slowest / target.clock_hz - first, stages > 1)
    if settings.weights_meet_host and program.training:  # there and back, while nothing else happens
        there = largest * (settings.master_bytes + settings.state_bytes_per_weight)
        host += 2 * there / target.host_bytes_per_second_per_ipu
    step = compute + update + reduce + host + stream
    images = program.batch * accumulation
    rate = images * settings.replicas / step if step else 0.0
    return Throughput(
        images_per_second=rate,
        cycles_per_image_per_ipu=step
        * target.clock_hz
        * (1 if settings.schedule == "sequential" else stages)
        / images,
        micro_batch_cycles=slowest,
        bubble_share=fill / (accumulation + fill) if accumulation + fill else 0.0,
        update_seconds=update,
        all_reduce_seconds=reduce,
        host_seconds=host,
        stream_seconds=stream,
        step_seconds=step,
        host_overlapped_seconds=overlapped,
        host_buffer_bytes=0
        if settings.synthetic_data
        else settings.prefetch_depth * inputs * settings.replicas,
    )


def _streamed_bytes(settings: Settings, weights: int, state: int, kept: float) -> float:
    """Bytes that a weight update moves to and from streaming memory on one IPU."""
    moved = 0.0
    if settings.optimizer_offload and settings.state_is_apart:
        share = 1.0 / settings.replicas if settings.replicated_tensor_sharding else 1.0
        moved += k.STREAM_PASSES * weights * state * share
    if (
        settings.weights_offload
    ):  # fetched by each pass of each micro-batch; fetched and written back by the update
        passes = 2 * settings.gradient_accumulation if settings.compiler == "popart" else 0
        moved += (passes + k.STREAM_PASSES) * weights * settings.master_bytes
    if settings.activations_offload:
        moved += settings.gradient_accumulation * k.STREAM_PASSES * kept
    return moved


# IPU-Links between the two IPUs of a card, and from one card to the next (poplibs, ``lib/poplibs_test/Util.cpp``,
# ``addGlobalExchangeConstraints``).
_LINKS_WITHIN, _LINKS_BETWEEN = 4, 2


def bytes_per_second_between(ipu: int, target: Target) -> float:
    """Bytes per second that go from an IPU of a pipeline to the next one."""
    links = _LINKS_WITHIN if ipu % 2 == 0 else _LINKS_BETWEEN
    return links * target.ipu_link_bytes_per_second * target.ipu_link_efficiency


def _copy_seconds(crossing: Sequence[float], target: Target) -> List[float]:
    """Seconds in which a micro-batch's activations go from each IPU to the next, gradients the other way meanwhile."""
    sync = target.external_sync_cycles / target.clock_hz
    return [sync + moved / bytes_per_second_between(ipu, target) for ipu, moved in enumerate(crossing)]


def pipeline_cycles(stages: Sequence["StageCost"], accumulation: int, late: int) -> float:
    """Cycles of all micro-batches of a weight update in a pipeline that is filled and emptied once.

    The IPUs go on together: stage i runs forward from step i on, and backward from the step on in which the gradient
    has come back to it. While the pipeline fills and empties, a step takes as long as what runs in it (PopART,
    ``PipelineInfo``; TensorFlow, ``pipeline_visitor_utils.h``).

    Args:
        late: 0 where the last stage runs backward in the step in which it runs forward (PopART), 1 in the next.
    """
    count = len(stages)
    begins = [(i, cost.forward, i) for i, cost in enumerate(stages)]
    begins += [(2 * count - 2 - i + late, cost.total - cost.forward, i) for i, cost in enumerate(stages)]
    changes = sorted({start + end for start, _, _ in begins for end in (0, accumulation)})
    total = 0.0
    for now, following in zip(changes, changes[1:]):
        busy = [0.0] * count
        for start, cycles, stage in begins:
            if start <= now < start + accumulation:
                busy[stage] += cycles
        total += max(busy) * (following - now)
    return total


@dataclass(frozen=True)
class _Transfers:
    """The exchange of one micro-batch's inputs and results with the host, ``bytes`` on each replica."""

    settings: Settings
    target: Target
    bytes: float

    def seconds(self, accumulation: int, compute: float, idle: float, pipeline: bool) -> Tuple[float, float]:
        """Seconds of a weight update in which nothing else happens, and those that pass beside the computation.

        Args:
            compute: seconds of the update's micro-batches.
            idle: seconds that the first IPU of a pipeline waits for the slowest in each micro-batch.
        """
        if self.settings.synthetic_data:
            return 0.0, 0.0
        one = self.bytes / self.target.host_bytes_per_second_per_ipu
        whole = accumulation * one
        if self.settings.io_tiles:  # the first micro-batch has nothing before it to overlap with
            exposed_first = one if accumulation > 1 else one / self.settings.device_iterations
            exposed = min(whole, exposed_first + max(0.0, whole - exposed_first - compute))
        elif pipeline and self.settings.single_pipeline_sync:
            exposed = accumulation * max(0.0, one - idle)
        else:
            exposed = whole
        return exposed, whole - exposed

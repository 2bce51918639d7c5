"""Images per second of a run: pipeline, weight update, all-reduce over replicas, host transfers.

Every figure is in seconds or cycles of one IPU. The steps do not overlap: compute and exchange alternate on
an IPU (bulk-synchronous), and the public applications did not overlap host transfers with compute either.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

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
) -> Throughput:
    """:class:`Throughput` from the cycles of each IPU's micro-batch and its number of trainable weights."""
    accumulation = settings.gradient_accumulation if program.training else 1
    stages = len(stage_cycles)
    slowest = max(c.total for c in stage_cycles)
    if settings.schedule == "sharded":
        slowest = sum(c.total for c in stage_cycles)
    fill = stages - 1 if settings.schedule in ("pipelined", "grouped", "interleaved") else 0
    if not program.training:
        fill = 0  # inference pipelines stay full
    compute = slowest * (accumulation + fill) / target.clock_hz
    largest = max(trainable) if trainable else 0
    update = reduce = stream = 0.0
    if program.training:
        slots = OPTIMIZERS[settings.optimizer][0]
        vectors = math.ceil(largest / target.tiles * 4 / 8) * (2 + slots)
        update = (k.UPDATE_CYCLES * vectors + 40 * k.STEP_CYCLES) / target.clock_hz
        reduce = all_reduce_seconds(largest * settings.state_bytes, settings.replicas, target)
        if settings.optimizer_offload and target.streaming_bytes_per_second_per_ipu:
            share = 1.0 / settings.replicas if settings.replicated_tensor_sharding else 1.0
            moved = k.STREAM_PASSES * largest * slots * settings.state_bytes * share
            stream = moved / target.streaming_bytes_per_second_per_ipu
    inputs = sum(
        t.elements * (settings.input_bytes_per_element if t.floating else 4)
        for t in program.tensors
        if t.kind == "input"
    )
    host = accumulation * inputs / target.host_bytes_per_second_per_ipu
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
    )

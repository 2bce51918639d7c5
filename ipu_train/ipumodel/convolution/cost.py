"""From a convolution's plan to what it costs: cycles by kind, temporaries, vertex state, exchange code."""

from functools import lru_cache
from typing import List, Tuple

from .. import constants as k
from ..costs import OpCost
from ..target import Target
from .codelets import reduction_stages
from .evaluate import SLIC_BUFFER_BYTES, unplanned_cycles
from .params import ConvParams
from .plan import DEFAULT_OPTIONS, ConvPlan, PlanOptions, plan_pass

_SMALLEST_RUN_BYTES = 128.0


def vertex_state_bytes(plan: ConvPlan) -> float:
    """Work lists (three 16-bit numbers a row and tap) and one pointer for each channel group, per tile."""
    s = plan.sizes
    rows = max(1.0, s["worker_rows"] / 6.0)
    work_lists = s["taps"] * 6 * 6 * rows
    pointers = 4 * (s["in_groups"] + s["out_groups"] + s["in_groups"] * s["out_groups"]) * s["conv_groups"]
    return work_lists + pointers


def partial_bytes(plan: ConvPlan) -> float:
    """Bytes of a tile's partial sums; a sliding window has a second buffer of one group's, eight bytes off the first
    (``ConvVertices.cpp``, ``createConvPartialSlicVertex``).
    """
    held = plan.sizes["partials"] * (2 if plan.codelet.half_partials else 4)
    if plan.codelet.method != "slic":
        return held
    return held + held / plan.sizes["conv_groups"] + SLIC_BUFFER_BYTES + 8


def stages(plan: ConvPlan) -> List[float]:
    """Partial results of one output that each stage of summing them over tiles brings together."""
    return [float(stage) for stage in reduction_stages(plan.sizes["depth"]) if stage > 1]


def messages(plan: ConvPlan, target: Target, element_bytes: int) -> Tuple[float, float, float]:
    """How many pieces a tile receives: (of activations, of weights, of partials).

    Exchange code grows with the number of pieces, not with the bytes moved. A tensor lies evenly over the
    tiles, in runs of at least 128 bytes (poplibs ``mapTensorLinearly``), so a tile that reads a share of a
    tensor hears that share of the tiles that hold it. Each row of a channel group is a piece of its own, and so
    are the weights of each kernel position and pair of channel groups; where groups run as one, each of their weights
    lies between zeros.
    """
    p, s = plan.problem, plan.sizes
    inputs = float(p.groups * p.batch * p.ci * p.iy * p.ix)
    weights = float(p.groups * p.ci * p.co * p.ky * p.kx)

    def heard(read: float, whole: float) -> float:
        holders = min(target.tiles, max(1.0, whole * element_bytes / _SMALLEST_RUN_BYTES))
        return holders * min(1.0, read / whole)

    from_inputs = heard(s["inputs"], inputs) + s["input_rows"] * s["in_groups"] * s["conv_groups"]
    blocks = s["in_groups"] * s["out_groups"] * s["conv_groups"] * s["kernel_positions"]
    from_weights = heard(s["weights"], weights) + blocks
    if p.combined > 1:
        from_weights += 2 * s["weights"] / p.combined
    return from_inputs, from_weights, sum(stages(plan))


@lru_cache(maxsize=8192)
def conv_cost(
    params: ConvParams, pass_: str, target: Target, options: PlanOptions = DEFAULT_OPTIONS
) -> OpCost:
    """The :class:`OpCost` of one pass ("forward", "backward", "weights") of a layer on one IPU, cached by
    shape.
    """
    plan = plan_pass(params, pass_, target, options)
    element_bytes = 4 if options.float_inputs else 2
    activation_bytes = (params.input_elements + params.output_elements) * element_bytes
    weight_bytes = params.weight_elements * element_bytes
    c = plan.cycles
    # The weights are transposed before the backward pass and updated after the weights pass: half of it each.
    weight_share = 0.0 if pass_ == "forward" else 0.5
    moved = k.OPERAND_MOVE_CYCLES * activation_bytes / target.tiles * 2.0 / 3.0
    unplanned = unplanned_cycles(plan.problem, plan.codelet, plan.splits, plan.serial, target, options)
    moved += k.WEIGHT_MOVE_CYCLES * weight_share * weight_bytes / target.tiles
    return OpCost(
        cycles={
            "compute": c["compute"] + c["reduce"] + unplanned,
            "exchange": c["input_exchange"] + c["weight_exchange"] + c["reduce_exchange"],
            "rearrange": c["transform"] + moved + k.CONV_STEP_CYCLES,
            "sync": 0.0,
        },
        temporary_bytes=float(plan.temporary_bytes * plan.tiles) + k.OPERAND_COPY_SHARE * activation_bytes,
        vertex_state_bytes=k.VERTEX_STATE_SCALE * plan.tiles * vertex_state_bytes(plan),
        exchange_code_bytes=plan.tiles * k.MESSAGE_BYTES * sum(messages(plan, target, element_bytes)),
        control_code_bytes=plan.tiles * (k.CONV_PASS_BYTES + k.SUM_STAGE_BYTES * len(stages(plan))),
        codelets=frozenset({"conv_" + plan.codelet.method, "conv_reduce", "conv_copy"}),
        tiles=plan.tiles,
        flops=2.0 * params.macs,
    )

"""From a convolution's plan to what it costs: cycles by kind, temporaries, vertex state, exchange code."""

from functools import lru_cache

from ipu_train.ipumodel import constants as k
from ipu_train.ipumodel.conv_plan import PlanOptions, plan_pass
from ipu_train.ipumodel.costs import OpCost


def _vertex_state_bytes(plan):
    """Work lists (three 16-bit numbers a row, worker and tap) and one pointer for each channel group, per tile."""
    s = plan.sizes
    rows = max(1.0, s["worker_rows"] / 6.0)
    work_lists = s["taps"] * 6 * 6 * rows
    pointers = 4 * (s["in_groups"] + s["out_groups"] + s["in_groups"] * s["out_groups"]) * s["conv_groups"]
    return work_lists + pointers


def pass_operand_elements(params, pass_):
    """(activation-shaped elements read and written by a pass, weight elements)."""
    activations = params.input_elements + params.output_elements
    return activations, params.weight_elements


@lru_cache(maxsize=8192)
def conv_cost(params, pass_, target, options=PlanOptions()):
    """The :class:`OpCost` of one pass ("forward", "backward", "weights") of a layer, on one IPU, cached by shape."""
    plan = plan_pass(params, pass_, target, options)
    element_bytes = 4 if options.float_inputs else 2
    activations, weights = pass_operand_elements(params, pass_)
    activation_bytes = activations * element_bytes
    c = plan.cycles
    # The weights are transposed before the backward pass and updated after the weights pass: half of it each.
    weight_share = 0.0 if pass_ == "forward" else 0.5
    moved = k.OPERAND_MOVE_CYCLES * activation_bytes / target.tiles * 2.0 / 3.0
    moved += k.WEIGHT_MOVE_CYCLES * weight_share * weights * element_bytes / target.tiles
    temporary = plan.temporary_bytes * plan.tiles
    return OpCost(
        cycles={
            "compute": c["compute"] + c["reduce"],
            "exchange": c["input_exchange"] + c["weight_exchange"] + c["reduce_exchange"],
            "rearrange": c["transform"] + moved + k.CONV_STEP_CYCLES,
            "sync": 0.0,
        },
        temporary_bytes=k.TEMPORARY_SHARE * temporary + k.OPERAND_COPY_SHARE * activation_bytes,
        vertex_state_bytes=k.VERTEX_STATE_SCALE * plan.tiles * _vertex_state_bytes(plan),
        exchange_code_bytes=k.EXCHANGE_CODE_SHARE * temporary,
        control_code_bytes=0.0,
        codelets=frozenset({"conv_" + plan.codelet.method, "conv_reduce", "conv_copy"}),
        tiles=plan.tiles,
        flops=2.0 * params.macs,
    )

"""What each traced operation costs on an IPU, forward and backward."""

import math
from dataclasses import replace
from typing import Any, Dict, List, Tuple

from . import constants as k
from .convolution.cost import conv_cost
from .convolution.forms import PlanOptions
from .convolution.params import ConvParams, problem_of
from .convolution.plan import canonical
from .costs import OpCost, add
from .operators import Attributes
from .pooling import Pool, pool_cost
from .program import Operation
from .reduction import reduce_cost
from .target import Target

_TIMES_INPUT = {"silu", "silu_", "hardswish", "hardswish_", "mish", "mish_"}  # x f(x): f, then a product
_CHEAP = {
    "relu",
    "relu_",
    "neg",
    "neg_",
    "abs",
    "clamp",
    "clamp_",
    "clamp_min",
    "clamp_max",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "round",
    "floor",
    "sign",
    "threshold",
    "square",
}


def conv_params_of(attributes: Attributes) -> ConvParams:
    """:class:`ConvParams` of a traced convolution of one, two or three dimensions, transposed or not."""
    x, w = attributes["input"], attributes["weight"]
    groups = attributes["groups"]
    field, kernel = list(x[2:]), list(w[2:])
    stride, padding = list(attributes["stride"]), list(attributes["padding"])
    dilation = list(attributes["dilation"])
    batch, in_channels, out_channels = x[0], w[1], w[0] // groups
    input_dilation = [1] * len(field)
    if attributes["transposed"]:
        in_channels, out_channels = w[0] // groups, w[1]
        padding = [dilation[i] * (kernel[i] - 1) - padding[i] for i in range(len(field))]
        input_dilation, stride = stride, [1] * len(field)
    if len(field) == 3:  # depth becomes batch and its taps become channels: the same multiplications
        depth = (field[0] + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        batch, in_channels = batch * max(depth, 1), in_channels * kernel[0]
        field, kernel, stride, padding = field[1:], kernel[1:], stride[1:], padding[1:]
        dilation, input_dilation = dilation[1:], input_dilation[1:]
    if len(field) == 1:
        field, kernel, stride, padding = [1] + field, [1] + kernel, [1] + stride, [0] + padding
        dilation, input_dilation = [1] + dilation, [1] + input_dilation
    return ConvParams(
        batch,
        groups,
        in_channels,
        out_channels,
        (field[0], field[1]),
        (kernel[0], kernel[1]),
        (stride[0], stride[1]),
        (padding[0], padding[1]),
        (padding[0], padding[1]),
        (dilation[0], dilation[1]),
        (input_dilation[0], input_dilation[1]),
    )


def matmul_params_of(attributes: Attributes) -> ConvParams:
    """A matrix product as a one-tap convolution over its rows."""
    a = attributes
    return ConvParams(1, a["groups"], a["inner"], a["columns"], (1, a["rows"]), (1, 1))


def _vectors(elements: int, element_bytes: int, target: Target) -> int:
    return math.ceil(math.ceil(elements / target.tiles) * element_bytes / 8)


def _map(
    elements: int, element_bytes: int, target: Target, cycles: float, codelet: str, scale: float = 1.0
) -> OpCost:
    """An elementwise step: every tile works on what it holds."""
    tiles = target.tiles
    unary = codelet == "unary"
    return OpCost(
        cycles={
            "compute": k.STEP_CYCLES + cycles * _vectors(elements, element_bytes, target),
            "exchange": 0.0,
            "rearrange": 0.0,
            "sync": 0.0,
        },
        vertex_state_bytes=scale * (k.UNARY_STATE_BYTES if unary else k.BINARY_STATE_BYTES) * tiles,
        exchange_code_bytes=0.0 if unary else scale * k.BINARY_EXCHANGE_BYTES * tiles,
        control_code_bytes=scale * (k.UNARY_CONTROL_BYTES if unary else k.BINARY_CONTROL_BYTES) * tiles,
        codelets=frozenset({codelet}),
        tiles=tiles,
        flops=float(elements),
    )


def _copy(elements: int, element_bytes: int, target: Target) -> OpCost:
    per_tile = elements * element_bytes / target.tiles
    return OpCost(
        cycles={
            "compute": 0.0,
            "exchange": per_tile / 4,
            "rearrange": k.STEP_CYCLES + per_tile / 6,
            "sync": 0.0,
        },
        temporary_bytes=0.0,
        exchange_code_bytes=k.COPY_EXCHANGE_BYTES * target.tiles,
        control_code_bytes=k.UNARY_CONTROL_BYTES * target.tiles,
        codelets=frozenset({"copy"}),
        tiles=target.tiles,
    )


def _norm(attributes: Attributes, target: Target, element_bytes: int, backward: bool) -> OpCost:
    shape = attributes["in_shape"]
    elements = math.prod(shape)
    rate: float = k.NORM_BACKWARD_CYCLES if backward else k.NORM_FORWARD_CYCLES
    name = attributes["operator"]
    if "batch" in name:
        statistics = attributes["channels"]
    elif "group" in name or "activation" in attributes:
        statistics = shape[0] * attributes["groups"]
    else:
        statistics = max(1, elements // max(1, shape[-1]))
    # What a tile holds is of one sample, but may be of several groups, or of as many channels as lie together.
    together = attributes["groups"] if statistics == shape[0] * attributes["groups"] else min(statistics, 8)
    reduction = reduce_cost(elements, max(1, statistics), together, target, element_bytes)
    rounds = 2.0  # mean and variance forward; the two sums of the input gradient backward
    exchange, sync = rounds * reduction.cycles["exchange"], rounds * reduction.cycles["sync"]
    if not attributes.get("affine", True):
        # Without scale and shift (forward), without the product with the scale (backward): see these constants.
        rate *= 19.0 / 22.0 if backward else 10.0 / 16.0
    elif backward:  # their gradients: sums over all but the channels, both at once
        parameters = reduce_cost(
            elements, attributes["channels"], min(attributes["channels"], 8), target, element_bytes
        )
        exchange, sync = exchange + parameters.cycles["exchange"], sync + parameters.cycles["sync"]
    # A norm fused with its activation (kernels/estimates.py): as long as one after the other, with fewer compute sets.
    if attributes.get("activation") == "relu":
        rate += k.BINARY_CYCLES if backward else k.RECTIFIER_CYCLES
    elif "activation" in attributes:
        rate += k.TRANSCENDENTAL_CYCLES + (k.BINARY_CYCLES if backward else 0.0)
    cycles = {
        "compute": 6 * k.STEP_CYCLES + rate * _vectors(elements, element_bytes, target),
        "exchange": exchange,
        "rearrange": 0.0,
        "sync": sync,
    }
    # The product of gradient and whitened activation (backward), and the whitened activation itself, exist
    # for a while.
    return OpCost(
        cycles=cycles,
        temporary_bytes=(elements * element_bytes if backward else 0.0) + reduction.temporary_bytes,
        vertex_state_bytes=k.NORM_STATE_BYTES * target.tiles,
        exchange_code_bytes=k.NORM_EXCHANGE_BYTES * target.tiles,
        control_code_bytes=k.NORM_CONTROL_BYTES * target.tiles,
        codelets=frozenset({"norm", "reduce", "binary"}),
        tiles=target.tiles,
        flops=8.0 * elements,
    )


def _elementwise(op: Operation, target: Target, element_bytes: int, backward: bool) -> OpCost:
    a = op.attributes
    elements = max(a["out_elements"], 1)
    short = op.operator.split("::")[-1]
    if op.kind == "unary":
        rate: float = k.RECTIFIER_CYCLES if short in _CHEAP else k.TRANSCENDENTAL_CYCLES
        codelet = "unary"
        if backward:  # gradients read two tensors, and evaluate the function again unless the output was kept
            rate = k.BINARY_CYCLES if short in _CHEAP else k.BINARY_CYCLES + k.TRANSCENDENTAL_CYCLES
        if short in _TIMES_INPUT:
            rate += k.BINARY_CYCLES
    else:
        rate, codelet = k.BINARY_CYCLES, "binary"
        if backward:
            if short in ("add", "add_", "sub", "sub_", "rsub"):
                return _broadcast_gradient(op, target, element_bytes, OpCost(cycles={"compute": 0.0}))
            cost = _map(elements, element_bytes, target, rate * max(1, len(op.differentiable)), codelet)
            return _broadcast_gradient(op, target, element_bytes, add([cost, _broadcast(a)]))
        return add([_map(elements, element_bytes, target, rate, codelet), _broadcast(a)])
    return _map(elements, element_bytes, target, rate, codelet)


def _broadcast(a: Attributes) -> OpCost:
    """An operand smaller than the result goes to every tile in an exchange of its own, as a stage of a reduction."""
    smaller = a["out_elements"] < a["in_elements"] < 2 * a["out_elements"]
    return OpCost(cycles={"exchange": k.REDUCE_STEP_CYCLES}) if smaller else OpCost()


def _broadcast_gradient(op: Operation, target: Target, element_bytes: int, cost: OpCost) -> OpCost:
    """A factor or summand smaller than the result collects its gradient by a reduction."""
    a = op.attributes
    small = a["in_elements"] < 2 * a["out_elements"] and len(op.differentiable) > 1
    if not small:
        return cost
    outputs = max(1, a["in_elements"] - a["out_elements"])
    return add([cost, reduce_cost(a["out_elements"], outputs, min(outputs, 8), target, element_bytes)])


def _pool(a: Attributes, target: Target, element_bytes: int, backward: bool) -> OpCost:
    shape, out = a["in_shape"], a["shape"]
    dims = len(a["kernel"])
    batch = math.prod(shape[: len(shape) - dims - 1]) or 1
    field, out_field = tuple(shape[-dims:]), tuple(out[-dims:])
    if field == tuple(a["kernel"]) and math.prod(out_field) == 1 and not (backward and a["maximum"]):
        # A window that is the whole field is a reduction, and its gradient is broadcast (popnn/Pooling.cpp).
        elements, left = math.prod(shape), math.prod(out)
        if backward:
            return _copy(elements, element_bytes, target)
        return reduce_cost(elements, left, min(left, 8), target, element_bytes)
    flat = (1,) * (2 - dims)
    pool = Pool(
        batch,
        shape[-dims - 1],
        flat + field,
        flat + tuple(a["kernel"]),
        flat + tuple(a["stride"]),
        flat + out_field,
        element_bytes,
        a["maximum"],
    )
    return pool_cost(pool, ("backward",) if backward else ("forward",), target)


def estimate(
    op: Operation,
    target: Target,
    options: PlanOptions,
    element_bytes: int,
    backward: bool = False,
    input_gradient: bool = True,
) -> OpCost:
    """:class:`OpCost` of one traced operation, forward or backward.

    Args:
        op: the operation; its kind decides the estimator, unknown kinds count as elementwise over all operands.
        options: the planner's options (:class:`~ipu_train.ipumodel.convolution.forms.PlanOptions`).
        element_bytes: width of activations.
        backward: the gradient operation instead of the operation.
        input_gradient: False where the first operand needs no gradient (first layer): no backward-data pass.
    """
    a = op.attributes
    if op.kind in ("conv", "matmul"):
        params = conv_params_of(a) if op.kind == "conv" else matmul_params_of(a)
        if not backward:
            passes = ["forward"]
        else:
            passes = (["backward"] if input_gradient else []) + ["weights"]
        # Part of what a single layer's program does beside its passes, a network does layer by layer.
        around = OpCost(cycles={"sync": k.NETWORK_LAYER_CYCLES / 3.0 * len(passes)})
        costs = [conv_cost(params, p, target, options) for p in passes]
        cost = add(costs + [around])
        if op.kind != "conv":
            return cost
        names = [("conv", canonical(problem_of(params, p))) for p in passes]
        return replace(cost, parts=tuple(zip(names, costs)))
    if op.kind == "norm":
        return _norm(a, target, element_bytes, backward)
    if op.kind == "pool":
        return _pool(a, target, element_bytes, backward)
    if op.kind == "reduce":
        if backward:
            return _copy(a["in_elements"], element_bytes, target)
        outputs = max(1, a["out_elements"])
        return reduce_cost(max(a["in_elements"], 1), outputs, min(outputs, 8), target, element_bytes)
    if op.kind in ("softmax", "loss"):
        cost = _map(max(a["in_elements"], 1), 4, target, 4 * k.TRANSCENDENTAL_CYCLES, "softmax")
        return add(
            [
                cost,
                reduce_cost(
                    max(a["in_elements"], 1), max(1, a["shape"][0] if a["shape"] else 1), 1, target, 4
                ),
            ]
        )
    if op.kind == "dropout":
        return _map(a["out_elements"], element_bytes, target, k.TRANSCENDENTAL_CYCLES, "unary")
    if op.kind == "copy":
        return _copy(a["out_elements"], element_bytes, target)
    if op.kind == "fill":
        return _map(a["out_elements"] if not backward else 0, element_bytes, target, 1.0, "unary")
    if op.kind == "unknown":
        return _map(
            a["in_elements"] + a["out_elements"], element_bytes, target, k.TRANSCENDENTAL_CYCLES, "binary"
        )
    return _elementwise(op, target, element_bytes, backward)


def code_of(op: Operation, cost: OpCost, backward: bool, again: bool = False) -> List[Tuple[Any, OpCost]]:
    """(name, cost) of the pieces of code of one run of an operation; what has one name is there once.

    The gradient of a convolution's input is a convolution of weights with their channels exchanged and their kernel
    turned, so that it is the same code as a convolution forward of its sizes (PopART, ``ConvDataGradPattern``;
    TensorFlow, ``ConvBwdInputToFwdWeightsTranspose``).

    Args:
        cost: of the run, from :func:`estimate`.
        again: the operation is one that PopART runs again in the backward pass; its outliner matches it only with
            others of which that is true (``Op::appendOutlineAttributes``).
    """
    if cost.parts:
        return [((name, again), part) for name, part in cost.parts]
    return [((signature(op, backward), again), cost)]


# By what an operation is, whatever stage it is in; with its attributes, so that their id stays theirs.
_signatures: Dict[Tuple[Any, ...], Tuple[Attributes, Tuple[Any, ...]]] = {}
_MOST_SIGNATURES = 20_000


def signature(op: Operation, backward: bool) -> Tuple[Any, ...]:
    """What makes two operations the same code for the compiler: it outlines equal ones."""
    key = (id(op.attributes), op.kind, op.operator, backward, len(op.differentiable))
    known = _signatures.get(key)
    if known is None:
        if len(_signatures) >= _MOST_SIGNATURES:
            _signatures.clear()
        known = _signatures[key] = (op.attributes, _signature(op, backward))
    return known[1]


def _signature(op: Operation, backward: bool) -> Tuple[Any, ...]:
    a = op.attributes
    parts = [op.kind, op.operator, backward, a.get("in_shape"), a.get("shape"), len(op.differentiable)]
    parts += [
        a.get(n)
        for n in ("weight", "stride", "padding", "dilation", "groups", "rows", "inner", "columns", "kernel")
    ]
    return tuple(parts)

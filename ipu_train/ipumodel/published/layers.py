"""Single layers, as Graphcore's public layer benchmarks describe them: text parameters in, cycles and bytes
out.

A row names a tool (``conv``, ``oct_conv``, ``pooling``, ``reduction``, ``fc``) and its parameters in the
words of the poplibs command-line tools. The convolution and fully connected tools run the forward, the
backward and the weight update pass in one program unless told one phase; data is half, partials float,
available memory proportion 0.6 and host transfers do not count, unless the parameters say otherwise.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .. import constants as k
from ..convolution.cost import conv_cost, partial_bytes
from ..convolution.params import PASSES, ConvParams
from ..convolution.plan import PlanOptions, plan_pass
from ..costs import OpCost, add
from ..pooling import Pool, pool_cost
from ..reduction import reduce_cost
from ..target import Target
from .parameters import Pair, Reader, Unsupported

Cost = Tuple[float, float, float]  # cycles, bytes over all tiles, bytes on the worst tile


@dataclass(frozen=True)
class LayerPrediction:
    """``cycles`` of the whole program; bytes over all tiles and on the worst tile, gaps included; ``note``
    remarks.
    """

    cycles: int
    total_bytes: int
    max_tile_bytes: int
    note: str = ""


_PHASES = {
    "all": PASSES,
    "fwd": ("forward",),
    "forward": ("forward",),
    "bwd": ("backward",),
    "backward": ("backward",),
    "wu": ("weights",),
}
# Tensors beyond this are no layer of an IPU, whose memory is under 2**30 bytes, and take the planner minutes.
_MOST_ELEMENTS = 2**34


def _plan_options(r: Reader) -> PlanOptions:
    text = r.get("convolution-options", "matmul-options", "conv-options", default="") or ""
    float_inputs = r.is_float("data-type", "input-type")
    r.get("input-type"), r.get("output-type")
    half_partials = not r.is_float("partials-type", default="float")
    found = re.search(r"partialsType\W+(\w+)", text)
    if found:
        half_partials = found.group(1).lower() in ("half", "float16")
    proportion = re.search(r"availableMemoryProportion[^\w.+-]+([\w.+-]+)", text)
    share = 0.6
    if proportion:
        try:
            share = float(proportion.group(1))
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise Unsupported(
                f"option availableMemoryProportion: {proportion.group(1)!r} is not a number from 0 to 1"
            )
    return PlanOptions(
        available_memory_proportion=share,
        half_partials=half_partials and not float_inputs,  # float data has float partials whatever is asked
        float_inputs=float_inputs,
    )


def _phases(r: Reader, default: Sequence[str] = PASSES) -> Sequence[str]:
    if r.flag("inference-only"):
        return ("forward",)
    phase = r.get("single-phase", "phase", "phases", "pass", default=None)
    if phase is None:
        return default
    if phase.lower() not in _PHASES:
        raise Unsupported(f"parameter single-phase: {phase!r} is none of {', '.join(_PHASES)}")
    return _PHASES[phase.lower()]


def conv_params(r: Reader) -> ConvParams:
    """The layer of a convolution row."""
    dimensions, field = r.field()
    lower, upper = r.bounds("padding", dimensions)
    cut_lower, cut_upper = r.bounds("truncation", dimensions)
    input_dilation = r.pair("in-dilation", default=(1, 1), dimensions=dimensions, least=1)
    return ConvParams(
        batch=r.whole("batch-size", default=1, least=1),
        groups=r.whole("conv-groups", default=1, least=1),
        in_channels=r.whole("input-channels", least=1),
        out_channels=r.whole("output-channels", least=1),
        field=field,
        kernel=r.pair("kernel-size", "kernel", default=(1, 1), dimensions=dimensions, least=1),
        stride=r.pair("stride", default=(1, 1), dimensions=dimensions, least=1),
        # What is cut off the input before it is dilated is negative padding of the dilated input.
        padding_lower=_less(lower, cut_lower, input_dilation),
        padding_upper=_less(upper, cut_upper, input_dilation),
        dilation=r.pair("kernel-dilation", default=(1, 1), dimensions=dimensions, least=1),
        input_dilation=input_dilation,
    ).check()


def _less(padding: Pair, cut: Pair, dilation: Pair) -> Pair:
    return padding[0] - cut[0] * dilation[0], padding[1] - cut[1] * dilation[1]


def conv_program(
    layers: Sequence[ConvParams],
    target: Target,
    options: PlanOptions,
    passes: Sequence[str] = PASSES,
    program_cycles: Optional[float] = None,
    program_bytes: Optional[float] = None,
    calls_once_more: bool = False,
) -> Cost:
    """(cycles, total bytes, worst tile bytes) of one program that trains ``layers`` (several: one after the
    other).

    Args:
        calls_once_more: the backward pass of a single layer calls the forward pass's code where both are the same
            convolution (``enable-convolution-reuse`` of poplibs' ``single_conv_layer``).
    """
    program_cycles = k.CONV_PROGRAM_CYCLES if program_cycles is None else program_cycles
    program_bytes = k.LAYER_PROGRAM_BYTES if program_bytes is None else program_bytes
    element_bytes = 4 if options.float_inputs else 2
    costs = [conv_cost(p, pass_, target, options) for p in layers for pass_ in passes]
    if calls_once_more and len(passes) > 1 and layers[0].symmetric:
        copied = (layers[0].input_elements + layers[0].weight_elements) * element_bytes
        costs = [_called(cost, pass_, copied) for cost, pass_ in zip(costs, passes)]
    whole = add(costs)
    copies = len(passes) / 3.0
    tensors = 0.0
    for p in layers:
        tensors += (p.input_elements + p.output_elements) * element_bytes * (2 if len(passes) > 1 else 1)
        tensors += k.WEIGHT_COPIES * copies * p.weight_elements * element_bytes
    used = max(c.tiles for c in costs)
    total = tensors + whole.temporary_bytes + whole.code_bytes + program_bytes * used
    partials = max(partial_bytes(plan_pass(p, pass_, target, options)) for p in layers for pass_ in passes)
    worst = max(
        target.interleaved_region_starts_at + partials + k.INTERLEAVED_HEADER_BYTES,
        k.WORST_TILE_SHARE * total / target.tiles,
    )
    return whole.total_cycles + program_cycles * copies, total, worst


def _called(cost: OpCost, pass_: str, copied: int) -> OpCost:
    """A pass whose code is called by forward and backward pass, with ``copied`` bytes of operands."""
    if pass_ == "weights":
        return cost
    called = replace(cost, temporary_bytes=cost.temporary_bytes + copied)
    if pass_ == "forward":
        return called
    return replace(called, vertex_state_bytes=0.0, exchange_code_bytes=0.0, control_code_bytes=0.0)


def octave_layers(params: ConvParams, share_in: float, share_out: float) -> List[ConvParams]:
    """The four (or fewer) convolutions between high and low frequency channels (Chen et al. 2019, arXiv
    1904.05049).
    """
    low_in = round(params.in_channels * share_in)
    low_out = round(params.out_channels * share_out)
    high_in, high_out = params.in_channels - low_in, params.out_channels - low_out
    half = (math.ceil(params.field[0] / 2), math.ceil(params.field[1] / 2))
    paths = [
        (high_in, high_out, params.field),
        (low_in, low_out, half),
        (high_in, low_out, half),
        (low_in, high_out, half),
    ]
    return [replace(params, in_channels=i, out_channels=o, field=f) for i, o, f in paths if i and o]


def _conv(r: Reader, target: Target) -> Cost:
    layer = conv_params(r)
    _of_an_ipu(layer.input_elements, layer.output_elements, layer.weight_elements)
    return conv_program([layer], target, _plan_options(r), _phases(r), calls_once_more=True)


def _octave(r: Reader, target: Target) -> Cost:
    alpha = str(r.share("alpha", default="0"))
    share_in, share_out = r.share("alpha-in", default=alpha), r.share("alpha-out", default=alpha)
    layers = [layer.check() for layer in octave_layers(conv_params(r), share_in, share_out)]
    for layer in layers:
        _of_an_ipu(layer.input_elements, layer.output_elements, layer.weight_elements)
    return conv_program(layers, target, _plan_options(r), _phases(r))


def _fully_connected(r: Reader, target: Target) -> Cost:
    layer = ConvParams(
        batch=1,
        groups=r.whole("num-groups", "groups", default=1, least=1),
        in_channels=r.whole("input-size", least=1),
        out_channels=r.whole("output-size", least=1),
        field=(1, r.whole("batch-size", default=1, least=1)),
        kernel=(1, 1),
    )
    _of_an_ipu(layer.input_elements, layer.output_elements, layer.weight_elements)
    return conv_program(
        [layer], target, _plan_options(r), _phases(r), k.FC_PROGRAM_CYCLES, k.FC_PROGRAM_BYTES
    )


def _pooling(r: Reader, target: Target) -> Cost:
    dimensions, field = r.field()
    # Left out, kernel and stride are 1, as in the tool.
    kernel = r.pair("kernel", "kernel-size", default=(1, 1), dimensions=dimensions, least=1)
    stride = r.pair("stride", default=(1, 1), dimensions=dimensions, least=1)
    lower, upper = r.bounds("padding", dimensions)
    out = [(field[i] + lower[i] + upper[i] - kernel[i]) // stride[i] + 1 for i in range(2)]
    if min(out) < 1:
        raise Unsupported(f"a pool of {kernel} has no output on a field of {field}")
    element_bytes = r.element_bytes("data-type")
    phases = _phases(r)
    passes = ("forward", "backward") if len(phases) > 1 else phases
    r.get("bwd-chans-per-group")
    kind = r.get("pooling-type", "type", default="max").lower()
    if kind not in ("max", "avg", "average", "sum"):
        raise Unsupported(f"parameter pooling-type: {kind!r} is none of max, avg, sum")
    batch, channels = r.whole("batch-size", default=1, least=1), r.whole("channels", least=1)
    _of_an_ipu(batch * channels * math.prod(field), batch * channels * math.prod(out))
    # Left out, channels lie in sixteens where they can, as in the tool.
    lies_in = r.whole("fwd-chans-per-group", default=1 if channels % 16 else 16, least=1)
    pool = Pool(batch, channels, field, kernel, stride, (out[0], out[1]), element_bytes, kind == "max")
    cost = pool_cost(pool, passes, target, lies_in)
    elements = batch * channels * (math.prod(field) + math.prod(out))
    total = len(passes) * elements * element_bytes + cost.temporary_bytes + cost.code_bytes
    worst = max(
        k.MEMORY_ELEMENT_BYTES + 0.5 * total / target.tiles, k.WORST_TILE_SHARE * total / target.tiles
    )
    return cost.total_cycles, total, worst


def _reduction(r: Reader, target: Target) -> Cost:
    shape, dims = r.numbers("shape"), r.numbers("dims")
    if shape is None or dims is None or min(shape) < 1:
        raise Unsupported("a reduction needs a shape and dims")
    _of_an_ipu(math.prod(shape))
    if not all(-len(shape) <= d < len(shape) for d in dims):
        raise Unsupported(f"dims {dims} are not dimensions of a tensor of shape {shape}")
    dims = [d % len(shape) for d in dims]
    element_bytes = r.element_bytes("type", "data-type")
    operation = r.get("operation", default="ADD").upper().replace("-", "_")
    if operation not in _REDUCTIONS:
        raise Unsupported(f"parameter operation: {operation!r} is none of {', '.join(_REDUCTIONS)}")
    for name in ("scale", "update", "out-type", "withoutput", "computesetapi"):
        r.get(name)
    tiles = r.whole("tiles-per-ipu", default=target.tiles, least=1)
    inputs = math.prod(shape)
    outputs = inputs // math.prod(shape[d] for d in set(dims))
    inner = _outputs_of_run(shape, dims, math.ceil(inputs / min(tiles, target.tiles)))
    strided = len(set(dims)) > 1 or operation == "SQUARE_ADD"
    cost = reduce_cost(inputs, outputs, inner, target, element_bytes, strided, tiles)
    total = (inputs + outputs) * element_bytes + cost.code_bytes + cost.temporary_bytes
    holds = math.ceil(inputs / min(tiles, target.tiles)) * element_bytes
    # Partial sums over one dimension are placed beyond the first memory element; small two-dimensional ones
    # are not.
    worst = k.MEMORY_ELEMENT_BYTES if len(set(dims)) == 1 else holds
    return cost.total_cycles, total, worst + k.WORST_TILE_SHARE * (total / target.tiles - holds / 2) * 0.5


def _outputs_of_run(shape: Sequence[int], dims: Sequence[int], elements: int) -> int:
    """To how many outputs a run of neighbouring elements belongs, as a tile holds one."""
    found = 1
    for axis in reversed(range(len(shape))):
        if axis not in dims:
            found *= min(shape[axis], elements)
        elements = math.ceil(elements / shape[axis])
    return found


_REDUCTIONS = ("ADD", "SQUARE_ADD", "MUL", "MIN", "MAX", "LOGICAL_AND", "LOGICAL_OR", "LOG_ADD")


def _of_an_ipu(*elements: int) -> None:
    if max(elements) > _MOST_ELEMENTS:
        raise Unsupported(f"a tensor of {max(elements):,} elements is beyond any IPU's memory")


_TOOLS: Dict[str, Callable[[Reader, Target], Cost]] = {
    "conv": _conv,
    "oct_conv": _octave,
    "octconv": _octave,
    "fc": _fully_connected,
    "fully_connected": _fully_connected,
    "pooling": _pooling,
    "pool": _pooling,
    "reduction": _reduction,
    "reduce": _reduction,
}


def predict_layer(tool: Any, parameters: Optional[str], target: Target) -> LayerPrediction:
    """:class:`LayerPrediction` of one benchmark row; raises :class:`Unsupported` with the reason."""
    run = _TOOLS.get(str(tool).strip().lower().replace("-", "_").replace(" ", "_"))
    if run is None:
        raise Unsupported(f"tool {tool!r} is not modelled; modelled are {', '.join(sorted(_TOOLS))}")
    reader = Reader(parameters)
    if reader.whole("ipus", default=1, least=1) > 1:
        raise Unsupported("a layer over more than one IPU is not modelled")
    if run is not _reduction and "tiles-per-ipu" in reader.values:
        target = replace(target, tiles=min(target.tiles, reader.whole("tiles-per-ipu", least=1)))
    try:
        cycles, total, worst = run(reader, target)
    except Unsupported:
        raise
    except ValueError as error:
        raise Unsupported(str(error)) from None
    ignored = reader.ignored()
    note = f"ignored parameters: {', '.join(ignored)}" if ignored else ""
    return LayerPrediction(round(cycles), round(total), round(worst), note)

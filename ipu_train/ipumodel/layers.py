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

from ipu_train.ipumodel import constants as k
from ipu_train.ipumodel.conv_cost import conv_cost
from ipu_train.ipumodel.conv_params import PASSES, ConvParams
from ipu_train.ipumodel.conv_plan import PlanOptions, plan_pass
from ipu_train.ipumodel.costs import add
from ipu_train.ipumodel.pooling import pool_cost
from ipu_train.ipumodel.reduction import reduce_cost


class Unsupported(ValueError):
    """The layer is of a kind this model has no estimate for; the message says which and why."""


@dataclass(frozen=True)
class LayerPrediction:
    """``cycles`` of the whole program; bytes over all tiles and on the worst tile, gaps included; ``note``
    remarks.
    """

    cycles: int
    total_bytes: int
    max_tile_bytes: int
    note: str = ""


_PHASES = {"all": PASSES, "fwd": ("forward",), "bwd": ("backward",), "wu": ("weights",)}
# Parameters of the tools that change neither the program's cycles nor its memory.
_HARMLESS = {
    *("ignore-data", "tolerance", "device-type", "profile", "profile-dir", "use-unstable-format", "seed"),
    *("verbose", "plan-only", "report-plan", "show-execution-steps", "show-var-storage", "test-case", "bias"),
    *("debug", "ipus"),
}


def parse_parameters(text):
    """``name=value`` words (with or without leading dashes; ``{a,b}`` and quoted braces are one value) as a
    dict.
    """
    found = {}
    for name, value in re.findall(r"-{0,2}([\w-]+)[= ](\{[^}]*\}|\"[^\"]*\"|'[^']*'|\S+)", text or ""):
        found[name] = value.strip("\"'")
    return found


def _numbers(value):
    return [int(v) for v in re.findall(r"-?\d+", value)]


class _Reader:
    """Takes named values out of the parameters and remembers which were never asked for."""

    def __init__(self, text):
        self.values = parse_parameters(text)
        self.used = set()

    def get(self, *names, default=None):
        for name in names:
            if name in self.values:
                self.used.add(name)
                return self.values[name]
        return default

    def whole(self, *names, default=None):
        value = self.get(*names)
        if value is None:
            if default is None:
                raise Unsupported(f"parameter {names[0]} is missing")
            return default
        numbers = _numbers(value)
        if not numbers:
            raise Unsupported(f"parameter {names[0]}: {value!r} is not a whole number")
        return numbers[0]

    def pair(self, *names, default):
        value = self.get(*names)
        if value is None:
            return default
        numbers = _numbers(value)
        if len(numbers) not in (1, 2):
            raise Unsupported(
                f"parameter {names[0]}: only one- and two-dimensional layers are modelled, not {value}"
            )
        return (numbers[0], numbers[-1]) if len(numbers) == 2 else (numbers[0], numbers[0])

    def flag(self, *names):
        return str(self.get(*names, default="false")).lower() in ("1", "true", "yes", "on")

    def ignored(self):
        return sorted(set(self.values) - self.used - _HARMLESS)


def _plan_options(r):
    text = r.get("convolution-options", "matmul-options", "conv-options", default="") or ""
    data = r.get("data-type", "input-type", default="half")
    r.get("output-type")
    partials = r.get("partials-type", default="float")
    found = re.search(r"partialsType\W+(\w+)", text)
    partials = found.group(1) if found else partials
    proportion = re.search(r"availableMemoryProportion\W+([0-9.]+)", text)
    return PlanOptions(
        available_memory_proportion=float(proportion.group(1)) if proportion else 0.6,
        half_partials=partials.lower().startswith("half"),
        float_inputs=data.lower().startswith("float"),
    )


def _phases(r, default=PASSES):
    if r.flag("inference-only"):
        return ("forward",)
    phase = r.get("single-phase", "phase", default=None)
    if phase is None:
        return default
    if phase.lower() not in _PHASES:
        raise Unsupported(f"parameter single-phase: {phase!r} is none of {', '.join(_PHASES)}")
    return _PHASES[phase.lower()]


def conv_params(r):
    """The layer of a convolution row."""
    padding = r.pair("padding", default=(0, 0))
    if len(_numbers(r.values.get("field", "1,1"))) == 1:
        return _conv_params_1d(r)
    return ConvParams(
        batch=r.whole("batch-size", default=1),
        groups=r.whole("conv-groups", default=1),
        in_channels=r.whole("input-channels"),
        out_channels=r.whole("output-channels"),
        field=r.pair("field", default=(1, 1)),
        kernel=r.pair("kernel-size", default=(1, 1)),
        stride=r.pair("stride", default=(1, 1)),
        padding_lower=r.pair("padding-lower", default=padding),
        padding_upper=r.pair("padding-upper", default=padding),
        dilation=r.pair("kernel-dilation", default=(1, 1)),
        input_dilation=r.pair("in-dilation", default=(1, 1)),
    ).check()


def _conv_params_1d(r):
    """A convolution over one dimension is one over two with a single row."""
    padding = r.whole("padding", default=0)
    return ConvParams(
        batch=r.whole("batch-size", default=1),
        groups=r.whole("conv-groups", default=1),
        in_channels=r.whole("input-channels"),
        out_channels=r.whole("output-channels"),
        field=(1, r.whole("field")),
        kernel=(1, r.whole("kernel-size", default=1)),
        stride=(1, r.whole("stride", default=1)),
        padding_lower=(0, r.whole("padding-lower", default=padding)),
        padding_upper=(0, r.whole("padding-upper", default=padding)),
        dilation=(1, r.whole("kernel-dilation", default=1)),
        input_dilation=(1, r.whole("in-dilation", default=1)),
    ).check()


def conv_program(
    layers,
    target,
    options,
    passes=PASSES,
    program_cycles=k.CONV_PROGRAM_CYCLES,
    program_bytes=k.LAYER_PROGRAM_BYTES,
):
    """(cycles, total bytes, worst tile bytes) of one program that trains ``layers`` (several: one after the
    other).
    """
    element_bytes = 4 if options.float_inputs else 2
    costs = [conv_cost(p, pass_, target, options) for p in layers for pass_ in passes]
    whole = add(costs)
    copies = len(passes) / 3.0
    tensors = 0.0
    for p in layers:
        tensors += (p.input_elements + p.output_elements) * element_bytes * (2 if len(passes) > 1 else 1)
        tensors += k.WEIGHT_COPIES * copies * p.weight_elements * element_bytes
    used = max(c.tiles for c in costs)
    total = tensors + whole.temporary_bytes + whole.code_bytes + program_bytes * used
    partials = max(
        plan_pass(p, pass_, target, options).sizes["partials"] * (2 if options.half_partials else 4)
        for p in layers
        for pass_ in passes
    )
    worst = max(
        target.interleaved_region_starts_at + partials + k.INTERLEAVED_HEADER_BYTES,
        k.WORST_TILE_SHARE * total / target.tiles,
    )
    return whole.total_cycles + program_cycles * copies, total, worst


def octave_layers(params, share_in, share_out):
    """The four (or fewer) convolutions between high and low frequency channels (Chen et al. 2019, arXiv
    1904.05049).
    """
    low_in = round(params.in_channels * share_in)
    low_out = round(params.out_channels * share_out)
    high_in, high_out = params.in_channels - low_in, params.out_channels - low_out
    half = tuple(math.ceil(f / 2) for f in params.field)
    paths = [
        (high_in, high_out, params.field),
        (low_in, low_out, half),
        (high_in, low_out, half),
        (low_in, high_out, half),
    ]
    return [replace(params, in_channels=i, out_channels=o, field=f) for i, o, f in paths if i and o]


def _conv(r, target):
    return conv_program([conv_params(r)], target, _plan_options(r), _phases(r))


def _octave(r, target):
    alpha = float(r.get("alpha", default="0"))
    share_in = float(r.get("alpha-in", default=str(alpha)))
    share_out = float(r.get("alpha-out", default=str(alpha)))
    layers = octave_layers(conv_params(r), share_in, share_out)
    return conv_program(layers, target, _plan_options(r), _phases(r))


def _fully_connected(r, target):
    layer = ConvParams(
        batch=1,
        groups=r.whole("groups", "num-groups", default=1),
        in_channels=r.whole("input-size"),
        out_channels=r.whole("output-size"),
        field=(1, r.whole("batch-size", default=1)),
        kernel=(1, 1),
    )
    return conv_program(
        [layer], target, _plan_options(r), _phases(r), k.FC_PROGRAM_CYCLES, k.FC_PROGRAM_BYTES
    )


def _pooling(r, target):
    field, kernel = r.pair("field", default=None), r.pair("kernel", "kernel-size", default=(2, 2))
    if field is None:
        raise Unsupported("parameter field is missing")
    stride = r.pair("stride", default=kernel)
    padding = r.pair("padding", default=(0, 0))
    lower, upper = r.pair("padding-lower", default=padding), r.pair("padding-upper", default=padding)
    out = tuple((field[i] + lower[i] + upper[i] - kernel[i]) // stride[i] + 1 for i in range(2))
    if min(out) < 1:
        raise Unsupported(f"a pool of {kernel} has no output on a field of {field}")
    element_bytes = 4 if r.get("data-type", default="half").startswith("float") else 2
    passes = 1 if r.flag("inference-only") or r.get("single-phase", default="all") == "fwd" else 2
    grouped = r.whole("fwd-chans-per-group", default=8) % 8 == 0
    r.get("pooling-type", "type", "bwd-chans-per-group")
    batch, channels = r.whole("batch-size", default=1), r.whole("channels")
    cost = pool_cost(batch, channels, field, kernel, stride, out, target, element_bytes, passes, grouped)
    elements = batch * channels * (math.prod(field) + math.prod(out))
    total = passes * elements * element_bytes + cost.temporary_bytes + cost.code_bytes
    worst = max(
        k.MEMORY_ELEMENT_BYTES + 0.5 * total / target.tiles, k.WORST_TILE_SHARE * total / target.tiles
    )
    return cost.total_cycles, total, worst


def _reduction(r, target):
    shape = _numbers(r.get("shape", default=""))
    dims = _numbers(r.get("dims", default=""))
    if not shape or not dims or min(shape) < 1:
        raise Unsupported("a reduction needs a shape and dims")
    if not all(-len(shape) <= d < len(shape) for d in dims):
        raise Unsupported(f"dims {dims} are not dimensions of a tensor of shape {shape}")
    dims = [d % len(shape) for d in dims]
    element_bytes = 4 if r.get("type", "data-type", default="half").startswith("float") else 2
    operation = r.get("operation", default="ADD").upper()
    r.get("scale"), r.get("update"), r.get("out-type")
    tiles = r.whole("tiles-per-ipu", default=target.tiles)
    inputs = math.prod(shape)
    outputs = inputs // math.prod(shape[d] for d in set(dims))
    inner = math.prod(shape[max(dims) + 1 :])
    strided = len(set(dims)) > 1 or operation == "SQUARE_ADD"
    cost = reduce_cost(inputs, outputs, max(inner, 1), target, element_bytes, strided, tiles)
    total = (inputs + outputs) * element_bytes + cost.code_bytes + cost.temporary_bytes
    holds = math.ceil(inputs / min(tiles, target.tiles)) * element_bytes
    # Partial sums over one dimension are placed beyond the first memory element; small two-dimensional ones
    # are not.
    worst = k.MEMORY_ELEMENT_BYTES if len(set(dims)) == 1 else holds
    return cost.total_cycles, total, worst + k.WORST_TILE_SHARE * (total / target.tiles - holds / 2) * 0.5


_TOOLS = {
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


def predict_layer(tool, parameters, target):
    """:class:`LayerPrediction` of one benchmark row; raises :class:`Unsupported` with the reason."""
    run = _TOOLS.get(str(tool).strip().lower())
    if run is None:
        raise Unsupported(f"tool {tool!r} is not modelled; modelled are {', '.join(sorted(_TOOLS))}")
    reader = _Reader(parameters)
    if reader.whole("ipus", default=1) > 1:
        raise Unsupported("a layer over more than one IPU is not modelled")
    if run is not _reduction and "tiles-per-ipu" in reader.values:
        target = replace(target, tiles=min(target.tiles, reader.whole("tiles-per-ipu")))
    try:
        cycles, total, worst = run(reader, target)
    except Unsupported:
        raise
    except ValueError as error:
        raise Unsupported(str(error)) from None
    ignored = reader.ignored()
    note = f"ignored parameters: {', '.join(ignored)}" if ignored else ""
    return LayerPrediction(round(cycles), round(total), round(worst), note)

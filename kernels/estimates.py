"""Cycles on an IPU, on paper: the fused operator beside what would run without it.

Everything is counted alike, for activations of half in channel groups (as a convolution leaves them), evenly spread:
the busiest tile's vertices, 90 cycles to synchronise for each compute set and a byte of exchange for a quarter of a
cycle. For popops' and popnn's vertices the cycles are those of their own published estimators (poplibs 3.4,
``popopsCycleEstimators.cpp``, ``popnn/PerformanceEstimation.hpp``, ``reduction/CycleEstimationFunctions.cpp``), which
describe hand-written assembler, on its fastest path throughout; which vertices run is read off ``popnn/GroupNorm.cpp``,
``poplin/Norms.cpp`` and PopART's ``groupnormx.cpp``. For the operator's own vertices they are those of
``proxy_norm/cycles.hpp``, which take the compiler to fill every bundle. None of this was timed.
"""

import math
from typing import Dict, NamedTuple, Tuple

TILES = 1472
WORKERS = 6
SYNC = 90
VECTOR = 4  # halves in 64 bits

# Bundles a 64-bit vector, and bundles of a worker and cycles of a vertex beside the loop.
_RECTIFIER = 1  # getNonLinearityOpCycles
_SWISH = 5
_RECTIFIER_GRADIENT = 3  # getNonLinearityGradOpCycles
_SWISH_GRADIENT = 9
_BINARY = 3  # binaryOpInnerLoopCycles: one, and two of overhead where there is assembler
_COPY = 1


class Layer(NamedTuple):
    """A normalised activation: instances, channels, pixels and the groups of an instance."""

    instances: int
    channels: int
    pixels: int
    groups: int = 32

    @property
    def elements(self) -> int:
        return self.instances * self.channels * self.pixels

    @property
    def width(self) -> int:
        """Channels that neighbour each other in memory."""
        return next(width for width in (16, 8, 4, 2, 1) if self.channels % width == 0)

    @property
    def rows(self) -> int:
        """Pixels of a channel group on the busiest tile."""
        return math.ceil(self.elements / self.width / TILES)

    @property
    def vectors(self) -> int:
        """Of a worker there."""
        return math.ceil(self.rows * self.width / VECTOR / WORKERS)


class Cycles(NamedTuple):
    forward: int
    backward: int

    @property
    def both(self) -> int:
        return self.forward + self.backward


def _step(worker: float, exchanged: float = 0.0, vertex: int = 20) -> int:
    """A compute set: its vertex, the exchange before it, and its synchronisation."""
    return math.ceil(vertex + WORKERS * worker + exchanged / 4 + SYNC)


def _add(layer: Layer) -> int:
    """popops' addition or subtraction of a vector along the innermost dimension (eight channels at a time)."""
    blocks = math.ceil(layer.rows / WORKERS)
    loops = max(1, layer.width // 8)
    return _step(19 + 3 + 5 + 4 + loops * (8 + 2 * (blocks - 1) + 7), 2 * layer.width)


def _multiply(layer: Layer, in_place: bool) -> int:
    blocks, loops = math.ceil(layer.rows / WORKERS), max(1, layer.width // 4)
    inner = 4 + 2 * blocks + 3 if in_place else 7 if blocks == 1 else 6 + blocks + 3
    return _step(24 + 19 + 9 + 3 + loops * inner, 2 * layer.width)


def _elementwise(layer: Layer, bundles: int, overhead: int = 30) -> int:
    return _step(overhead + bundles * layer.vectors)


def _sums(layer: Layer, outputs: int, tensors: int) -> int:
    """popops' sums over pixels: on each tile, then between tiles. ``tensors`` are read once each."""
    loops = max(1, layer.width // 4)
    return _step(16 + loops * 14 + tensors * layer.vectors) + _between_tiles(tensors, outputs, layer, 30)


def _between_tiles(values: int, rows: int, layer: Layer, finish: int) -> int:
    """Sums of what tiles hold of some rows of ``values`` each, in two steps where many tiles do."""
    parts = min(TILES, max(1.0, TILES * min(layer.width, rows) / rows))
    steps = 1 if parts <= 48 else 2
    count = parts if steps == 1 else math.sqrt(parts)
    of_vertex = max(1, math.ceil(rows / TILES))
    return steps * _step(of_vertex * (values / 2 * (count + 4) + finish), 4 * values * count * of_vertex)


def popnn_group_norm(layer: Layer, activation: str = "relu") -> Cycles:
    """popnn's group norm (PopART's statistics in float) and its activation in place."""
    relu = activation == "relu"
    groups = layer.instances * layer.groups
    forward = (
        _sums(layer, groups, 2)  # mean and mean of squares
        + _step(60)  # inverse deviation
        + _add(layer)  # less the mean
        + _multiply(layer, in_place=True)
        + _multiply(layer, in_place=False)  # gamma
        + _add(layer)  # beta
        + _elementwise(layer, _RECTIFIER if relu else _SWISH)
    )
    backward = (
        _elementwise(layer, _RECTIFIER_GRADIENT if relu else _SWISH_GRADIENT)
        + _add(layer)  # whitened again
        + _multiply(layer, in_place=True)
        + _multiply(layer, in_place=False)  # times gamma
        + _elementwise(layer, _BINARY)  # times whitened
        + _sums(layer, groups, 2)
        + _elementwise(layer, _COPY)
        + _multiply(layer, in_place=False)  # whitened times the variance's gradient
        + _step(30)  # the mean's gradient, scaled
        + _add(layer)
        + _elementwise(layer, _BINARY)  # scaled addition
        + _multiply(layer, in_place=True)
        + _elementwise(layer, _BINARY)  # gradients of gamma and beta
        + _sums(layer, layer.channels, 2)
    )
    return Cycles(forward, backward)


def _proxy_statistics(channels: int, quantiles: int = 200) -> Cycles:
    """m and s composed from operations on [C, quantiles] in float, for each micro-batch."""
    pairs = math.ceil(channels * quantiles / TILES / 2 / WORKERS)
    large, small = _step(30 + 3 * pairs), _step(40)
    # addcmul twice on [C]; broadcast and addcmul, phi, two reductions; variance to inverse deviation
    forward = 2 * small + 3 * large + 2 * (large + small) + 2 * small
    backward = 4 * small + 6 * large + 3 * (large + small)
    return Cycles(forward, backward)


def composed(layer: Layer, activation: str = "relu", per_update: bool = False) -> Cycles:
    """Proxy Norm of PopART's operations around popnn's group norm, as the zoo's layer is without a kernel.

    ReLU: the scale goes into gamma and beta, a vector is added. Others: a vector is multiplied and one added, and the
    gradient of the first needs a product. ``per_update``: m and s come from the host, once for each weight update.
    """
    norm = popnn_group_norm(layer, activation)
    forward, backward = norm.forward + _add(layer), norm.backward + _sums(layer, layer.channels, 1)
    if activation != "relu":
        forward += _multiply(layer, in_place=False)
        backward += _multiply(layer, in_place=False) + _elementwise(layer, _BINARY)
        backward += _sums(layer, layer.channels, 1)
    if not per_update:
        statistics = _proxy_statistics(layer.channels)
        forward, backward = forward + statistics.forward, backward + statistics.backward
    return Cycles(forward, backward)


# Bundles for a vector, for the sums of one, two and four vectors, for a column, and for each of its rows at the end:
# cycles.hpp.
_NO_SUMS = (0, 0, 0)
_SWEEPS: Dict[Tuple[str, str], Tuple[int, Tuple[int, int, int], int, int]] = {
    ("relu", "sums"): (9, _NO_SUMS, 40, 0),
    ("silu", "sums"): (9, _NO_SUMS, 40, 0),
    ("relu", "forward"): (4, _NO_SUMS, 5, 0),
    ("silu", "forward"): (9, _NO_SUMS, 6, 0),
    ("relu", "backward"): (5, (12, 15, 21), 8, 22),
    ("silu", "backward"): (14, (16, 20, 28), 8, 22),
    ("relu", "input"): (6, _NO_SUMS, 10, 0),
    ("silu", "input"): (6, _NO_SUMS, 10, 0),
}


def _sweep(layer: Layer, activation: str, name: str, exchanged: float) -> int:
    """A worker's tasks are columns of 64 bits of channels, cut until there are as many as workers. The busiest tile
    begins in one group of channels and ends in the next: two pieces."""
    vector, (one, two, four), column, row = _SWEEPS[activation, name]
    columns = max(1, layer.width // VECTOR)
    pieces = 2 if layer.rows > 1 else 1
    pixels = math.ceil(layer.rows / pieces)
    parts = max(1, min(pixels, WORKERS // math.gcd(columns, WORKERS)))
    tasks = math.ceil(columns * parts / WORKERS)
    vectors = math.ceil(pixels / parts)
    task = 8 + column + VECTOR * row + vectors * vector
    task += vectors // 4 * four + vectors % 4 // 2 * two + vectors % 2 * one
    return _step(pieces * (12 + tasks * task), exchanged, vertex=60)


_PROXY = 500  # cycles of the proxies' vertex, on a tile that has other work too: 6 channels, 200 quantiles


def _own_sums(layer: Layer, values: Tuple[int, ...], rows: Tuple[int, ...], proxy: int) -> int:
    """The operator's: what a tile's workers have is added first, beside some proxies; then between tiles."""
    items = [math.ceil(layer.width * some / 2 / WORKERS) for some in values]
    on_tile = math.ceil(sum(60 + WORKERS * 20 * some for some in items)) + proxy + SYNC
    return on_tile + max(_between_tiles(some, of, layer, 30) for some, of in zip(values, rows))


def fused(layer: Layer, activation: str = "relu") -> Cycles:
    """``GroupNormProxyNormAct``."""
    groups = layer.instances * layer.groups
    rows = max(4 * WORKERS, layer.instances * layer.channels / TILES)
    coefficients = _step(math.ceil(rows / WORKERS) * 28, 400, vertex=60)
    forward = (
        _sweep(layer, activation, "sums", 16 * layer.width)
        + _own_sums(layer, (2,), (groups,), _PROXY)
        + coefficients
        + _sweep(layer, activation, "forward", 8 * layer.width)
    )
    backward = (
        coefficients
        + _sweep(layer, activation, "backward", 10 * layer.width)
        + _own_sums(layer, (4, 2), (layer.channels, groups), _PROXY)
        + _sweep(layer, activation, "input", 12 * layer.width)
    )
    return Cycles(forward, backward)


def kept_bytes(layer: Layer, activation: str, how: str) -> int:
    """What the backward pass keeps of half, beside what the next layer keeps (the output).

    Group norm: its input; SiLU's input too. Composed Proxy Norm: also ReLU's output, which the next layer no longer
    is given, or that of SiLU.
    """
    tensors = {
        "fused": 1,
        "popnn": 1 if activation == "relu" else 2,
        "composed": 2 if activation == "relu" else 3,
    }
    return 2 * layer.elements * tensors[how]


#: Activations for which the fused operator is taken on IPUs where it is built (``model.proxy_norm_kernel: auto``): it
#: is estimated faster than what it replaces, composed Proxy Norm, at every micro-batch size of
#: ``scripts/results/kernels/ipu_estimates.md``.
FASTER_FUSED = ("relu", "silu")

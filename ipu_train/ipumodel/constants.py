"""Every number of the model that is not a chip's or a codelet's own: value, unit, reason, origin.

``fitted`` constants were chosen by ``scripts/ipumodel_fit.py`` on the fitting share of the published single-
layer results of Graphcore's IPUModel (SDK 2.0), never on the shapes kept aside. ``published`` ones are read
off a public profile. ``fitted to throughput`` ones were set on published
images per second of whole training runs. ``assumed`` ones are nobody's figure; the reason says why the value
is plausible.
"""

from typing import Callable


class Constant(float):
    """A float that knows its unit, why it exists and where it comes from."""

    unit: str
    origin: str
    reason: str

    def __new__(cls, value: float, unit: str, origin: str, reason: str) -> "Constant":
        self = super().__new__(cls, value)
        self.unit, self.origin, self.reason = unit, origin, reason
        return self


def _origin(name: str) -> Callable[[float, str, str], Constant]:
    return lambda value, unit, reason: Constant(value, unit, name, reason)


fitted, published, assumed = _origin("fitted"), _origin("published"), _origin("assumed")
throughput_fitted = _origin("fitted to throughput")

# --- convolutions: cycles
# -----------------------------------------------------------------------------------------
CONV_PROGRAM_CYCLES = fitted(
    5050.0,
    "cycles per layer program",
    "what a layer's program does once: start, weight update compute set, final sync",
)
FC_PROGRAM_CYCLES = fitted(
    7000.0,
    "cycles per layer program",
    "as CONV_PROGRAM_CYCLES, with the copies between the two-dimensional tensors and the planned layout",
)
CONV_STEP_CYCLES = fitted(
    285.0,
    "cycles per pass",
    "compute sets, syncs and copies around the planned steps of one pass: zeroing, padding, final layout",
)
WEIGHT_MOVE_CYCLES = fitted(
    3.15,
    "cycles per byte of weights on a tile",
    "transposing the weights for the backward pass and adding the weight gradient; ideal would be "
    "1/4 + 1/4 + 1/8",
)
OPERAND_MOVE_CYCLES = fitted(
    0.25,
    "cycles per byte of a pass's input and output on a tile",
    "bringing activations from the layout in which they lie into the one the plan reads; ideal "
    "exchange is 1/4",
)

# --- convolutions: bytes ----------------------------------------------------------------------------
LAYER_PROGRAM_BYTES = fitted(
    2300.0,
    "bytes per tile",
    "vertex code, update and control code of one layer's training program, beyond its passes",
)
CONV_PASS_BYTES = assumed(
    300.0,
    "bytes per tile and pass",
    "control code and vertices of zeroing, padding and copies; from popliner's rows of single convolutions",
)
WEIGHT_COPIES = assumed(
    3.0,
    "copies of the weights",
    "weights, their gradient, and the transposed copy for the backward pass",
)
OPERAND_COPY_SHARE = fitted(
    0.36,
    "bytes per byte of a pass's operands",
    "rearranged copies of activations that live beside the originals while a pass runs",
)
VERTEX_STATE_SCALE = fitted(
    2.0,
    "bytes per byte of work lists and pointers",
    "edge pointers, alignment and the vertices of reductions beside the partial-sum vertex",
)
MESSAGE_BYTES = assumed(
    8.0,
    "bytes of exchange code per piece that a tile receives",
    "a four-byte instruction where it is sent and one where it is received",
)
SUM_STAGE_BYTES = fitted(
    175.0,
    "bytes per tile and stage of summing partial results over tiles",
    "vertex, pointers and control code of one more compute set and the exchange before it",
)
FC_PROGRAM_BYTES = fitted(
    -2000.0,
    "bytes per tile",
    "poplibs' tool for these layers compiles no code for the chip (``compileIPUCode`` of ``TestDevice``), and plans "
    "the passes jointly, so that less is temporary than what they count; -3,700 would fit best, but leave nothing of "
    "small layers",
)

# --- pooling
# --------------------------------------------------------------------------------------------------------
POOL_STEP_CYCLES = fitted(
    1650.0,
    "cycles per pass",
    "padding, halo exchange and syncs around the codelet of one pooling pass; two passes in training",
)
POOL_REGROUP_CYCLES = fitted(
    2500.0,
    "cycles per pass",
    "bringing channels into groups of eight when they do not lie so",
)
POOL_PROGRAM_BYTES = fitted(
    560.0,
    "bytes per tile",
    "codelets, work lists and control code of the forward and backward pool",
)
POOL_TENSOR_SHARE = fitted(
    1.43,
    "bytes per byte of operand",
    "pooled tensors and their padded or regrouped copies",
)
POOL_WINDOW_SHARE = fitted(
    0.33,
    "bytes per byte of all windows",
    "input halos and exchange code for the overlap of windows",
)

# --- reductions
# -----------------------------------------------------------------------------------------------------
REDUCE_STEP_CYCLES = fitted(
    720.0,
    "cycles per stage",
    "compute set, exchange set-up and sync of each stage of a reduction over tiles",
)
REDUCE_PROGRAM_BYTES = fitted(
    115.0,
    "bytes per tile",
    "reduction codelets, pointers and control code",
)
REDUCE_STRIDED_BYTES = fitted(
    160.0,
    "bytes per tile",
    "pointers of a reduction over more than one dimension, or of squares",
)

# --- tiles
# ------------------------------------------------------------------------------------------------------
INTERLEAVED_HEADER_BYTES = fitted(24.0, "bytes", "alignment in front of the partials in interleaved memory")
WORST_TILE_SHARE = published(
    1.10,
    "worst tile / mean tile",
    "EfficientNet-EdgeTPU-L 194,798 / 175,863 (popliner's test profile); ViT-SO400M 540,950 / "
    "487,748 (ipu-stack)",
)
MEMORY_ELEMENT_BYTES = published(
    16384.0,
    "bytes",
    "smallest worst tile of pooling and reduction layers: data placed in a second memory element",
)

# --- elementwise work, norms, copies
# ------------------------------------------------------------------------------
# Those of the next seven that say so, with RING_LINKS, meet twenty published training throughputs (ResNet-50, and
# EfficientNet B0 to B4 with group norm and with Proxy Norm) by least squares from what the codelets take at best:
# scripts/ipumodel_validation.py, part networks, which also leaves out one network at a time.
STEP_CYCLES = assumed(
    180.0,
    "cycles per compute set",
    "starting six workers, loop overheads and one internal sync (90 cycles, poplibs)",
)
NETWORK_LAYER_CYCLES = throughput_fitted(
    2800.0,
    "cycles per layer for its forward, backward and weights pass together",
    "about half of CONV_PROGRAM_CYCLES: what a program of one layer does, without what it does only once",
)
BINARY_CYCLES = throughput_fitted(
    7.2,
    "cycles per eight-byte vector",
    "two loads, arithmetic and a store take 3 at best (poplibs binary op; six workers share the tile); "
    "operands in pieces and casts make it more than twice that",
)
RECTIFIER_CYCLES = throughput_fitted(
    2.0, "cycles per eight-byte vector", "load and maximum, store: poplibs' in-place unary op takes 2 at best"
)
TRANSCENDENTAL_CYCLES = throughput_fitted(
    16.2,
    "cycles per eight-byte vector",
    "two float16x2 special function instructions beside load and store take 7 at best",
)
NORM_FORWARD_CYCLES = throughput_fitted(
    26.9,
    "cycles per eight-byte vector",
    "sum and sum of squares (4), subtract mean, multiply by 1/std, scale, shift (3 each) make 16 at best",
)
NORM_BACKWARD_CYCLES = throughput_fitted(
    31.8,
    "cycles per eight-byte vector",
    "product with the gradient, two sums, whitened activation again, three terms of the input gradient: "
    "22 at best",
)

# --- software
# -----------------------------------------------------------------------------------------------------
LATER_SDK_SPEEDUP = throughput_fitted(
    1.3,
    "cycles of a program of SDK 2.0 / cycles of the same of SDK 2.5 or later",
    "Bow came with SDK 2.5, and its published rates exceed those of Mk2 by more than the clock's 1.39: 1.52 and 1.71 "
    "for ResNet-50 in one setting on 16 and 64 IPUs, although links and host were not faster",
)

# --- code of other operations: read off popliner's profile of EfficientNet-EdgeTPU-L (one Mk2 IPU, 1,472
# tiles) ---
UNARY_STATE_BYTES = published(
    40.0, "bytes per tile", "Relu rows: 11 to 71 kB of vertex state over 1,472 tiles"
)
UNARY_CONTROL_BYTES = published(8.0, "bytes per tile", "Relu rows: 11 to 24 kB of control code")
BINARY_STATE_BYTES = published(80.0, "bytes per tile", "add rows: 22 to 326 kB of vertex state")
BINARY_CONTROL_BYTES = published(30.0, "bytes per tile", "add rows: 16 to 139 kB of control code")
BINARY_EXCHANGE_BYTES = published(16.0, "bytes per tile", "add rows: 23.5 kB of exchange code")
COPY_EXCHANGE_BYTES = assumed(
    150.0,
    "bytes per tile",
    "a rearranging copy hears about as many tiles as a halo exchange: some tens of pieces",
)
NORM_STATE_BYTES = assumed(400.0, "bytes per tile", "five elementwise steps and two reductions of a norm")
NORM_CONTROL_BYTES = assumed(150.0, "bytes per tile", "as above, five times the elementwise rows")
NORM_EXCHANGE_BYTES = assumed(300.0, "bytes per tile", "two reductions and two broadcasts of statistics")
CODELET_BYTES = {
    "conv_amp": published(
        1400.0, "bytes", "mul_1 rows: 1.9 to 4.1 MB of vertex code with reduction and copies"
    ),
    "conv_slic": assumed(1200.0, "bytes", "as conv_amp"),
    "conv_hmac": assumed(700.0, "bytes", "as conv_amp, without convolution unit set-up"),
    "conv_vmac": assumed(700.0, "bytes", "as conv_hmac"),
    "conv_outer": assumed(300.0, "bytes", "a single loop"),
    "conv_reduce": assumed(400.0, "bytes", "a single loop with tails"),
    "conv_copy": assumed(300.0, "bytes", "transposes and strided copies"),
    "unary": published(180.0, "bytes", "Relu rows: 253 kB of vertex code over 1,472 tiles"),
    "binary": published(655.0, "bytes", "add rows: 0.97 MB of vertex code"),
    "norm": assumed(1500.0, "bytes", "statistics, whitening and their gradients"),
    "pool": assumed(800.0, "bytes", "maximum, its gradient and the sum"),
    "reduce": assumed(600.0, "bytes", "first and second stage"),
    "softmax": assumed(900.0, "bytes", "softmax, its gradient and the loss"),
    "update": assumed(900.0, "bytes", "scaled add, cast and optimizer arithmetic"),
    "copy": assumed(300.0, "bytes", "on-tile copies"),
    "runtime": assumed(1500.0, "bytes", "supervisor start-up, host exchange, stacks of six workers"),
}
OTHER_PROGRAM_BYTES = published(
    2500.0,
    "bytes per tile",
    "BERT-tiny training and EfficientNet inference: control code beyond their operations; host "
    "exchange and messages",
)
UPDATE_SHARE = assumed(
    0.25,
    "share of the weights",
    "weights in flight in float while updates run tensor by tensor, largest first",
)

# --- pods
# ---------------------------------------------------------------------------------------------------------
ALL_REDUCE_LATENCY_SECONDS = assumed(30e-6, "seconds per all-reduce", "starting a ring over a pod")
RING_LINKS = throughput_fitted(
    1.5,
    "links",
    "a ring has one or two links in each direction; agrees with the published scaling of ResNet-50 from "
    "16 IPUs (six micro-batches an update) to 64 (two), which leaves some 5 ms for each update",
)
UPDATE_CYCLES = assumed(
    6.0, "cycles per eight-byte vector of weights and optimizer slot", "load, multiply-add, store in float"
)
STREAM_PASSES = assumed(2.0, "passes", "offloaded state is read and written once each weight update")

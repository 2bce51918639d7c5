"""Every number of the model that is not a chip's or a codelet's own: value, unit, reason, origin.

``fitted`` constants were chosen by ``scripts/ipumodel_fit.py`` on the fitting share of the published single-layer
results of Graphcore's IPUModel (SDK 2.0), never on the shapes kept aside. ``published`` ones are read off a public
profile. ``assumed`` ones are nobody's figure; the reason says why the value is plausible.
"""


class Constant(float):
    """A float that knows its unit, why it exists and where it comes from."""

    def __new__(cls, value, unit, origin, reason):
        self = super().__new__(cls, value)
        self.unit, self.origin, self.reason = unit, origin, reason
        return self


def _origin(name):
    return lambda value, unit, reason: Constant(value, unit, name, reason)


fitted, published, assumed = _origin("fitted"), _origin("published"), _origin("assumed")

# --- convolutions: cycles -----------------------------------------------------------------------------------------
CONV_PROGRAM_CYCLES = fitted(
    5200.0, "cycles per layer program",
    "what a layer's program does once: start, weight update compute set, final sync",
)  # fmt: skip
CONV_STEP_CYCLES = fitted(
    280.0, "cycles per pass",
    "compute sets, syncs and copies around the planned steps of one pass: zeroing, padding, final layout",
)  # fmt: skip
WEIGHT_MOVE_CYCLES = fitted(
    3.1, "cycles per byte of weights on a tile",
    "transposing the weights for the backward pass and adding the weight gradient; ideal would be 1/4 + 1/4 + 1/8",
)  # fmt: skip
OPERAND_MOVE_CYCLES = fitted(
    0.24, "cycles per byte of a pass's input and output on a tile",
    "bringing activations from the layout in which they lie into the one the plan reads; ideal exchange is 1/4",
)  # fmt: skip

# --- convolutions: bytes ------------------------------------------------------------------------------------------
TEMPORARY_SHARE = fitted(
    0.67, "bytes per estimated temporary byte",
    "the planner's bound on the busiest tile, as the mean over the tiles used",
)  # fmt: skip
OPERAND_COPY_SHARE = fitted(
    0.92, "bytes per byte of a pass's operands",
    "rearranged copies of activations that live beside the originals while a pass runs",
)  # fmt: skip
EXCHANGE_CODE_SHARE = fitted(
    0.114, "bytes of exchange code per temporary byte",
    "one four-byte instruction for each forty bytes or so that a tile receives or sends",
)  # fmt: skip
VERTEX_STATE_SCALE = fitted(
    4.4, "bytes per byte of work lists and pointers",
    "edge pointers, alignment and the vertices of the reductions and copies beside the partial-sum vertex",
)  # fmt: skip
CONV_PROGRAM_BYTES = fitted(
    1860.0, "bytes per tile",
    "vertex code of the codelets of one convolution layer's training program and its control code",
)  # fmt: skip
FC_PROGRAM_BYTES = fitted(
    100.0, "bytes per tile",
    "what a fully connected layer needs beyond its planned steps: its three passes share one layout",
)  # fmt: skip
FC_PROGRAM_CYCLES = fitted(
    7000.0, "cycles per layer program",
    "as CONV_PROGRAM_CYCLES, with the copies between the two-dimensional tensors and the planned layout",
)  # fmt: skip
WEIGHT_COPIES = fitted(
    3.8, "copies of the weights",
    "weights, their transposed copy for the backward pass, the weight gradient, padding to channel groups",
)  # fmt: skip

# --- pooling --------------------------------------------------------------------------------------------------------
POOL_STEP_CYCLES = fitted(
    3670.0, "cycles per pass",
    "padding, halo exchange, work lists and syncs of one pooling pass; two passes in training",
)  # fmt: skip
POOL_TAP_CYCLES = fitted(
    14.0, "cycles per vector of eight channels and tap, per pass",
    "six worker slots for load, maximum and store of eight halves, twice that where the gradient compares",
)  # fmt: skip
POOL_REGROUP_CYCLES = fitted(
    2500.0, "cycles per pass", "bringing channels into groups of eight when they do not lie so",
)  # fmt: skip
POOL_PROGRAM_BYTES = fitted(
    560.0, "bytes per tile", "codelets, work lists and control code of the forward and backward pool",
)  # fmt: skip
POOL_TENSOR_SHARE = fitted(
    1.43, "bytes per byte of operand", "pooled tensors and their padded or regrouped copies",
)  # fmt: skip
POOL_WINDOW_SHARE = fitted(
    0.33, "bytes per byte of all windows", "input halos and exchange code for the overlap of windows",
)  # fmt: skip

# --- reductions -----------------------------------------------------------------------------------------------------
REDUCE_STEP_CYCLES = fitted(
    1350.0, "cycles", "compute sets, exchange set-up and syncs of a reduction over tiles",
)  # fmt: skip
REDUCE_VECTOR_CYCLES = fitted(
    3.0, "cycles per eight-byte vector on a tile", "load and accumulate, six workers in turn",
)  # fmt: skip
REDUCE_STAGE_CYCLES = fitted(
    210.0, "cycles per doubling of the tiles that hold partials", "gathering and summing partials in stages",
)  # fmt: skip
REDUCE_PROGRAM_BYTES = fitted(
    115.0, "bytes per tile", "reduction codelets, pointers and control code",
)  # fmt: skip
REDUCE_STRIDED_BYTES = fitted(
    160.0, "bytes per tile", "pointers of a reduction over more than one dimension, or of squares",
)  # fmt: skip

# --- tiles ------------------------------------------------------------------------------------------------------
INTERLEAVED_HEADER_BYTES = fitted(24.0, "bytes", "alignment in front of the partials in interleaved memory")
WORST_TILE_SHARE = published(
    1.10, "worst tile / mean tile",
    "EfficientNet-EdgeTPU-L 194,798 / 175,863 (popliner's test profile); ViT-SO400M 540,950 / 487,748 (ipu-stack)",
)  # fmt: skip
MEMORY_ELEMENT_BYTES = published(
    16384.0, "bytes", "smallest worst tile of pooling and reduction layers: data placed in a second memory element",
)  # fmt: skip

"""What a run sets beside the network and the micro-batch, in PopTorch's words."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple, Union

RECOMPUTE = ("none", "pipeline", "standard", "checkpoints", "stages")
SCHEDULES = ("pipelined", "grouped", "interleaved", "sequential", "sharded")
PRECISIONS = ("16.16", "16.32", "32.32")
# Weight-shaped tensors of state beside the weights, and whether momentum and gradient accumulator are one
# tensor.
COMPILERS = ("popart", "tensorflow")
OPTIMIZERS = {
    "sgd": (0, False),
    "momentum": (1, False),  # SGD with momentum, separate accumulator (PopART SGD2, TF1 momentum)
    "sgd_combined": (1, True),  # PopART SGD1: accumulator and momentum are one tensor
    "rmsprop": (2, False),  # mean square and momentum
    "rmsprop_centered": (3, False),  # and mean gradient
    "adam": (2, False),
    "adamw": (2, False),
    "lamb": (2, False),
    "lars": (1, False),
}


@dataclass(frozen=True)
class Settings:
    """How the traced program runs.

    Attributes:
        precision: "16.16" (half weights), "16.32" (half arithmetic, float master weights), "32.32".
        optimizer: a name of ``OPTIMIZERS``; ``momentum=False`` in ``sgd``.
        gradient_accumulation, replicas: as in PopTorch; 1 accumulates nothing.
        schedule: "pipelined" (PopART; every stage on its own IPU, forward and backward of a stage together),
            "grouped" (the same order, and the last stage is computed again too), "interleaved" (shorter
            stashes), "sequential" (all stages one after the other on one IPU), "sharded" (every stage on its
            own IPU, no overlap).
        recompute: "none"; "pipeline" (only stage inputs are kept; the last stage is not computed again, nor is
            anything on one IPU); "standard" (PopART's choice of live sets on one IPU; in a pipeline it keeps stage
            inputs and computes every stage again); "checkpoints" (the outputs of the modules in ``checkpoints``,
            and stage inputs, are kept, and what follows the last of them); "stages" (as "pipeline"; the word of the
            TensorFlow applications).
        available_memory_proportion: one number, or one per IPU.
        half_partials: float16 partial sums in convolutions and matrix products.
        optimizer_offload: optimizer state lives in streaming memory.
        weights_offload: the stored weights do too (the float master weights of 16.32); every forward and every
            backward pass fetches them.
        activations_offload: so do the activations that the forward pass keeps for the backward pass.
        replicated_tensor_sharding: each replica keeps its share of the optimizer state.
        input_bytes_per_element: 1 for 8-bit images, 2 for half, 4 for float.
        all_reduce_buffer_bytes: largest buffer of the gradients' all-reduce; None for all gradients at once.
        run_again: paths of modules whose own operations run forward once more in the backward pass, because they keep
            only their inputs (Graphcore's TensorFlow Proxy Norm does). Counted in cycles; what it saves in
            memory is not counted, so the memory figure is a bound from above.
        accumulator_bytes: width of the gradient accumulators, and of gradients on their way between replicas; None
            for that of the master weights.
        optimizer_bytes: width of each weight-shaped tensor of optimizer state; None for that of the master weights.
        device_iterations: weight updates of a call.
        io_tiles: tiles of an IPU that exchange data with the host while the others compute.
        prefetch_depth: micro-batches of each input that the host has ready.
        single_pipeline_sync: an IPU of a pipeline exchanges data with the host while the others compute.
        returned_share: share of the micro-batches whose losses and hits come back one by one; 0: their sums.
        synthetic_data: nothing is exchanged with the host.
        weights_meet_host: all weights go to the host and back in each weight update (LARS, proxy statistics once an
            update), and optimizer state with them.
        compiler: "popart", whose outliner keeps operations that run again in the backward pass apart from others; or
            "tensorflow", whose pipelines do not, and fetch offloaded weights for the weight update only.
        stochastic_rounding: costs nothing (stated by Graphcore's documentation); here for completeness.
    """

    precision: str = "16.16"
    optimizer: str = "momentum"
    gradient_accumulation: int = 1
    replicas: int = 1
    schedule: str = "pipelined"
    recompute: Optional[str] = None
    checkpoints: Tuple[str, ...] = ()
    available_memory_proportion: Union[float, Sequence[float]] = 0.6
    half_partials: bool = False
    optimizer_offload: bool = False
    weights_offload: bool = False
    activations_offload: bool = False
    replicated_tensor_sharding: bool = False
    input_bytes_per_element: int = 2
    all_reduce_buffer_bytes: Optional[int] = None
    stochastic_rounding: bool = False
    run_again: Tuple[str, ...] = ()
    accumulator_bytes: Optional[int] = None
    optimizer_bytes: Optional[Tuple[int, ...]] = None
    device_iterations: int = 1
    io_tiles: int = 0
    prefetch_depth: int = 1
    single_pipeline_sync: bool = False
    returned_share: float = 0.0
    synthetic_data: bool = False
    weights_meet_host: bool = False
    compiler: str = "popart"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("optimizer", self.optimizer, tuple(OPTIMIZERS)),
            ("schedule", self.schedule, SCHEDULES),
            ("recompute", self.recompute, (None,) + RECOMPUTE),
            ("compiler", self.compiler, COMPILERS),
        ):
            if value not in allowed:
                valid = ", ".join(str(v) for v in allowed if v is not None)
                raise ValueError(f"{name} is {value!r}; valid values: {valid}")
        for name in ("gradient_accumulation", "replicas"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        given = self.available_memory_proportion
        for value in given if isinstance(given, (list, tuple)) else (given,):
            if not 0 <= value <= 1:
                raise ValueError(f"available_memory_proportion is {value}; it must lie between 0 and 1")

    def proportions(self, ipus: int) -> List[float]:
        """The available memory proportion of each of ``ipus`` IPUs; the last one serves those beyond."""
        value = self.available_memory_proportion
        values = [value] if isinstance(value, (int, float)) else list(value)
        values = values or [0.6]
        return [float(values[min(i, len(values) - 1)]) for i in range(max(ipus, 1))]

    @property
    def half(self) -> bool:
        """Whether activations and arithmetic are float16."""
        return self.precision != "32.32"

    @property
    def activation_bytes(self) -> int:
        return 2 if self.half else 4

    @property
    def master_bytes(self) -> int:
        """Width of the stored weights."""
        return 2 if self.precision == "16.16" else 4

    @property
    def gradient_bytes(self) -> int:
        """Width of gradient accumulators, and of gradients on their way between replicas."""
        return self.accumulator_bytes or self.master_bytes

    @property
    def state_bytes_per_weight(self) -> int:
        """Bytes of optimizer state for each weight."""
        slots = OPTIMIZERS[self.optimizer][0]
        widths = self.optimizer_bytes or (self.master_bytes,) * slots
        return sum(widths[:slots])

    @property
    def state_is_apart(self) -> bool:
        """Whether optimizer state is placed by its own setting: SGD1's is the accumulator's, wherever there is one
        (PopART, ``determineTensorLocation``)."""
        return not OPTIMIZERS[self.optimizer][1] or self.gradient_accumulation == 1

    def recompute_for(self, stages: int) -> str:
        """The recompute mode in force; PopTorch's default is pipeline recompute from two IPUs on, else
        none.
        """
        if self.recompute is not None:
            return "pipeline" if self.recompute == "stages" else self.recompute
        return (
            "pipeline" if stages > 1 and self.schedule in ("pipelined", "grouped", "interleaved") else "none"
        )

"""Where the program runs and how: the section device."""

from typing import Any, Dict, Iterator, List, Optional

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator
from typing_extensions import Annotated, Literal

from .base import AutoOff, Complaint, Flag, Section, Text
from .engine_options import as_poplar_writes, engine_option_complaints
from .session_options import as_popart_takes, session_option_complaints


def _one_or_list(value: Any) -> Any:
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value


# What pipeline_splits may say in place of names.
AUTO_SPLITS, LIST_SPLITS = ["auto"], ["list"]


def _word_or_list(value: Any) -> Any:
    return [value] if value in ("auto", "list") else value


def _boolean_word(value: Any) -> Any:
    """``true`` without quotes is a boolean in YAML."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


Workers = Annotated[
    Literal["true", "false", "portable"],
    BeforeValidator(_boolean_word),
    WithJsonSchema({"enum": ["true", "false", "portable", True, False]}),
]


class DeviceConfig(Section):
    """Where the program runs. A replica takes one IPU more than there are pipeline splits."""

    target: Literal["auto", "ipu", "ipu_model", "emulator"] = Field(
        "auto",
        description="IPU hardware, Graphcore's IPUModel, the embedded emulator, or the first of these "
        "that is there.",
    )
    pipeline_splits: Annotated[List[Text], BeforeValidator(_word_or_list)] = Field(
        default_factory=list,
        max_length=1024,
        description="Names of the model's modules at which the next IPU begins; auto: the best ones for "
        "ipus_per_replica, found at start; list: print where the model may be split and stop.",
    )
    ipus_per_replica: Optional[int] = Field(
        None,
        ge=1,
        le=4096,
        description="IPUs of a replica that pipeline_splits auto is to use. null: as few as hold the program.",
    )
    available_memory_proportion: Annotated[
        Optional[List[Annotated[float, Field(gt=0, le=1)]]], BeforeValidator(_one_or_list)
    ] = Field(
        None,
        max_length=1024,
        description="Share of tile memory for temporary values of convolutions and matrix products: one "
        "number for "
        "all IPUs, or one for each IPU of a replica. null: Poplar's own (0.6).",
    )
    partials: Literal["float", "half"] = Field(
        "float", description="Type of the partial sums of convolutions."
    )
    recompute: Optional[Literal["none", "pipeline", "standard", "checkpoints"]] = Field(
        None,
        description="What the backward pass computes again instead of keeping. none: nothing; pipeline: all but the "
        "inputs of pipeline stages, and nothing in the last stage; standard: what PopART chooses on one IPU, all but "
        "the inputs of stages in a pipeline; checkpoints: all but recompute_checkpoints, up to the last of them. "
        "null: pipeline with splits, else none.",
    )
    recompute_checkpoints: List[Text] = Field(
        default_factory=list,
        max_length=4096,
        description="Names of the model's modules whose outputs recompute checkpoints keeps.",
    )
    optimizer_offload: Flag = Field(
        False, description="Keep the optimizer state in streaming memory, off the IPU."
    )
    replicated_tensor_sharding: Flag = Field(
        False, description="Each replica keeps its share of the optimizer state instead of all of it."
    )
    activation_offload: Flag = Field(
        False,
        description="Keep in streaming memory what the forward pass leaves for the backward pass; one IPU a replica.",
    )
    weight_offload: Flag = Field(
        False,
        description="Keep the stored weights in streaming memory; each pass of a micro-batch fetches them again.",
    )
    io_tiles: Optional[int] = Field(
        None,
        ge=32,
        le=192,
        description="Tiles, an even number, that only exchange data with the host, while the others go on computing: "
        "one IPU a replica, training program only. null: none.",
    )
    prefetch_depth: Optional[int] = Field(
        None,
        ge=1,
        le=1024,
        description="Micro-batches of each input that the host has ready in its memory. null: PopART's own (1).",
    )
    sync_pattern: Literal["full", "single_pipeline", "replica_and_ladder"] = Field(
        "full",
        description="Which IPUs wait for each other. full: all, at every exchange; single_pipeline: an IPU of a "
        "pipeline exchanges data with the host while the others compute; replica_and_ladder: replicas do so "
        "independently of each other.",
    )
    deterministic_workers: Optional[Workers] = Field(
        None,
        description="Whether stochastic rounding comes out the same each time: true, on the same IPU; portable, on "
        "every IPU, so that replicas do not drift apart. null: portable with several replicas, else true.",
    )
    fp_exceptions: Flag = Field(
        False,
        description="Stop the run where a computation overflows or gives no number, not when the loss shows it.",
    )
    output_mode: Literal["sum", "all", "final", "every_n"] = Field(
        "sum",
        description="Loss and accuracy that the device returns. sum: of all micro-batches of a call, added up; all: of "
        "each; final: of the last one; every_n: of every output_every-th weight update. Only sum and all report "
        "means over every image.",
    )
    output_every: Optional[int] = Field(
        None,
        ge=2,
        le=2**16,
        description="Weight updates from one returned by output_mode every_n to the next.",
    )
    synthetic_data: Flag = Field(
        False,
        description="The device makes up its inputs and exchanges nothing with the host, to measure its speed alone: "
        "loss, accuracy and weights mean nothing, and no checkpoint is kept.",
    )
    engine_options: Dict[str, Any] = Field(
        default_factory=dict,
        max_length=100,
        description="Options of Poplar's engine by name, such as opt.internalExchangeOptimisationTarget: memory.",
    )
    session_options: Dict[str, Any] = Field(
        default_factory=dict,
        max_length=100,
        description="Options of PopART's session by name, such as enableStableNorm: true.",
    )
    profile: Optional[Text] = Field(
        None,
        description="Folder for PopVision's reports: a few weight updates of one replica are run and compared with the "
        "plan, and nothing is trained. null: train.",
    )
    chip: Literal["mk1", "mk2", "bow"] = Field(
        "mk2", description="IPU whose memory and cycles are predicted: GC2, GC200 or Bow."
    )
    threads: Optional[int] = Field(
        None, ge=1, le=1024, description="CPU threads of the emulator. null: torch's own number."
    )
    fuse_micro_batches: AutoOff = Field(
        "auto",
        description="The emulator runs several micro-batches of one weight update at once where the "
        "result is the same and it is no slower (auto), or never (off).",
    )
    compute: Literal["cpu", "cuda"] = Field("cpu", description="What the emulator computes on.")
    torch_compile: Flag = Field(
        False,
        description="The emulator trains in float32 with code that torch.compile generates, which takes a minute or "
        "two: the same results to rounding; needs PyTorch 2.1 and a C++ compiler.",
    )
    allow_out_of_memory: Flag = Field(
        False, description="Run on although the plan says that the program does not fit in tile memory."
    )
    executable_cache: Optional[Text] = Field(
        None, description="Folder in which compiled IPU programs are kept for later runs. null: none."
    )

    @field_validator("engine_options", mode="before")
    @classmethod
    def _as_poplar_writes(cls, options: Any) -> Any:
        return as_poplar_writes(options)

    @field_validator("session_options", mode="before")
    @classmethod
    def _as_popart_takes(cls, options: Any) -> Any:
        return as_popart_takes(options)

    @property
    def may_be_a_pipeline(self) -> bool:
        """Whether a replica takes several IPUs, or may take them."""
        return bool(self.pipeline_splits) and self.ipus_per_replica != 1

    def complaints(self) -> Iterator[Complaint]:
        yield from self._placement()
        yield from self._transfers()
        yield from self._memory()
        yield from self._for_the_sdk()
        yield from self._generated_code()
        yield from engine_option_complaints(self.engine_options)
        for name in ("autoReport.all", "autoReport.directory", "debug.allowOutOfMemory"):
            if self.profile is not None and name in self.engine_options:
                yield f"engine_options.{name}", "is set by device.profile"
        yield from session_option_complaints(self.session_options)

    def _placement(self) -> Iterator[Complaint]:
        twice = sorted({name for name in self.pipeline_splits if self.pipeline_splits.count(name) > 1})
        if twice:
            yield "pipeline_splits", f"names {', '.join(twice)} more than once"
        if self.pipeline_splits == AUTO_SPLITS:
            ipus = self.ipus_per_replica or 1
        else:
            ipus = len(self.pipeline_splits) + 1
            if self.ipus_per_replica not in (None, ipus) and self.pipeline_splits != LIST_SPLITS:
                yield (
                    "ipus_per_replica",
                    f"is {self.ipus_per_replica}, and pipeline_splits makes {ipus}; it chooses for "
                    "pipeline_splits: auto, remove it otherwise",
                )
        given = self.available_memory_proportion
        if given is not None and len(given) not in (1, ipus):
            yield (
                "available_memory_proportion",
                f"has {len(given)} numbers for {ipus} IPU{'s' if ipus > 1 else ''} (pipeline_splits + 1); "
                "give one number, or one for each IPU",
            )
        if (self.recompute == "checkpoints") != bool(self.recompute_checkpoints):
            yield "recompute_checkpoints", "names what recompute: checkpoints keeps; give both or neither"
        if self.sync_pattern == "single_pipeline" and not self.may_be_a_pipeline:
            yield (
                "sync_pattern",
                "single_pipeline is about the IPUs of a pipeline, and a replica has one (pipeline_splits)",
            )

    def _transfers(self) -> Iterator[Complaint]:
        """What concerns the exchange of data with the host."""
        if self.synthetic_data:
            for key in ("io_tiles", "prefetch_depth", "output_every"):
                if getattr(self, key) is not None:
                    yield key, "nothing is exchanged with the host under synthetic_data; remove one of them"
        if self.io_tiles is not None:
            if self.io_tiles % 2:
                yield "io_tiles", f"must be even, got {self.io_tiles}"
            if self.may_be_a_pipeline:
                yield (
                    "io_tiles",
                    "PopTorch does not overlap the transfers of a pipeline; remove pipeline_splits or io_tiles",
                )
            if self.output_mode not in ("sum", "all"):
                yield "io_tiles", f"needs output_mode sum or all, and it is {self.output_mode}"
        if (self.output_mode == "every_n") != (self.output_every is not None):
            yield (
                "output_every",
                "says how many weight updates output_mode: every_n counts; give both or neither",
            )

    def _memory(self) -> Iterator[Complaint]:
        """What concerns streaming memory."""
        if self.activation_offload and self.may_be_a_pipeline:
            yield (
                "activation_offload",
                "streaming memory has room for the activations of one micro-batch, and a pipeline has several in "
                "flight; remove pipeline_splits or activation_offload",
            )
        if self.chip == "mk1":
            for key in ("optimizer_offload", "activation_offload", "weight_offload"):
                if getattr(self, key):
                    yield key, "needs streaming memory, which machines with mk1 do not have"

    def _generated_code(self) -> Iterator[Complaint]:
        if self.torch_compile and self.fp_exceptions:
            yield (
                "torch_compile",
                "generated code is not stopped where fp_exceptions would; remove one of them",
            )

    def _for_the_sdk(self) -> Iterator[Complaint]:
        """What the chosen target would not read."""
        if self.target in ("ipu", "ipu_model"):
            usual = {"compute": "cpu", "threads": None, "fuse_micro_batches": "auto", "torch_compile": False}
            for key in usual:
                if getattr(self, key) != usual[key]:
                    yield key, f"is for the emulator, and target is {self.target}"
        if self.target == "emulator":
            if self.executable_cache is not None:
                yield "executable_cache", "is for the Poplar SDK; the emulator compiles nothing"
            for key in ("deterministic_workers", "engine_options", "session_options"):
                if getattr(self, key):
                    yield key, "is for the Poplar SDK; nothing on the emulator depends on it"

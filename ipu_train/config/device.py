"""Where the program runs and how: the section device."""

from typing import Any, Iterator, List, Optional

from pydantic import BeforeValidator, Field
from typing_extensions import Annotated, Literal

from .base import AutoOff, Complaint, Flag, Section, Text


def _one_or_list(value: Any) -> Any:
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value


# What pipeline_splits may say in place of names.
AUTO_SPLITS, LIST_SPLITS = ["auto"], ["list"]


def _word_or_list(value: Any) -> Any:
    return [value] if value in ("auto", "list") else value


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
    allow_out_of_memory: Flag = Field(
        False, description="Run on although the plan says that the program does not fit in tile memory."
    )
    executable_cache: Optional[Text] = Field(
        None, description="Folder in which compiled IPU programs are kept for later runs. null: none."
    )

    def complaints(self) -> Iterator[Complaint]:
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
        if self.target in ("ipu", "ipu_model"):
            for key, usual in (("compute", "cpu"), ("threads", None), ("fuse_micro_batches", "auto")):
                if getattr(self, key) != usual:
                    yield key, f"is for the emulator, and target is {self.target}"
        if self.target == "emulator" and self.executable_cache is not None:
            yield "executable_cache", "is for the Poplar SDK; the emulator compiles nothing"

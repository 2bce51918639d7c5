"""What is fed and where it runs: the sections data, device, logging and checkpoint."""

from typing import Any, ClassVar, Iterator, List, Optional

from pydantic import BeforeValidator, Field
from typing_extensions import Annotated, Literal

from .base import AutoFlag, AutoOff, Complaint, Defaults, Flag, Section, Text

_DOWNLOADED = {"path": None, "download": True}
_MADE = {"length": None, "num_classes": 10, "channels": 3}

# The usual augmentation of each source; of image folders only from this side length on.
_USUAL_AUGMENT = {
    "digits": "shift",
    "cifar10": "flip_crop",
    "cifar100": "flip_crop",
    "fashion_mnist": "flip_crop",
}
_LARGE_IMAGE = 96

Channels = Annotated[List[float], Field(min_length=1, max_length=4)]


class DataConfig(Section):
    """The images."""

    READS: ClassVar[Defaults] = {
        "digits": {"validation_fraction": 0.2},
        "cifar10": _DOWNLOADED,
        "cifar100": _DOWNLOADED,
        "fashion_mnist": _DOWNLOADED,
        "imagefolder": {
            "path": None,
            "train_split": None,
            "validation_split": None,
            "validation_fraction": None,
            "cache": "auto",
        },
        "generated": {**_MADE, "length": 5000, "image_size": 32},
        "synthetic": {**_MADE, "length": 1024, "image_size": 32},
    }

    name: Literal[
        "digits", "cifar10", "cifar100", "fashion_mnist", "imagefolder", "generated", "synthetic"
    ] = Field(
        description="Source: scikit-learn's digits, torchvision's data sets, a folder of images, "
        "generated learnable "
        "images, or synthetic noise for measuring speed."
    )
    path: Optional[Text] = Field(
        None,
        description="Folder of the data set, or where it is downloaded to. Required for imagefolder. "
        "null: the user's cache folder.",
    )
    download: Optional[Flag] = Field(
        None, description="Download cifar10, cifar100 or fashion_mnist when not there. null: true."
    )
    image_size: Optional[int] = Field(
        None,
        ge=1,
        description="Side of the square images in pixels. Required for imagefolder. null: the source's own.",
    )
    train_split: Optional[Text] = Field(
        None, description="Sub-folder of the training images in an imagefolder. null: train, when there."
    )
    validation_split: Optional[Text] = Field(
        None,
        description="Sub-folder of the validation images. null: val, validation, valid or test, when there.",
    )
    validation_fraction: Optional[float] = Field(
        None,
        gt=0,
        lt=1,
        description="Share of each class kept for validation where the source has no validation images "
        "of its own. "
        "null: 0.2.",
    )
    augment: Optional[Literal["none", "flip_crop", "shift", "random_resized_crop", "centre_crop"]] = Field(
        None,
        description="Random changes of the training images. null: the source's usual one (digits shift; "
        "CIFAR and "
        "fashion_mnist flip_crop; imagefolder random_resized_crop from 96 pixels on, else flip_crop; "
        "others none). centre_crop: an imagefolder's training images are prepared as the validation images of "
        "random_resized_crop are, for fine-tuning at the test size.",
    )
    crop_padding: Optional[int] = Field(
        None,
        ge=1,
        description="Largest displacement in pixels of flip_crop and shift. null: 1 in 8 of the side.",
    )
    mean: Optional[Channels] = Field(
        None, description="Mean of each channel for the normalisation, in 0..1. null: the source's."
    )
    std: Optional[Annotated[List[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=4)]] = Field(
        None,
        description="Standard deviation of each channel for the normalisation, in 0..1. null: the source's.",
    )
    workers: int = Field(0, ge=0, description="Processes that read and augment images beside the main one.")
    cache: Optional[AutoFlag] = Field(
        None, description="Keep an imagefolder's decoded images in RAM. null or auto: when below 2 GiB."
    )
    length: Optional[int] = Field(
        None, ge=1, description="Training images of generated (null: 5000) or synthetic (null: 1024)."
    )
    num_classes: Optional[int] = Field(None, ge=2, description="Classes of generated or synthetic. null: 10.")
    channels: Optional[Literal[1, 3]] = Field(
        None, description="Channels of generated or synthetic. null: 3."
    )

    def _choose(self) -> Iterator[Complaint]:
        for key, message in super()._choose():
            if key != "image_size":  # every source reads it; the table only knows a default for two of them
                yield key, message

    def complaints(self) -> Iterator[Complaint]:
        if self.name == "imagefolder":
            if self.path is None:
                yield "path", "is required for imagefolder: the folder that holds one sub-folder a class"
            if self.image_size is None:
                yield (
                    "image_size",
                    "is required for imagefolder: the side in pixels that images are resized to",
                )
            if self.validation_split is not None and self.validation_fraction is not None:
                yield "validation_fraction", "not read, because validation_split names the validation images"
        if self.augment is None:
            large = self.name == "imagefolder" and (self.image_size or 0) >= _LARGE_IMAGE
            usual = {**_USUAL_AUGMENT, "imagefolder": "random_resized_crop" if large else "flip_crop"}
            self.fill("augment", usual.get(self.name, "none"))
        if self.augment in ("random_resized_crop", "centre_crop") and self.name != "imagefolder":
            yield (
                "augment",
                f"{self.augment} is for imagefolder; {self.name} takes none, flip_crop or shift",
            )
        moves = self.augment in ("flip_crop", "shift")
        if self.crop_padding is not None and not moves:
            yield "crop_padding", f"not read by augment {self.augment} (only flip_crop, shift)"
        if (self.mean is None) != (self.std is None):
            yield ("std" if self.std is None else "mean"), "mean and std are given together or not at all"
        elif self.mean is not None and len(self.mean) != len(self.std or []):
            yield "std", f"has {len(self.std or [])} channels and mean has {len(self.mean)}"


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
        description="Names of the model's modules at which the next IPU begins; auto: the best ones for "
        "ipus_per_replica, found at start; list: print where the model may be split and stop.",
    )
    ipus_per_replica: Optional[int] = Field(
        None,
        ge=1,
        description="IPUs of a replica that pipeline_splits auto is to use. null: as few as hold the program.",
    )
    available_memory_proportion: Annotated[
        Optional[List[Annotated[float, Field(gt=0, le=1)]]], BeforeValidator(_one_or_list)
    ] = Field(
        None,
        description="Share of tile memory for temporary values of convolutions and matrix products: one "
        "number for "
        "all IPUs, or one for each IPU of a replica. null: Poplar's own (0.6).",
    )
    partials: Literal["float", "half"] = Field(
        "float", description="Type of the partial sums of convolutions."
    )
    recompute: Optional[Literal["none", "pipeline", "standard", "checkpoints"]] = Field(
        None,
        description="What the backward pass computes again instead of keeping: nothing, all but the inputs of pipeline "
        "stages, what PopART chooses, or all but recompute_checkpoints. null: pipeline with splits, else none.",
    )
    recompute_checkpoints: List[Text] = Field(
        default_factory=list,
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
        None, ge=1, description="CPU threads of the emulator. null: torch's own number."
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


class LoggingConfig(Section):
    """What a run tells, to whom."""

    every_steps: int = Field(
        10, ge=1, description="Weight updates between two training lines of metrics.jsonl."
    )
    progress: AutoFlag = Field("auto", description="Progress bar. auto: when standard error is a terminal.")
    wandb: Flag = Field(False, description="Send metrics to Weights & Biases (offline when not logged in).")
    wandb_project: Text = Field("ipu-train", description="Project of the Weights & Biases run.")
    wandb_entity: Optional[Text] = Field(
        None, description="Team or user of the Weights & Biases run. null: yours."
    )
    plots: Flag = Field(True, description="Draw curves.png in the run folder at the end (needs matplotlib).")


class CheckpointConfig(Section):
    """What is kept so that a run can go on."""

    every_epochs: int = Field(1, ge=0, description="Epochs between two checkpoints; 0: only the last one.")
    every_steps: Optional[int] = Field(
        None, ge=1, description="Weight updates between two further checkpoints."
    )
    keep: int = Field(3, ge=1, description="Newest checkpoints kept; older ones are deleted.")
    resume: Optional[Text] = Field(
        None,
        description="Checkpoint or run folder to go on from; latest: run_dir's newest one. null: start anew.",
    )

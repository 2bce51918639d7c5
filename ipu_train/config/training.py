"""The shape of a run and of its validation: the sections training and validation."""

from typing import Iterator, Optional

from pydantic import Field
from typing_extensions import Literal

from .base import MOST_EPOCHS, MOST_IMAGES_AT_ONCE, Complaint, Flag, Precision, Section


class TrainingConfig(Section):
    """The shape of a run."""

    micro_batch_size: int = Field(
        32,
        ge=1,
        le=MOST_IMAGES_AT_ONCE,
        description="Images in one forward and backward pass of one replica.",
    )
    gradient_accumulation: int = Field(
        1, ge=1, le=2**20, description="Micro-batches of one weight update, per replica."
    )
    replicas: int = Field(
        1, ge=1, le=4096, description="Copies of the model that train side by side on a batch."
    )
    device_iterations: int = Field(
        1, ge=1, le=2**16, description="Weight updates between two returns to the host."
    )
    epochs: int = Field(10, ge=1, le=MOST_EPOCHS, description="Passes over the training images.")
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Probability spread evenly over all K classes, as in torch. Papers that spread e over "
        "the other K - 1 classes mean e K / (K - 1).",
    )
    mixup_alpha: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Parameter of the Beta(alpha, alpha) distribution of each image's mixup coefficient; 0: "
        "no mixup.",
    )
    cutmix_lambda: float = Field(
        1.0,
        gt=0,
        le=1,
        description="How much CutMix leaves of the images, in the sense of Masters et al. 2021; 1: no CutMix.",
    )
    precision: Precision = Field(
        "32.32", description="Bits of the activations, then of the stored weights (16.32: half activations)."
    )
    stochastic_rounding: Flag = Field(
        False, description="Round half-precision results at random, not to nearest."
    )
    seed: int = Field(
        0, ge=0, le=2**32 - 1, description="Seed of the weights, the data order and all else random."
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="How gradients of micro-batches and replicas are combined."
    )
    on_divergence: Literal["stop", "skip", "rollback"] = Field(
        "stop",
        description="When the loss or the weights are no longer finite: stop (exit status 4; the last good checkpoint "
        "stays), skip (undo the call; brings all state to the host after every call) or rollback (return to the last "
        "checkpoint's weights and go on behind these images).",
    )
    divergence_limit: Optional[int] = Field(
        None,
        ge=1,
        le=MOST_EPOCHS,
        description="Times in a row that skip undoes a call, or that rollback returns without a new checkpoint in "
        "between, before the run stops all the same. null: 10.",
    )

    def complaints(self) -> Iterator[Complaint]:
        if self.on_divergence == "stop":
            if self.divergence_limit is not None:
                yield "divergence_limit", "on_divergence: stop does not read it; remove it"
        elif self.divergence_limit is None:
            self.fill("divergence_limit", 10)
        if self.stochastic_rounding and self.precision == "32.32":
            yield "stochastic_rounding", "has nothing to round in precision 32.32; choose 16.32 or 16.16"
        if self.micro_batch_size == 1:
            for key, off in (("mixup_alpha", 0), ("cutmix_lambda", 1)):
                if getattr(self, key) != off:
                    yield key, "mixes images of one micro-batch, and micro_batch_size is 1; make it larger"


class ValidationConfig(Section):
    """When and how the validation images are looked at."""

    every_epochs: int = Field(
        1,
        ge=0,
        le=MOST_EPOCHS,
        description="Epochs between two validations (one more after the last epoch); 0: none.",
    )
    micro_batch_size: Optional[int] = Field(
        None,
        ge=1,
        le=MOST_IMAGES_AT_ONCE,
        description="Images in one forward pass of one replica. null: training.micro_batch_size.",
    )
    device_iterations: Optional[int] = Field(
        None,
        ge=1,
        le=2**16,
        description="Micro-batches between two returns to the host. null: chosen by the program.",
    )

    metric: Literal["accuracy", "top5", "loss", "averaged_accuracy", "averaged_top5", "averaged_loss"] = (
        Field(
            "accuracy",
            description="What the best validation is judged by (checkpoint.keep_best, patience). averaged_...: the "
            "averaged weights' figures, see averaging.",
        )
    )
    patience: Optional[int] = Field(
        None,
        ge=1,
        le=MOST_EPOCHS,
        description="Validations without a better metric after which the run ends early. null: it never does.",
    )

    def complaints(self) -> Iterator[Complaint]:
        if self.every_epochs == 0:
            if self.metric != "accuracy":
                yield "metric", "not read, because every_epochs is 0 (no validation)"
            for key in ("micro_batch_size", "device_iterations", "patience"):
                if getattr(self, key) is not None:
                    yield key, "not read, because every_epochs is 0 (no validation)"

"""How it is learnt: the sections optimizer, schedule, training, validation and averaging."""

from typing import ClassVar, Iterator, List, Optional

from pydantic import Field
from typing_extensions import Annotated, Literal

from .base import Complaint, Defaults, Flag, FloatType, Precision, Section

_ACCUM = {"accum_type": "float32"}
_MOMENTS = {
    **_ACCUM,
    "first_order_momentum_accum_type": "float32",
    "second_order_momentum_accum_type": "float32",
}


class OptimizerConfig(Section):
    """The optimizer: PopTorch's, with PopTorch's defaults; lars, which PopTorch lacks, updates on the host."""

    READS: ClassVar[Defaults] = {
        "sgd": {
            "learning_rate": 0.1,
            "momentum": 0.0,
            "dampening": 0.0,
            "nesterov": False,
            "weight_decay": 0.0,
            "use_combined_accum": False,
            "velocity_accum_type": "float32",
            "max_grad_norm": None,
            **_ACCUM,
        },
        "adam": {
            "learning_rate": 1e-3,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 0.0,
            "max_grad_norm": None,
            **_MOMENTS,
        },
        "adamw": {
            "learning_rate": 1e-3,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 1e-2,
            "max_grad_norm": None,
            **_MOMENTS,
        },
        "rmsprop": {
            "learning_rate": 1e-2,
            "alpha": 0.99,
            "eps": 1e-8,
            "momentum": 0.0,
            "centered": False,
            "weight_decay": 0.0,
            "use_tf_variant": False,
            **_MOMENTS,
        },
        "lamb": {
            "learning_rate": 1e-3,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 1e-2,
            "bias_correction": True,
            "max_weight_norm": 65500.0,
            **_MOMENTS,
        },
        "lars": {
            "learning_rate": 1.0,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "trust_coefficient": 1e-3,
            "eps": 1e-9,
            **_ACCUM,
        },
    }

    name: Literal["sgd", "adam", "adamw", "rmsprop", "lamb", "lars"] = Field(
        "sgd", description="Update rule."
    )
    learning_rate: Optional[float] = Field(
        None,
        gt=0,
        description="Highest learning rate, before the schedule. null: sgd 0.1, rmsprop 0.01, lars 1, others "
        "0.001.",
    )
    learning_rate_batch_size: Optional[int] = Field(
        None,
        ge=1,
        description="Global batch size in images that learning_rate is meant for; the rate is scaled "
        "linearly to the "
        "run's own global batch size. null: learning_rate is used as it is.",
    )
    momentum: Optional[float] = Field(
        None, ge=0, lt=1, description="Momentum of sgd and rmsprop (null: 0) and lars (null: 0.9)."
    )
    dampening: Optional[float] = Field(None, ge=0, le=1, description="Dampening of sgd's momentum. null: 0.")
    nesterov: Optional[Flag] = Field(None, description="Nesterov's momentum in sgd. null: false.")
    betas: Optional[
        Annotated[List[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    ] = Field(
        None, description="Decay of the first and second moment in adam, adamw and lamb. null: [0.9, 0.999]."
    )
    alpha: Optional[float] = Field(
        None, ge=0, lt=1, description="Decay of rmsprop's mean square. null: 0.99."
    )
    eps: Optional[float] = Field(
        None, gt=0, description="Added to the denominator. null: 1e-8, for lars 1e-9."
    )
    centered: Optional[Flag] = Field(
        None, description="rmsprop divides by the centred variance. null: false."
    )
    use_tf_variant: Optional[Flag] = Field(
        None, description="TensorFlow's rmsprop: eps inside the root, mean square starting at 1. null: false."
    )
    weight_decay: Optional[float] = Field(
        None,
        ge=0,
        description="Weight decay of the weights that are not exempt. null: 0, for adamw and lamb 0.01, for lars 1e-4.",
    )
    bias_correction: Optional[Flag] = Field(None, description="Bias-corrected moments in lamb. null: true.")
    max_weight_norm: Optional[float] = Field(
        None, gt=0, description="Upper limit of the weight norm in lamb's trust ratio. null: 65500."
    )
    trust_coefficient: Optional[float] = Field(
        None, gt=0, description="Factor on lars' ratio of weight norm to gradient norm. null: 0.001."
    )
    max_grad_norm: Optional[float] = Field(
        None,
        gt=0,
        description="Global L2 norm to which sgd, adam and adamw clip gradients. null: no clipping.",
    )
    loss_scaling: float = Field(
        1.0, gt=0, description="Factor on the loss gradient during the backward pass, for half precision."
    )
    loss_scaling_epochs: Optional[List[Annotated[float, Field(gt=0)]]] = Field(
        None,
        min_length=1,
        description="Epochs after which loss_scaling is multiplied by loss_scaling_factor. null: never.",
    )
    loss_scaling_factor: Optional[float] = Field(
        None, gt=0, description="Factor on loss_scaling at each of loss_scaling_epochs. null: 2 with them."
    )
    automatic_loss_scaling: Flag = Field(
        False,
        description="Let the device choose the loss scaling from the gradients' histograms, beginning with "
        "loss_scaling.",
    )
    use_combined_accum: Optional[Flag] = Field(
        None, description="sgd accumulates gradients straight into the velocity (saves memory). null: false."
    )
    accum_type: Optional[FloatType] = Field(
        None, description="Type of the accumulated gradients. null: float32."
    )
    velocity_accum_type: Optional[FloatType] = Field(
        None, description="Type of sgd's velocity. null: float32."
    )
    first_order_momentum_accum_type: Optional[FloatType] = Field(
        None, description="Type of the first moment. null: float32."
    )
    second_order_momentum_accum_type: Optional[FloatType] = Field(
        None, description="Type of the second moment. null: float32."
    )

    def complaints(self) -> Iterator[Complaint]:
        if self.nesterov and not self.momentum:
            yield "nesterov", "needs momentum above 0; set optimizer.momentum, for example to 0.9"
        if self.nesterov and self.dampening:
            yield "nesterov", "needs dampening 0"
        if self.dampening and not self.momentum:
            yield "dampening", "acts on the momentum, which is 0; set optimizer.momentum or remove it"
        if self.loss_scaling_epochs is None:
            if self.loss_scaling_factor is not None:
                yield "loss_scaling_factor", "not read without loss_scaling_epochs; remove it"
        elif self.automatic_loss_scaling:
            yield "loss_scaling_epochs", "the device chooses the loss scaling (automatic_loss_scaling)"
        else:
            if any(b <= a for a, b in zip(self.loss_scaling_epochs, self.loss_scaling_epochs[1:])):
                yield "loss_scaling_epochs", f"must rise, got {self.loss_scaling_epochs}"
            if self.loss_scaling_factor is None:
                self.fill("loss_scaling_factor", 2.0)


class ScheduleConfig(Section):
    """How the learning rate changes over the run."""

    READS: ClassVar[Defaults] = {
        "constant": {},
        "cosine": {"final_learning_rate": 0.0},
        "step": {"milestones": [0.5, 0.75], "factor": 0.1},
        "exponential": {"factor": 0.97, "decay_epochs": 2.4, "staircase": True},
    }

    name: Literal["cosine", "step", "exponential", "constant"] = Field(
        "cosine", description="Shape of the schedule after the warm-up."
    )
    warmup_epochs: float = Field(
        0.0, ge=0, description="Epochs during which the learning rate rises linearly from nearly 0."
    )
    final_learning_rate: Optional[float] = Field(
        None, ge=0, description="Learning rate at the end of cosine, not scaled with the batch size. null: 0."
    )
    milestones: Optional[List[Annotated[float, Field(gt=0)]]] = Field(
        None,
        min_length=1,
        description="When step multiplies the rate by factor: all in epochs (1 or more) or all in "
        "fractions of the "
        "run (below 1). null: [0.5, 0.75].",
    )
    factor: Optional[float] = Field(
        None, gt=0, le=1, description="Factor at each step of step (null: 0.1) or exponential (null: 0.97)."
    )
    decay_epochs: Optional[float] = Field(
        None, gt=0, description="Epochs in which exponential multiplies the rate by factor once. null: 2.4."
    )
    staircase: Optional[Flag] = Field(
        None, description="exponential drops at once every decay_epochs instead of smoothly. null: true."
    )

    def complaints(self) -> Iterator[Complaint]:
        if self.milestones is not None:
            if len({milestone < 1 for milestone in self.milestones}) > 1:
                yield "milestones", "all must be epochs (1 or more) or all fractions of the run (below 1)"
            if any(b <= a for a, b in zip(self.milestones, self.milestones[1:])):
                yield "milestones", f"must rise, got {self.milestones}"


class TrainingConfig(Section):
    """The shape of a run."""

    micro_batch_size: int = Field(
        32, ge=1, description="Images in one forward and backward pass of one replica."
    )
    gradient_accumulation: int = Field(
        1, ge=1, description="Micro-batches of one weight update, per replica."
    )
    replicas: int = Field(1, ge=1, description="Copies of the model that train side by side on a batch.")
    device_iterations: int = Field(1, ge=1, description="Weight updates between two returns to the host.")
    epochs: int = Field(10, ge=1, description="Passes over the training images.")
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

    def complaints(self) -> Iterator[Complaint]:
        if self.stochastic_rounding and self.precision == "32.32":
            yield "stochastic_rounding", "has nothing to round in precision 32.32; choose 16.32 or 16.16"
        if self.micro_batch_size == 1:
            for key, off in (("mixup_alpha", 0), ("cutmix_lambda", 1)):
                if getattr(self, key) != off:
                    yield key, "mixes images of one micro-batch, and micro_batch_size is 1; make it larger"


class ValidationConfig(Section):
    """When and how the validation images are looked at."""

    every_epochs: int = Field(
        1, ge=0, description="Epochs between two validations (one more after the last epoch); 0: none."
    )
    micro_batch_size: Optional[int] = Field(
        None, ge=1, description="Images in one forward pass of one replica. null: training.micro_batch_size."
    )
    device_iterations: Optional[int] = Field(
        None, ge=1, description="Micro-batches between two returns to the host. null: chosen by the program."
    )

    def complaints(self) -> Iterator[Complaint]:
        if self.every_epochs == 0:
            for key in ("micro_batch_size", "device_iterations"):
                if getattr(self, key) is not None:
                    yield key, "not read, because every_epochs is 0 (no validation)"


class AveragingConfig(Section):
    """Average of the weights over the run, validated and saved beside the weights themselves."""

    READS: ClassVar[Defaults] = {
        "none": {},
        "exponential": {"decay": 0.97, "start_epoch": 0},
        "mean": {"start_epoch": 0},
    }

    name: Literal["none", "exponential", "mean"] = Field(
        "none", description="Kind of average, taken once at the end of each epoch."
    )
    decay: Optional[float] = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the old average kept at each epoch by exponential. null: 0.97.",
    )
    start_epoch: Optional[int] = Field(
        None, ge=0, description="Epochs that pass before the first weights enter the average. null: 0."
    )

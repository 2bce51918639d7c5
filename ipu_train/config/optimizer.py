"""How the weights change: the section optimizer, one typed section for each update rule."""

from typing import Any, Iterator, List, Optional, Union

from pydantic import Field
from typing_extensions import Annotated, Literal

from .base import LARGEST_SCALING, Complaint, Epochs, Flag, FloatType, Section
from .choices import choice

_Decay = Annotated[float, Field(ge=0, lt=1)]

LearningRate = Annotated[
    float, Field(gt=0, le=1e6, description="Highest learning rate, before the schedule.")
]
Momentum = Annotated[float, Field(ge=0, lt=1, description="Momentum of sgd, rmsprop and lars.")]
WeightDecay = Annotated[
    float, Field(ge=0, le=1e3, description="Weight decay of the weights that are not exempt.")
]
Eps = Annotated[float, Field(gt=1e-38, le=1e3, description="Added to the denominator.")]
Betas = Annotated[
    List[_Decay],
    Field(
        min_length=2,
        max_length=2,
        description="Decay of the first and second moment in adam, adamw and lamb.",
    ),
]
MaxGradNorm = Annotated[
    Optional[float],
    Field(
        gt=0,
        le=1e12,
        description="Global L2 norm to which sgd, adam and adamw clip gradients. null: no clipping.",
    ),
]
AccumType = Annotated[FloatType, Field(description="Type of the accumulated gradients.")]
FirstMoment = Annotated[FloatType, Field(description="Type of the first moment.")]
SecondMoment = Annotated[FloatType, Field(description="Type of the second moment.")]

_ORDER = """
    name learning_rate learning_rate_batch_size momentum dampening nesterov betas alpha eps centered use_tf_variant
    weight_decay bias_correction max_weight_norm trust_coefficient max_grad_norm loss_scaling loss_scaling_epochs
    loss_scaling_factor automatic_loss_scaling use_combined_accum accum_type velocity_accum_type
    first_order_momentum_accum_type second_order_momentum_accum_type
"""


class OptimizerConfig(Section):
    """The optimizer: PopTorch's, with PopTorch's defaults; lars, which PopTorch lacks, updates on the host."""

    name: str = Field(description="Update rule.")
    learning_rate: LearningRate
    learning_rate_batch_size: Optional[int] = Field(
        None,
        ge=1,
        le=2**24,
        description="Global batch size in images that learning_rate is meant for; the rate is scaled linearly to the "
        "run's own global batch size. null: learning_rate is used as it is.",
    )
    weight_decay: WeightDecay
    loss_scaling: float = Field(
        1.0,
        ge=1 / LARGEST_SCALING,
        le=LARGEST_SCALING,
        description="Factor on the loss gradient during the backward pass, for half precision.",
    )
    loss_scaling_epochs: Optional[List[Annotated[Epochs, Field(gt=0)]]] = Field(
        None,
        min_length=1,
        max_length=100,
        description="Epochs after which loss_scaling is multiplied by loss_scaling_factor. null: never.",
    )
    loss_scaling_factor: Optional[float] = Field(
        None,
        gt=0,
        le=2.0**24,
        description="Factor on loss_scaling at each of loss_scaling_epochs. null: 2 with them. Sgd's "
        "velocity keeps the scaling that it was made with: what is in it then counts for 1 / factor from there on.",
    )
    automatic_loss_scaling: Flag = Field(
        False,
        description="Let the device choose the loss scaling from the gradients' histograms, beginning with "
        "loss_scaling.",
    )
    accum_type: AccumType = "float32"

    def complaints(self) -> Iterator[Complaint]:
        epochs = self.loss_scaling_epochs
        if epochs is None:
            if self.loss_scaling_factor is not None:
                yield "loss_scaling_factor", "not read without loss_scaling_epochs; remove it"
            return
        if self.automatic_loss_scaling:
            yield "loss_scaling_epochs", "the device chooses the loss scaling (automatic_loss_scaling)"
            return
        if any(b <= a for a, b in zip(epochs, epochs[1:])):
            yield "loss_scaling_epochs", f"must rise, got {epochs}"
        if self.loss_scaling_factor is None:
            self.fill("loss_scaling_factor", 2.0)
        last = self.loss_scaling * (self.loss_scaling_factor or 1.0) ** min(len(epochs), 100)
        if not 1 / LARGEST_SCALING <= last <= LARGEST_SCALING:
            yield (
                "loss_scaling_factor",
                f"{len(epochs)} times brings loss_scaling to {last:.3g}; stay within 2^-40 and 2^40",
            )


class Sgd(OptimizerConfig):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    learning_rate: LearningRate = 0.1
    momentum: Momentum = 0.0
    dampening: float = Field(0.0, ge=0, le=1, description="Dampening of sgd's momentum.")
    nesterov: Flag = Field(False, description="Nesterov's momentum in sgd.")
    weight_decay: WeightDecay = 0.0
    max_grad_norm: MaxGradNorm = None
    use_combined_accum: Flag = Field(
        False, description="sgd accumulates gradients straight into the velocity (saves memory)."
    )
    velocity_accum_type: FloatType = Field("float32", description="Type of sgd's velocity.")

    def complaints(self) -> Iterator[Complaint]:
        if self.nesterov and not self.momentum:
            yield "nesterov", "needs momentum above 0; set optimizer.momentum, for example to 0.9"
        if self.nesterov and self.dampening:
            yield "nesterov", "needs dampening 0"
        if self.dampening and not self.momentum:
            yield "dampening", "acts on the momentum, which is 0; set optimizer.momentum or remove it"
        yield from super().complaints()


class _WithMoments(OptimizerConfig):
    eps: Eps = 1e-8
    first_order_momentum_accum_type: FirstMoment = "float32"
    second_order_momentum_accum_type: SecondMoment = "float32"


class Adam(_WithMoments):
    """Adam: weight decay acts through the gradient."""

    name: Literal["adam"] = "adam"
    learning_rate: LearningRate = 1e-3
    betas: Betas = [0.9, 0.999]
    weight_decay: WeightDecay = 0.0
    max_grad_norm: MaxGradNorm = None


class AdamW(_WithMoments):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    learning_rate: LearningRate = 1e-3
    betas: Betas = [0.9, 0.999]
    weight_decay: WeightDecay = 1e-2
    max_grad_norm: MaxGradNorm = None


class RmsProp(_WithMoments):
    """RMSprop."""

    name: Literal["rmsprop"] = "rmsprop"
    learning_rate: LearningRate = 1e-2
    alpha: float = Field(0.99, ge=0, lt=1, description="Decay of rmsprop's mean square.")
    momentum: Momentum = 0.0
    centered: Flag = Field(False, description="rmsprop divides by the centred variance.")
    weight_decay: WeightDecay = 0.0
    use_tf_variant: Flag = Field(
        False, description="TensorFlow's rmsprop: eps inside the root, mean square starting at 1."
    )


class Lamb(_WithMoments):
    """LAMB."""

    name: Literal["lamb"] = "lamb"
    learning_rate: LearningRate = 1e-3
    betas: Betas = [0.9, 0.999]
    weight_decay: WeightDecay = 1e-2
    bias_correction: Flag = Field(True, description="Bias-corrected moments in lamb.")
    max_weight_norm: float = Field(
        65500.0, gt=0, le=1e12, description="Upper limit of the weight norm in lamb's trust ratio."
    )


class Lars(OptimizerConfig):
    """LARS (You et al. 2017), updated on the host."""

    name: Literal["lars"] = "lars"
    learning_rate: LearningRate = 1.0
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 1e-4
    trust_coefficient: float = Field(
        1e-3, gt=0, le=1e6, description="Factor on lars' ratio of weight norm to gradient norm."
    )
    eps: Eps = 1e-9


OPTIMIZERS = choice(_ORDER, OptimizerConfig, Sgd, Adam, AdamW, RmsProp, Lamb, Lars, default="sgd")
Optimizer: Any = Annotated[Union[Sgd, Adam, AdamW, RmsProp, Lamb, Lars], Field(discriminator="name")]

"""What changes over a run: the sections schedule (of the learning rate) and averaging (of the weights)."""

from typing import Any, Iterator, List, Union

from pydantic import Field
from typing_extensions import Annotated, Literal

from .base import MOST_EPOCHS, Complaint, Epochs, Flag, Section
from .choices import choice

Factor = Annotated[
    float,
    Field(gt=0, le=1, description="Factor at each step of step, or at each decay_epochs of exponential."),
]


class ScheduleConfig(Section):
    """How the learning rate changes over the run."""

    name: str = Field(description="Shape of the schedule after the warm-up.")
    warmup_epochs: Epochs = Field(
        0.0, description="Epochs during which the learning rate rises linearly from nearly 0."
    )


class Constant(ScheduleConfig):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


class Cosine(ScheduleConfig):
    """Half a cosine, from the end of the warm-up to the end of the run."""

    name: Literal["cosine"] = "cosine"
    final_learning_rate: float = Field(
        0.0, ge=0, le=1e6, description="Learning rate at the end of cosine, not scaled with the batch size."
    )


class Step(ScheduleConfig):
    """A factor at each milestone."""

    name: Literal["step"] = "step"
    milestones: List[Annotated[Epochs, Field(gt=0)]] = Field(
        [0.5, 0.75],
        min_length=1,
        max_length=1000,
        description="When step multiplies the rate by factor: all in epochs (1 or more) or all in fractions of the "
        "run (below 1).",
    )
    factor: Factor = 0.1

    def complaints(self) -> Iterator[Complaint]:
        if len({milestone < 1 for milestone in self.milestones}) > 1:
            yield "milestones", "all must be epochs (1 or more) or all fractions of the run (below 1)"
        if any(b <= a for a, b in zip(self.milestones, self.milestones[1:])):
            yield "milestones", f"must rise, got {self.milestones}"


class Exponential(ScheduleConfig):
    """A factor every few epochs."""

    name: Literal["exponential"] = "exponential"
    factor: Factor = 0.97
    decay_epochs: float = Field(
        2.4,
        ge=1e-3,
        le=MOST_EPOCHS,
        description="Epochs in which exponential multiplies the rate by factor once.",
    )
    staircase: Flag = Field(
        True, description="exponential drops at once every decay_epochs instead of smoothly."
    )


SCHEDULES = choice(
    "name warmup_epochs final_learning_rate milestones factor decay_epochs staircase",
    ScheduleConfig,
    Cosine,
    Step,
    Exponential,
    Constant,
    default="cosine",
)
Schedule: Any = Annotated[Union[Cosine, Step, Exponential, Constant], Field(discriminator="name")]


StartEpoch = Annotated[
    int,
    Field(ge=0, le=MOST_EPOCHS, description="Epochs that pass before the first weights enter the average."),
]


class AveragingConfig(Section):
    """Average of the weights over the run, validated and saved beside the weights themselves."""

    name: str = Field(description="Kind of average, taken once at the end of each epoch.")


class NoAverage(AveragingConfig):
    """No average."""

    name: Literal["none"] = "none"


class ExponentialAverage(AveragingConfig):
    """A running average in which older weights fade."""

    name: Literal["exponential"] = "exponential"
    decay: float = Field(
        0.97, gt=0, lt=1, description="Share of the old average kept at each epoch by exponential."
    )
    start_epoch: StartEpoch = 0


class MeanAverage(AveragingConfig):
    """The plain mean."""

    name: Literal["mean"] = "mean"
    start_epoch: StartEpoch = 0


AVERAGES = choice(
    "name decay start_epoch", AveragingConfig, NoAverage, ExponentialAverage, MeanAverage, default="none"
)
Averaging: Any = Annotated[Union[NoAverage, ExponentialAverage, MeanAverage], Field(discriminator="name")]

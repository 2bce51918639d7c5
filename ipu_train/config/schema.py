"""The schema: all sections, and what must hold between them."""

from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from pydantic import Field, ValidationInfo, field_validator, model_validator

from .. import models
from . import device_fits
from .base import Complaint, Section, Text, complain
from .choices import Choice
from .data import SOURCES, Data, DataConfig, ImageFolder
from .device import AUTO_SPLITS, DeviceConfig
from .network import ModelConfig
from .optimizer import OPTIMIZERS, Optimizer, OptimizerConfig, Sgd
from .running import CheckpointConfig, LoggingConfig
from .schedule import (
    AVERAGES,
    SCHEDULES,
    Averaging,
    AveragingConfig,
    Cosine,
    NoAverage,
    Schedule,
    ScheduleConfig,
    Step,
)
from .training import TrainingConfig, ValidationConfig

# The sections whose key ``name`` chooses among typed sections.
CHOICES: Dict[str, Choice] = {
    "data": SOURCES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "averaging": AVERAGES,
}


class Config(Section):
    """One run."""

    model: ModelConfig
    data: Data
    optimizer: Optimizer = Field(default_factory=Sgd)
    schedule: Schedule = Field(default_factory=Cosine)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    averaging: Averaging = Field(default_factory=NoAverage)
    device: DeviceConfig = Field(default_factory=DeviceConfig)
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    run_dir: Optional[Text] = Field(
        None, description="Folder of the run. null: runs/<name of the configuration>/<UTC time>."
    )

    @field_validator(*CHOICES, mode="before")
    @classmethod
    def _prepared(cls, values: Any, info: ValidationInfo) -> Any:
        return CHOICES[str(info.field_name)].prepared(values)

    @property
    def global_batch_size(self) -> int:
        """Images of one weight update: micro-batch size x gradient accumulation x replicas."""
        training = self.training
        return training.micro_batch_size * training.gradient_accumulation * training.replicas

    @property
    def validation_micro_batch_size(self) -> int:
        """Images of one validation forward pass of one replica."""
        return self.validation.micro_batch_size or self.training.micro_batch_size

    @property
    def ipus_per_replica(self) -> int:
        if self.device.pipeline_splits == AUTO_SPLITS:  # until they are found, at start
            return self.device.ipus_per_replica or 1
        return len(self.device.pipeline_splits) + 1

    @model_validator(mode="after")
    def _check_between_sections(self) -> "Config":
        complain(list(complaints_between({name: getattr(self, name) for name in SECTIONS})))
        return self

    @property
    def knows_its_ipus(self) -> bool:
        """Whether :attr:`ipus_per_replica` is settled; how many IPUs a network needs may have to be found."""
        return self.device.pipeline_splits != AUTO_SPLITS or self.device.ipus_per_replica is not None

    def without_effect(self) -> List[str]:
        """One line for each option that changes nothing beside the others, and why."""
        return list(device_fits.without_effect(self.device, self.optimizer, self.training))

    def values(self) -> Dict[str, Any]:
        """Plain values, section by section; keys that a choice does not read are null."""
        values = self.model_dump()
        return {key: CHOICES[key].whole(v) if key in CHOICES else v for key, v in values.items()}


SECTIONS = [name for name in Config.model_fields if name != "run_dir"]


def _images_fit_the_model(model: ModelConfig, data: DataConfig) -> Iterator[Complaint]:
    if isinstance(data, ImageFolder) and model.name in models.names():
        for key, message in data.settle(models.native_image_size(model.name)):
            yield f"data.{key}", message


def _schedule_fits_the_run(schedule: ScheduleConfig, training: TrainingConfig) -> Iterator[Complaint]:
    epochs = training.epochs
    if schedule.warmup_epochs > epochs:
        yield "schedule.warmup_epochs", f"is longer than the run of {epochs} epochs (training.epochs)"
    milestones = schedule.milestones if isinstance(schedule, Step) else []
    late = [milestone for milestone in milestones if milestone >= max(epochs, 1)]
    if late:
        yield (
            "schedule.milestones",
            f"{late[0]:g} is not before the end of the run of {epochs} epochs (training.epochs); "
            "fractions of the run such as 0.5 move with its length",
        )


def _final_rate_is_lower(
    schedule: ScheduleConfig, optimizer: OptimizerConfig, training: TrainingConfig
) -> Iterator[Complaint]:
    final = schedule.final_learning_rate if isinstance(schedule, Cosine) else 0.0
    rate, scaled = optimizer.learning_rate, ""
    if optimizer.learning_rate_batch_size is not None:
        batch = training.micro_batch_size * training.gradient_accumulation * training.replicas
        rate *= batch / optimizer.learning_rate_batch_size
        scaled = f" at the global batch size of {batch}"
    if final > rate * (1 + 1e-9):
        yield "schedule.final_learning_rate", f"is above optimizer.learning_rate ({rate:g}{scaled})"


def _averaging_starts_in_the_run(averaging: AveragingConfig, training: TrainingConfig) -> Iterator[Complaint]:
    if getattr(averaging, "start_epoch", 0) >= training.epochs:
        yield (
            "averaging.start_epoch",
            f"is not before the end of the run of {training.epochs} epochs (training.epochs)",
        )


def _averages_are_there_to_judge_by(
    validation: ValidationConfig, averaging: AveragingConfig
) -> Iterator[Complaint]:
    if validation.metric.startswith("averaged_") and averaging.name == "none":
        yield (
            "validation.metric",
            f"is {validation.metric}, and averaging.name is none; set one of them otherwise",
        )


def _updates_on_the_host(
    model: ModelConfig, optimizer: OptimizerConfig, training: TrainingConfig
) -> Iterator[Complaint]:
    """What the host computes between two weight updates needs the device to stop there."""
    if optimizer.name == "lars":
        who, reason = "optimizer.name", "lars updates the weights on the host"
    elif model.proxy_norm_statistics == "per_update":
        who, reason = "model.proxy_norm_statistics", "per_update updates Proxy Norm's parameters on the host"
    else:
        return
    if training.device_iterations != 1:
        yield who, f"{reason} after each weight update, which needs training.device_iterations 1"
    if training.precision == "16.16":
        yield who, f"{reason} from float32 weights; choose training.precision 16.32 or 32.32"
    if getattr(optimizer, "max_grad_norm", None) is not None:
        yield who, f"{reason}, where the gradient norm of all weights is not known; remove max_grad_norm"
    if optimizer.name == "lamb":
        yield who, f"{reason}, and lamb does not let the host read gradients; choose another optimizer"


def _loss_scaling_changes_in_the_run(
    optimizer: OptimizerConfig, training: TrainingConfig
) -> Iterator[Complaint]:
    late = [epoch for epoch in optimizer.loss_scaling_epochs or [] if epoch >= training.epochs]
    if late:
        yield (
            "optimizer.loss_scaling_epochs",
            f"{late[0]:g} is not before the end of the run of {training.epochs} epochs (training.epochs)",
        )


def _automatic_loss_scaling_has_gradients(
    optimizer: OptimizerConfig, training: TrainingConfig
) -> Iterator[Complaint]:
    if optimizer.automatic_loss_scaling and training.precision == "32.32":
        yield (
            "optimizer.automatic_loss_scaling",
            "watches float16 gradients, and training.precision 32.32 has none; choose 16.32 or 16.16",
        )


def _groups_of_replicas(model: ModelConfig, training: TrainingConfig) -> Iterator[Complaint]:
    if model.norm_replicas is not None and training.replicas % model.norm_replicas:
        yield "model.norm_replicas", f"is {model.norm_replicas} and must divide {training.replicas} replicas"


BETWEEN: List[Callable[..., Iterator[Complaint]]] = [
    _images_fit_the_model,
    _schedule_fits_the_run,
    _final_rate_is_lower,
    _averaging_starts_in_the_run,
    _averages_are_there_to_judge_by,
    _updates_on_the_host,
    _loss_scaling_changes_in_the_run,
    _automatic_loss_scaling_has_gradients,
    _groups_of_replicas,
    *device_fits.BETWEEN,
]


def complaints_between(sections: Mapping[str, Section]) -> Iterator[Complaint]:
    """What is wrong between sections, as far as the sections given (those valid by themselves) can tell."""
    for check in BETWEEN:
        names = [name for name in check.__annotations__ if name != "return"]
        if all(name in sections for name in names):
            yield from check(**{name: sections[name] for name in names})

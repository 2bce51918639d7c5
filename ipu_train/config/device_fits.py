"""What must hold between the section device and the others: options that would have no effect are refused, or warned of
where they come with a recipe whose other values were changed."""

from typing import Callable, Iterator, List, Optional

from .base import Complaint
from .device import DeviceConfig
from .optimizer import OptimizerConfig, Sgd
from .running import LoggingConfig
from .training import TrainingConfig, ValidationConfig


def _transfers_have_a_loop_to_overlap(device: DeviceConfig, training: TrainingConfig) -> Iterator[Complaint]:
    if device.io_tiles is not None and training.gradient_accumulation * training.device_iterations == 1:
        yield (
            "device.io_tiles",
            "transfers overlap with the micro-batch before, and a call has one; raise "
            "training.gradient_accumulation or training.device_iterations",
        )


def _outputs_are_chosen_from_several(
    device: DeviceConfig, training: TrainingConfig, logging: LoggingConfig
) -> Iterator[Complaint]:
    if device.output_mode == "sum":
        return
    if training.gradient_accumulation * training.device_iterations == 1:
        yield (
            "device.output_mode",
            "a call of the device has one micro-batch, whose results always come back; remove it",
        )
    elif device.output_every is not None and training.device_iterations % device.output_every:
        yield (
            "device.output_every",
            f"is {device.output_every} and must divide training.device_iterations ({training.device_iterations})",
        )
    if logging.inspect_every is not None:
        yield "device.output_mode", "logging.inspect_every adds up all micro-batches, which needs sum"


def _replicas_can_wait_for_each_other(device: DeviceConfig, training: TrainingConfig) -> Iterator[Complaint]:
    if device.sync_pattern == "replica_and_ladder" and training.replicas == 1:
        yield "device.sync_pattern", "replica_and_ladder is about several replicas (training.replicas is 1)"


def _workers_round_at_random(device: DeviceConfig, training: TrainingConfig) -> Iterator[Complaint]:
    """PopART needs the option for stochastic rounding alone: all other random numbers have seeds of their own."""
    if device.deterministic_workers is not None and not training.stochastic_rounding:
        yield "device.deterministic_workers", "has nothing to act on without training.stochastic_rounding"


def _exceptions_leave_nothing_to_undo(device: DeviceConfig, training: TrainingConfig) -> Iterator[Complaint]:
    if device.fp_exceptions and training.on_divergence != "stop":
        yield (
            "training.on_divergence",
            f"is {training.on_divergence}, and device.fp_exceptions stops the device before there is anything to undo; "
            "choose one of them",
        )


def _generated_code_does_not_round(device: DeviceConfig, training: TrainingConfig) -> Iterator[Complaint]:
    if device.torch_compile and training.precision != "32.32":
        yield (
            "device.torch_compile",
            f"generates float32 code, and training.precision is {training.precision}",
        )


def _made_up_data_measures_speed_alone(
    device: DeviceConfig, training: TrainingConfig, validation: ValidationConfig, logging: LoggingConfig
) -> Iterator[Complaint]:
    if not device.synthetic_data:
        return
    if validation.every_epochs:
        yield "validation.every_epochs", "device.synthetic_data leaves nothing to validate; set it to 0"
    if logging.inspect_every is not None:
        yield "logging.inspect_every", "device.synthetic_data leaves nothing to inspect; remove it"
    if training.on_divergence != "stop":
        yield "training.on_divergence", "under device.synthetic_data the loss means nothing; remove it"


BETWEEN: List[Callable[..., Iterator[Complaint]]] = [
    _transfers_have_a_loop_to_overlap,
    _outputs_are_chosen_from_several,
    _replicas_can_wait_for_each_other,
    _workers_round_at_random,
    _exceptions_leave_nothing_to_undo,
    _generated_code_does_not_round,
    _made_up_data_measures_speed_alone,
]


def without_effect(
    device: DeviceConfig, optimizer: OptimizerConfig, training: TrainingConfig
) -> Iterator[str]:
    """Lines about options that change nothing beside the others: memory and speed are what they are without them."""
    if device.partials == "half" and training.precision == "32.32":
        yield "device.partials: half has no effect in precision 32.32, whose partial sums are float32 like its inputs"
    reason = _no_state_apart(optimizer, training)
    if reason is None and training.replicas == 1 and device.replicated_tensor_sharding:
        yield "device.replicated_tensor_sharding: one replica (training.replicas) has nobody to share with"
    for key in ("optimizer_offload", "replicated_tensor_sharding"):
        if getattr(device, key) and reason is not None:
            yield f"device.{key}: has no effect, because {reason}"


def _no_state_apart(optimizer: OptimizerConfig, training: TrainingConfig) -> Optional[str]:
    """Why there is no optimizer state that could be placed by itself; None where there is.

    The velocity of combined accumulation is placed as the gradients' accumulator (PopART,
    ``determineTensorLocation``).
    """
    if optimizer.name == "lars":
        return "lars keeps its state on the host"
    if not isinstance(optimizer, Sgd):
        return None
    if not optimizer.momentum:
        return "sgd without optimizer.momentum keeps no state"
    if optimizer.use_combined_accum and training.gradient_accumulation > 1:
        return "optimizer.use_combined_accum makes sgd's state one tensor with the gradients' accumulator"
    return None

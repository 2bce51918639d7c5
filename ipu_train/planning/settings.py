"""A configuration in the IPU model's words."""

from ..config import Resolved
from ..ipumodel.settings import Settings
from .images import Images


def settings_of(resolved: Resolved) -> Settings:
    """The run's settings in the IPU model's words."""
    config = resolved.config
    device, optimizer, training = config.device, config.optimizer, config.training
    kind = optimizer.name
    if kind == "sgd":
        kind = "sgd_combined" if optimizer.use_combined_accum else "momentum" if optimizer.momentum else "sgd"
    elif kind == "lars":  # updates on the host; the device keeps no state
        kind = "sgd"
    proportion = device.available_memory_proportion
    return Settings(
        precision=training.precision,
        optimizer=kind,
        gradient_accumulation=training.gradient_accumulation,
        replicas=training.replicas,
        recompute=device.recompute,
        checkpoints=tuple(device.recompute_checkpoints),
        available_memory_proportion=0.6 if proportion is None else tuple(proportion),
        half_partials=device.partials == "half",
        optimizer_offload=device.optimizer_offload,
        replicated_tensor_sharding=device.replicated_tensor_sharding,
        input_bytes_per_element=1,  # images travel as bytes
        stochastic_rounding=training.stochastic_rounding,
    )


def question(resolved: Resolved, images: Images) -> str:
    """All of a configuration that its plan depends on: equal for configurations that are planned alike."""
    config = resolved.config
    return repr(
        (
            config.model,
            images,
            config.training.micro_batch_size,
            (config.device.pipeline_splits, config.device.ipus_per_replica),
            config.device.chip,
            settings_of(resolved),
        )
    )

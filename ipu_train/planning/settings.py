"""A configuration in the IPU model's words."""

from typing import Any, Optional, Tuple

from ..config import Resolved
from ..device_options import fused_on_ipus, returned_share
from ..ipumodel.settings import Settings
from .images import Images


def settings_of(resolved: Resolved) -> Settings:
    """The run's settings in the IPU model's words."""
    config = resolved.config
    device, optimizer, training = config.device, config.optimizer, config.training
    kind = optimizer.name
    if kind == "sgd":
        kind = "sgd_combined" if optimizer.use_combined_accum else "momentum" if optimizer.momentum else "sgd"
    elif kind == "rmsprop" and optimizer.centered:
        kind = "rmsprop_centered"
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
        weights_offload=device.weight_offload,
        activations_offload=device.activation_offload,
        replicated_tensor_sharding=device.replicated_tensor_sharding,
        accumulator_bytes=_WIDTHS[optimizer.accum_type],
        optimizer_bytes=_optimizer_bytes(optimizer),
        device_iterations=training.device_iterations,
        io_tiles=device.io_tiles or 0,
        prefetch_depth=device.prefetch_depth or 1,
        single_pipeline_sync=device.sync_pattern == "single_pipeline",
        returned_share=returned_share(config) if device.output_mode != "sum" else 0.0,
        synthetic_data=device.synthetic_data,
        weights_meet_host=optimizer.name == "lars" or config.model.proxy_norm_statistics == "per_update",
        input_bytes_per_element=1,  # images travel as bytes
        stochastic_rounding=training.stochastic_rounding,
    )


_WIDTHS = {"float16": 2, "float32": 4}


def _optimizer_bytes(optimizer: Any) -> Optional[Tuple[int, ...]]:
    """Widths of the optimizer's tensors, as its section chooses them; None where it chooses none.

    That is lars, and SGD with one tensor for accumulator and velocity, which has the weights' type (PopTorch's
    documentation of ``use_combined_accum``). RMSprop's mean gradient is float32 (PopTorch, ``CompilerImpl.cpp``).
    """
    if optimizer.name == "sgd":
        return None if optimizer.use_combined_accum else (_WIDTHS[optimizer.velocity_accum_type],)
    if optimizer.name == "lars":
        return None
    kinds = optimizer.first_order_momentum_accum_type, optimizer.second_order_momentum_accum_type, "float32"
    return tuple(_WIDTHS[kind] for kind in kinds)


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
            tuple(fused_on_ipus(config)),
            settings_of(resolved),
        )
    )

"""The section device in PopTorch's words: what of it becomes ``poptorch.Options``, for one program or for both."""

import os
from typing import Any, Dict, Optional, Sequence

from .config import Config
from .kernels import library
from .kernels.estimates import FASTER_FUSED
from .kernels.settings import ACTIVATIONS

# popart.RecomputationType. Standard chooses for itself and computes user checkpoints again; RecomputeAll keeps them,
# and so does Pipeline, which PopART refuses on one IPU: a pipeline's last stage, here the only one, is kept anyway.
_NONE, _STANDARD, _PIPELINE, _RECOMPUTE_ALL = 0, 1, 3, 4


def set_common(poptorch: Any, options: Any, config: Config) -> None:
    """What holds for the training and for the validation program."""
    device = config.device
    if device.available_memory_proportion is not None:
        ipus = config.ipus_per_replica
        shares = device.available_memory_proportion
        shares = shares * ipus if len(shares) == 1 else shares
        options.setAvailableMemoryProportion({f"IPU{i}": share for i, share in enumerate(shares)})
    if device.executable_cache is not None:
        options.enableExecutableCaching(os.path.expanduser(device.executable_cache))
    if device.sync_pattern != "full":
        options.syncPattern(
            poptorch.SyncPattern.SinglePipeline
            if device.sync_pattern == "single_pipeline"
            else poptorch.SyncPattern.ReplicaAndLadder
        )
    if device.weight_offload:
        options.TensorLocations.setWeightLocation(poptorch.TensorLocationSettings().useOnChipStorage(False))
    if device.prefetch_depth is not None:
        # defaultBufferingDepth under the name that PopTorch's user guide and Graphcore's applications use
        options._Popart.set("defaultPrefetchBufferingDepth", device.prefetch_depth)
    if device.synthetic_data:
        options.enableSyntheticData(True)
    for name, value in device.session_options.items():
        options._Popart.set(name, value)
    engine = engine_options(config)
    if engine:
        reports = options._Popart.options.get("engineOptions", {})  # of enableProfiling
        options._Popart.setEngineOptions({**reports, **engine})


def engine_options(config: Config) -> Dict[str, str]:
    """Options of Poplar's engine, those that keys of their own stand for included."""
    device, training = config.device, config.training
    found = dict(device.engine_options)
    workers = device.deterministic_workers
    if workers is None and training.stochastic_rounding and training.replicas > 1:
        workers = "portable"  # else weights that replicas round apart would drift apart
    if workers is not None:
        found["target.deterministicWorkers"] = workers
    return found


def set_training(poptorch: Any, options: Any, config: Config) -> None:
    """What holds for the training program alone."""
    device = config.device
    options.outputMode(*_output_mode(poptorch, config))
    if device.fp_exceptions:
        options.Precision.enableFloatingPointExceptions(True)
    if device.recompute is not None:
        options._Popart.set("autoRecomputation", _recomputation(config))
    if device.optimizer_offload or device.replicated_tensor_sharding:
        location = poptorch.TensorLocationSettings()
        location.useOnChipStorage(not device.optimizer_offload)
        location.useReplicatedTensorSharding(device.replicated_tensor_sharding)
        options.TensorLocations.setOptimizerLocation(location)
    if device.activation_offload:
        location = poptorch.TensorLocationSettings().useOnChipStorage(False)
        options.TensorLocations.setActivationLocation(location)
    if device.io_tiles is not None:
        options.setExecutionStrategy(poptorch.ShardedExecution())  # the one that overlaps transfers
        options.TensorLocations.numIOTiles(device.io_tiles)


def overlap_mode(poptorch: Any, config: Config) -> Optional[Any]:
    """The ``OverlapMode`` of the training program's inputs and outputs; None without I/O tiles."""
    if config.device.io_tiles is None:
        return None
    if config.training.gradient_accumulation > 1:
        return poptorch.OverlapMode.OverlapAccumulationLoop
    return poptorch.OverlapMode.OverlapDeviceIterationLoop


def returned_share(config: Config) -> float:
    """The share of a call's micro-batches whose results come back to the host, added up or each."""
    device, training = config.device, config.training
    if device.output_mode == "final":
        return 1.0 / (training.device_iterations * training.gradient_accumulation)
    return 1.0 / (device.output_every or 1)


def _output_mode(poptorch: Any, config: Config) -> Any:
    mode = config.device.output_mode
    if mode == "every_n":
        return poptorch.OutputMode.EveryN, config.device.output_every
    names = {"sum": "Sum", "all": "All", "final": "Final"}
    return (getattr(poptorch.OutputMode, names[mode]),)


def _recomputation(config: Config) -> int:
    pipelined = config.ipus_per_replica > 1
    if config.device.recompute == "checkpoints":
        return _PIPELINE if pipelined else _RECOMPUTE_ALL
    if config.device.recompute == "pipeline":
        return _PIPELINE if pipelined else _NONE
    return _STANDARD if config.device.recompute == "standard" else _NONE


def fused_on_ipus(config: Config) -> Sequence[str]:
    """The activations for which IPUs run the fused operator: what a training and its plan go by."""
    wanted = config.model.proxy_norm_kernel
    if not config.model.proxy_norm or config.model.proxy_norm_statistics == "per_update":
        return ()
    if wanted == "popart":
        return ACTIVATIONS
    return FASTER_FUSED if wanted == "auto" and library.is_built() else ()

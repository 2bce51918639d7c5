"""What the compiled program would cost on IPUs, as the IPU model predicts it."""

import copy
from typing import Any, Optional

import torch

from ...ipumodel import Report, Settings, Target, plan, trace
from .. import _state
from ..capture.annotations import Annotations
from ..enums import SyncPattern
from ..settings.strategies import ShardedExecution
from ..update.hyper_parameters import Snapshot

# popart.RecomputationType in the IPU model's words; RecomputeAll keeps nothing but the tensors that the model marks,
# whose names the IPU model does not learn here.
_RECOMPUTATION = {0: "none", 1: "standard", 3: "pipeline", 4: "checkpoints"}


def cost_report(
    model: torch.nn.Module, executable: Any, options: Any, sent: Optional[Snapshot], chip: str
) -> Report:
    """Memory per tile, cycles and samples per second of a compiled program on real IPUs.

    Args:
        model: the module; a copy of it is traced.
        executable: what was compiled.
        options: of the executor.
        sent: the optimizer's hyper-parameters; None in inference.
        chip: ``mk1``, ``mk2`` or ``bow``.

    Raises:
        ValueError: no such chip.
    """
    batching = executable.batching
    inputs = [
        torch.empty(
            (batching.micro_batch_size(t),) + tuple(t.shape[1:]) if t.dim() else (), dtype=_wide(t.dtype)
        )
        for t in executable.signature.tensors()
    ]
    annotations = Annotations(options._execution_strategy)
    with _state.reporting_to(annotations):
        program = trace(
            _Call(_copied(model).float(), executable.signature.with_tensors(inputs)),
            inputs,
            loss=None,
            training=executable.training,
            current_stage=lambda: annotations.stages.current().stage,
        )
    return plan(program, Target.named(chip), _settings(executable, options, sent))


def _copied(model: torch.nn.Module) -> torch.nn.Module:
    """A deep copy, also of what deepcopy refuses: buffers in training, what follows from parameters (weight norm)."""
    tensors = [v for module in model.modules() for v in vars(module).values() if isinstance(v, torch.Tensor)]
    refused = [t for t in tensors if t.grad_fn is not None] + list(model.buffers())
    return copy.deepcopy(model, {id(t): t.detach().clone() for t in refused})


def _settings(executable: Any, options: Any, sent: Optional[Snapshot]) -> Settings:
    half_inputs = any(slot in executable.graph.half for slot in executable.graph.inputs)
    shares = options.available_memory_proportion
    ipus = max(shares, default=-1) + 1
    training, locations = executable.training, options.TensorLocations.toDict()

    def away(kind: str) -> bool:
        """Whether tensors of a kind lie in streaming memory; PopART leaves them on the chip unless told otherwise."""
        return not locations.get(f"location_{kind}", {}).get("onChip", True)

    popart = options._Popart.options
    recomputation = popart.get("autoRecomputation")
    return Settings(
        precision="16.16" if executable.half_weights else "16.32" if half_inputs else "32.32",
        optimizer=_optimizer_name(sent),
        gradient_accumulation=options.Training.gradient_accumulation if training else 1,
        replicas=options.replication_factor,
        schedule="sharded" if isinstance(options._execution_strategy, ShardedExecution) else "pipelined",
        recompute=None if recomputation is None else _RECOMPUTATION.get(int(recomputation)),
        available_memory_proportion=tuple(shares.get(i, 0.6) for i in range(ipus)) or 0.6,
        half_partials=options.Precision.partials_type == torch.half,
        optimizer_offload=away("optimizer"),
        weights_offload=away("weight"),
        activations_offload=away("activation"),
        replicated_tensor_sharding=bool(
            locations.get("location_optimizer", {}).get("useReplicatedTensorSharding", False)
        ),
        device_iterations=options.device_iterations,
        io_tiles=options.TensorLocations.num_io_tiles,
        prefetch_depth=popart.get("defaultPrefetchBufferingDepth", popart.get("defaultBufferingDepth", 1)),
        single_pipeline_sync=options.sync_pattern == SyncPattern.SinglePipeline.value,
    )


class _Call(torch.nn.Module):
    """The user's model with its arguments in place, called with tensors alone."""

    def __init__(self, model: torch.nn.Module, arguments: Any) -> None:
        super().__init__()
        self.model = model
        self.arguments = arguments

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.arguments.with_tensors(list(tensors)).call(self.model)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype.is_floating_point else dtype


def _optimizer_name(sent: Optional[Snapshot]) -> str:
    if sent is None:
        return "sgd"
    if sent.kind != "sgd":
        return sent.kind
    if sent.settings["use_combined_accum"]:
        return "sgd_combined"
    return "momentum" if any(group["momentum"] for group in sent.groups) else "sgd"

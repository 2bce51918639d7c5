"""What the compiled program would cost on IPUs, as the IPU model predicts it."""

import copy
from typing import Any

import torch

from ...ipumodel import Settings, Target, plan, trace
from .. import _state
from ..capture.stages import Annotations


class CostReport:
    """Mixed into the executor."""

    def report(self, chip: str = "mk2") -> Any:
        """Memory per tile, cycles and samples per second of this program on real IPUs.

        Only the emulator has this; PopTorch's own reports come out of its compiler.

        Args:
            chip: ``mk1``, ``mk2`` or ``bow``.

        Returns:
            An ``ipu_train.ipumodel.Report``: ``table()``, ``to_json()``, ``fits``, ``plot(path)``.

        Raises:
            poptorch.Error: not compiled.
            ValueError: no such chip.
        """
        self._require_compiled()
        batching = self._executable.batching
        inputs = [
            torch.empty(
                (batching.micro_batch_size(t),) + tuple(t.shape[1:]) if t.dim() else (), dtype=_wide(t.dtype)
            )
            for t in self._executable.signature.tensors()
        ]
        arguments = self._executable.signature.with_tensors(inputs)
        annotations = Annotations(self._options._execution_strategy)
        before, _state.capture = _state.capture, annotations
        try:
            program = trace(
                _Call(copy.deepcopy(self._user_model).float(), arguments),
                inputs,
                loss=None,
                training=self._training,
                current_stage=lambda: annotations.stages.current().stage,
            )
        finally:
            _state.capture = before
        return plan(program, Target.named(chip), self._cost_settings())

    def _cost_settings(self) -> Settings:
        options = self._options
        half_inputs = any(slot in self._executable.graph.half for slot in self._executable.graph.inputs)
        shares = options.available_memory_proportion
        ipus = max(shares, default=-1) + 1
        return Settings(
            precision="16.16" if self._executable.half_weights else "16.32" if half_inputs else "32.32",
            optimizer=_optimizer_name(self._sent),
            gradient_accumulation=options.Training.gradient_accumulation if self._training else 1,
            replicas=options.replication_factor,
            available_memory_proportion=tuple(shares.get(i, 0.6) for i in range(ipus)) or 0.6,
            half_partials=options.Precision.partials_type == torch.half,
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


def _optimizer_name(sent: Any) -> str:
    if sent is None:
        return "sgd"
    if sent.kind != "sgd":
        return sent.kind
    if sent.settings["use_combined_accum"]:
        return "sgd_combined"
    return "momentum" if any(group["momentum"] for group in sent.groups) else "sgd"

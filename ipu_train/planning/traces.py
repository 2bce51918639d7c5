"""Traces of configured networks, kept: two of one network give every micro-batch size and every pipeline split."""

from typing import Any, Dict, List, Optional, Tuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .. import models
from ..config import Resolved
from ..device import fused_on_ipus
from ..ipumodel.program import Program
from ..ipumodel.report import Report
from ..ipumodel.rescale import at_batch, at_splits
from ..ipumodel.tracer import trace
from ..kernels import planned
from ..network import build_network

_KEPT = 8  # networks; a trace holds some thousand small objects


class _Unfilled(TorchDispatchMode):
    """Initial values are not written on the meta device; torch's own rules for that would import its compiler."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would import it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.endswith("_") and args[0].device.type == "meta":
            return args[0]
        return func(*args, **(kwargs or {}))


class Traces:
    """Programs of configurations for the IPU model. Not for several threads at once.

    Attributes:
        settled: the question and the plan that automatic pipeline splits were last found by, so that who asks for the
            plan of the configuration with these splits need not wait for it again.
    """

    def __init__(self) -> None:
        self._traced: Dict[str, List[Program]] = {}  # of each network: two traces, with batches above 1
        self._programs: Dict[Tuple[str, int], Program] = {}
        self.settled: Optional[Tuple[str, Report]] = None

    def program(self, resolved: Resolved, channels: int, size: int, classes: int) -> Program:
        """The training program of one micro-batch, cut at ``device.pipeline_splits``.

        Args:
            resolved: the configuration.
            channels, size, classes: of the images; size is the side in pixels.

        Raises:
            ConfigError: the model cannot be built, or a pipeline split names no module.
        """
        network_key = repr((resolved.config.model, channels, size, classes))
        batch = resolved.config.training.micro_batch_size
        key = (network_key, batch)
        if key not in self._programs:
            self._programs[key] = self._scaled(network_key, batch) or self._trace(
                network_key, resolved, channels, size, classes
            )
        splits = resolved.config.device.pipeline_splits
        if not splits:
            return self._programs[key]
        try:
            return at_splits(self._programs[key], splits)
        except ValueError as error:
            raise resolved.error("device.pipeline_splits", str(error)) from error

    def _scaled(self, network_key: str, batch: int) -> Optional[Program]:
        """From two traces of other batches; batch 1 is traced, since torch may take other routes there."""
        traced = self._traced.get(network_key, [])
        return at_batch(traced[0], traced[1], batch) if len(traced) == 2 and batch > 1 else None

    def _trace(self, network_key: str, resolved: Resolved, channels: int, size: int, classes: int) -> Program:
        batch = resolved.config.training.micro_batch_size
        with torch.device("meta"), _Unfilled():  # weights without values: none are asked for
            network = build_network(resolved, classes, channels)
        fused = fused_on_ipus(resolved.config)
        if fused:
            models.use_proxy_norm_kernel(network, planned.norm_proxy_norm_act, fused)
        program = trace(network, [torch.zeros(batch, channels, size, size, device="meta")], bare=True)
        if network_key not in self._traced and len(self._traced) >= _KEPT:
            self._traced.clear()
            self._programs.clear()
        traced = self._traced.setdefault(network_key, [])
        if batch > 1 and len(traced) < 2:
            traced.append(program)
        return program

"""A model as it was compiled, ready for calls: executable, runner and random streams belong together."""

import contextlib
import time
from typing import Any, Dict, Iterator, List, Optional

import torch

from .._args_parser import Arguments
from .._impl import createPoptorchError
from ..capture.dtypes import download
from ..capture.graph import Ref, map_structure
from ..capture.rounding import Noise
from ..inspection.ir import as_json, graph_operators, slot_names, update_operators
from ..options import Options
from ..update.rules import DeviceOptimizer
from .compiler import compile_model
from .measurements import Measurements
from .outputs import unpack
from .random import DeviceRandom, host_random_untouched
from .runner import Runner
from .substitutions import _OverwriteContextManager


class CompiledModel:
    """What compiling a module for one call's arguments gives.

    Args:
        model: the module that runs.
        user_model: the module whose weights they are.
        arguments: of a whole call.
        options: of the executor.
        training: whether calls update the weights.
        noise: behind stochastic rounding; outlives what was compiled.
        grouping: see ``compile_model``.
        modes: training flags by module name to compile with, rather than the present ones.

    Attributes:
        executable: the graph, its program and the storage of the weights.
        random: the device's random streams.
        modes: training flag of each module as it was compiled.
        anchored: what the last call left of the anchored tensors.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        user_model: torch.nn.Module,
        arguments: Arguments,
        options: Options,
        training: bool,
        noise: Noise,
        grouping: Dict[str, Any],
        modes: Optional[Dict[str, bool]] = None,
    ) -> None:
        self.random = DeviceRandom(
            options.random_seed if options.exists("random_seed") else None,
            noise,
            options.Distributed.processId * options.replication_factor,
        )
        strategy = options._execution_strategy
        with host_random_untouched(), training_modes(model, modes), _OverwriteContextManager(), traced(
            strategy
        ):
            self.modes = {name: module.training for name, module in model.named_modules()}
            self.random.start_micro_batch(0)
            self.executable, anchors = compile_model(
                model, user_model, arguments, options, training, noise, grouping
            )
        self._runner = Runner(self.executable, options, self.random, anchors)
        self.anchored: Dict[str, torch.Tensor] = {}

    def run(
        self, tensors: List[torch.Tensor], optimizer: Optional[DeviceOptimizer], measurements: Measurements
    ) -> Any:
        """One call; what forward returns, on the host. Inputs that forward updates in place are updated.

        Args:
            tensors: of the call's arguments.
            optimizer: updates the weights; None in inference.
            measurements: where the call's times are noted.
        """
        started = time.perf_counter()
        with host_random_untouched():
            if self._runner.synthetic:
                tensors = [synthetic(tensor) for tensor in tensors]
            outputs, changed_inputs = self._runner.run(tensors, optimizer)
        measurements.called(time.perf_counter() - started, self._runner.timeline)
        self.anchored = {
            anchor.short_name: download(anchor.value(), False) for anchor in self._runner.anchors
        }
        for index, value in changed_inputs.items():
            tensors[index].copy_(value)
        graph = self.executable.graph
        return unpack(
            map_structure(
                graph.outputs, lambda ref: to_host(outputs[ref.slot], ref.slot in graph.half), (Ref,)
            )
        )

    def tensor_names(self, optimizer: Optional[DeviceOptimizer]) -> List[str]:
        """Names of all tensors, in training with those of the weight update."""
        names = list(slot_names(self.executable.graph))
        if optimizer is not None:
            names.append("loss")
            for weight, storage in self.executable.weights.items():
                if storage.requires_grad:
                    names += [f"Gradient___{weight}", f"UpdatedVar___{weight}"]
            names += list(optimizer.read_parameters())
        return names

    def popart_ir(self, optimizer: Optional[DeviceOptimizer]) -> str:
        """The graph as JSON text, in training with the operators that update the weights."""
        operators = graph_operators(self.executable.graph)
        if optimizer is not None:
            operators += update_operators(optimizer)
        return as_json(operators)


@contextlib.contextmanager
def traced(strategy: Any) -> Iterator[None]:
    """Tell an execution strategy, which may be the user's own, when a forward is captured."""
    strategy.onStartTracing()
    try:
        yield
    finally:
        strategy.onEndTracing()


@contextlib.contextmanager
def training_modes(model: torch.nn.Module, modes: Optional[Dict[str, bool]]) -> Iterator[None]:
    """Set the training flags of a model's modules for a while; modules that are not named keep theirs."""
    before = [(module, module.training) for module in model.modules()]
    for name, module in model.named_modules():
        module.training = (modes or {}).get(name, module.training)
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def synthetic(tensor: torch.Tensor) -> torch.Tensor:
    """Generated data in the place of an input: normally distributed, integers and booleans all zero."""
    return torch.randn_like(tensor) if tensor.is_floating_point() else torch.zeros_like(tensor)


def to_host(stored: torch.Tensor, half: bool) -> torch.Tensor:
    """An output as the host gets it; ``half`` for one that the device holds as float16."""
    host = download(stored, half)
    host.backward = refuse_backward  # type: ignore[method-assign]
    return host


def refuse_backward(*args: Any, **kwargs: Any) -> None:
    """What ``backward`` is on an executor's outputs. Outputs may be pickled, hence a function of the module."""
    raise createPoptorchError(
        "backward() cannot be called explicitly on outputs of a PopTorch model. If you're using a trainingModel, the "
        "backwards pass is performed automatically when invoking the model. If you're using an inferenceModel, you "
        "should use a trainingModel instead."
    )


if hasattr(torch.serialization, "add_safe_globals"):  # torch.load(weights_only=True) may meet it
    torch.serialization.add_safe_globals([refuse_backward])

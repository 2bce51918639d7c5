"""``PoplarExecutor``: compiles a module once and runs it on the emulated device."""

import contextlib
import copy
import sys
import time
from typing import Any, Dict, Iterator, List, Optional

import torch

from . import _args_parser
from ._impl import createPoptorchError, outside_inference_mode
from ._logging import logger
from ._printing import module_repr
from .capture.dtypes import download
from .capture.graph import Ref, map_structure
from .capture.rounding import Noise
from .device import devices, files, hooks, wrapping
from .device.compiler import compile_model
from .device.executable import Executable
from .device.files import ExecutableFiles
from .device.measurements import Measurements, Timeline
from .device.random import DeviceRandom, host_random_untouched
from .device.replica_groups import ParameterProxy
from .device.runner import Runner
from .device.weights import NOT_COMPILED, DeviceWeights
from .enums import ConnectionType, MeanReductionStrategy, OutputMode
from .inspection.compile_log import log_acquired, log_compiled
from .inspection.cost_report import CostReport
from .inspection.tensors import Inspection
from .optim import AttributeTracker, Optimizer, changedConstants, snapshot
from .options import Options
from .update.rules import DeviceOptimizer


class PoplarExecutor(CostReport, DeviceWeights, ExecutableFiles, Inspection, Measurements):
    """A module together with options, an optimizer when training, and the device's copy of its weights.

    Made by ``trainingModel`` and ``inferenceModel``. Attributes it does not have are looked up on the module.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        options: Optional[Options],
        training: bool,
        optimizer: Optional[Any] = None,
    ) -> None:
        self._user_model = model
        self._training = training
        if options is None:
            options = Options()
        if not isinstance(options, Options):
            raise createPoptorchError("Invalid type: 'options' must be an instance of poptorch.Options")
        options._freeze()
        own = options.clone()
        if own.defaultOutputMode():
            own.outputMode(OutputMode.Final if training else OutputMode.All)
        own._freeze()
        self._options = own
        self._optimizer = optimizer
        self._tracker = AttributeTracker(own._relax_optimizer_checks)
        self._sent = self._take(optimizer) if training else None
        self._parser = _args_parser.ArgsParser(model)
        # the module that runs: its own attributes, but sub-modules, parameters and buffers shared with the user's
        self._model = copy.copy(model)
        if not training:
            self._user_model = self._model  # so that model.eval() on an inference executor reaches what runs
        self._executable: Optional[Executable] = None
        self._runner: Optional[Runner] = None
        self._device_optimizer: Optional[DeviceOptimizer] = None
        self._noise = Noise(own._Emulator.device)
        self._random: Optional[DeviceRandom] = None
        self._random_state: Optional[List[int]] = None
        self._dirty_host_weights = False
        self._attached = False
        self._weight_updates = 0
        self._refreshed_from: Dict[int, int] = {}
        self._compile_seconds = 0.0
        self._modes: Dict[str, bool] = {}
        self._cycles: Optional[int] = None
        self._timeline = Timeline()
        self._anchored: Dict[str, torch.Tensor] = {}
        self.per_replica_params: Dict[str, Any] = {}
        if training:
            wrapping.wrap(model, self)

    # -- plain facts ---------------------------------------------------------------------------------------------

    @property
    def model(self) -> torch.nn.Module:
        """The user's module when training; for inference the copy that runs, whose weights are the user's."""
        return self._user_model

    @property
    def options(self) -> Options:
        return self._options

    def isCompiled(self) -> bool:
        return self._executable is not None

    def isAttachedToDevice(self) -> bool:
        return self._attached and self.isCompiled()

    @property
    def rng_state(self) -> List[int]:
        """``[seed, state...]`` of the device's random streams; may be set, also before a resumed run."""
        if self._random is None:
            raise createPoptorchError("Cannot read the random state: " + NOT_COMPILED)
        return self._random.state

    @rng_state.setter
    def rng_state(self, state: List[int]) -> None:
        if self._random is None:
            raise createPoptorchError("Cannot set the random state: " + NOT_COMPILED)
        self._random.state = list(state)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_user_model" not in self.__dict__:
            raise AttributeError(name)
        value = getattr(self._user_model, name)
        return ParameterProxy(value, name, self) if isinstance(value, torch.nn.Parameter) else value

    def __repr__(self) -> str:
        return module_repr(self._user_model)

    # -- compile and run -----------------------------------------------------------------------------------------

    @outside_inference_mode
    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile for arguments like these without running."""
        if self.isCompiled():
            logger.warning(
                "The model is already compiled: compile() is ignored. Call destroy() first to recompile."
            )
            return
        self._compile(self._parser.bind(args, kwargs))

    def _compile(self, arguments: _args_parser.Arguments, modes: Optional[Dict[str, bool]] = None) -> None:
        """Capture the forward; ``modes`` are training flags by module name to do it with, rather than the present."""
        started = time.perf_counter()
        early = self._options.connection_type == ConnectionType.Always.value
        device = devices.acquire(self, self._options) if early else devices.target_of(self._options)
        hooks.run_pre_compile()
        self._refresh_from_training()
        random = DeviceRandom(
            self._options.random_seed if self._options.exists("random_seed") else None,
            self._noise,
            self._options.Distributed.processId * self._options.replication_factor,
        )
        with host_random_untouched(), training_modes(self._model, modes):
            self._modes = {name: module.training for name, module in self._model.named_modules()}
            random.start_micro_batch(0)
            self._executable, anchors = compile_model(
                self._model,
                self._user_model,
                arguments,
                self._options,
                self._training,
                self._noise,
                self.per_replica_params,
            )
        self._random = random
        self._runner = Runner(self._executable, self._options, random, anchors)
        log_acquired(self._executable.graph, self._options.replication_factor, device)
        if early:
            devices.attach(self, self._options)
        log_compiled()
        self._attached = self._options.connection_type != ConnectionType.Never.value
        if self._attached and not early:
            devices.attach(self, self._options)
        self._upload()
        files.after_compile(self)
        self._compile_seconds = time.perf_counter() - started
        hooks.run_post_compile()

    @outside_inference_mode
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        assert self._options.connection_type != ConnectionType.Never.value, (
            "Trying to run a model on an offline device (ConnectionType.Never): use compile() or "
            "compileAndExport() only"
        )
        arguments = self._parser.bind(args, kwargs)
        if not self.isCompiled():
            self._compile(arguments)
        else:
            _args_parser.validate(self._executable.signature, arguments)
        if not self._attached:
            self.attachToDevice()
        if not self._training:
            self._refresh_from_training()
        else:
            self._write_loaded_state()
        tensors = arguments.tensors()
        started = time.perf_counter()
        with host_random_untouched():
            if self._runner.synthetic:
                tensors = [synthetic(tensor) for tensor in tensors]
            outputs, changed_inputs = self._runner.run(tensors, self._device_optimizer)
        self._count_cycles(time.perf_counter() - started)
        self._timeline = self._runner.timeline
        self._anchored = {
            anchor.short_name: download(anchor.value(), False) for anchor in self._runner.anchors
        }
        for index, value in changed_inputs.items():
            tensors[index].copy_(value)
        if self._training:
            self._dirty_host_weights = True
            self._weight_updates += self._options.device_iterations
            if isinstance(self._optimizer, Optimizer):
                self._optimizer.host_state_is_dirty = True
        return map_structure(
            self._executable.graph.outputs, lambda ref: self._to_host(outputs[ref.slot], ref.slot), (Ref,)
        )

    def _to_host(self, stored: torch.Tensor, slot: int) -> torch.Tensor:
        host = download(stored, slot in self._executable.graph.half)
        host.backward = refuse_backward  # type: ignore[method-assign]
        return host

    # -- optimizer -----------------------------------------------------------------------------------------------

    def setOptimizer(self, optimizer: Any) -> None:
        """Send the optimizer's present hyper-parameters to the device; its state is kept.

        Raises:
            poptorch.Error: the number of parameter groups differs from the compiled optimizer's, or what was compiled
                in as a constant has changed.
            ValueError: float16 accumulation is asked for after compilation.
        """
        taken = self._take(optimizer)
        if self._sent is not None and len(taken.groups) != len(self._sent.groups):
            raise createPoptorchError(
                f"setOptimizer: the new optimizer has {len(taken.groups)} parameter groups, the one that the model "
                f"was wrapped with has {len(self._sent.groups)}."
            )
        if self.isCompiled() and self._sent is not None:
            if taken.kind != self._sent.kind:
                raise createPoptorchError(
                    f"setOptimizer: the model was compiled for {self._sent.kind} and cannot run {taken.kind}: call "
                    "destroy() to compile it again."
                )
            changed = changedConstants(self._sent, taken)
            if changed:
                raise createPoptorchError(
                    f"setOptimizer: {', '.join(changed)} changed, but was compiled in as a constant. Mark it with "
                    "optimizer.variable_attrs.markAsVariable() before compiling, or pass it to the constructor."
                )
        if optimizer is not self._optimizer:
            self._release_optimizer(self._optimizer)
            self._optimizer = optimizer
            self._connect_optimizer()
        self._send(taken)
        if self.isAttachedToDevice():
            self._write_loaded_state()

    def _write_loaded_state(self) -> None:
        """A state that was loaded into the optimizer since the last run, to the device; weights go up with it."""
        if getattr(self._optimizer, "ipu_state_is_dirty", False):
            self.copyWeightsToHostIfNeeded()
            self._upload()

    def _take(self, optimizer: Any) -> Any:
        """The optimizer's present hyper-parameters; notices attributes that mean nothing to the device."""
        taken = snapshot(optimizer)
        self._tracker.check(optimizer, taken)
        half = taken.settings["accum_type"] == torch.float16 and not taken.settings["use_combined_accum"]
        strategy = MeanReductionStrategy.Running if half else MeanReductionStrategy.Post
        training = self._options.Training
        if half and training.meanAccumulationAndReplicationReductionStrategy != strategy:
            if self.__dict__.get("_executable") is not None:
                raise ValueError(
                    "float16 accumulation needs the running mean reduction strategy, but the model is already compiled "
                    "for another"
                )
            training._values["meanAccumulationAndReplicationReductionStrategy"] = strategy
        return taken

    # -- device --------------------------------------------------------------------------------------------------

    def detachFromDevice(self) -> None:
        """Bring weights and optimizer state home and release the device."""
        self._require_compiled()
        if not self._attached:
            raise createPoptorchError("Device is not attached")
        self.copyWeightsToHostIfNeeded()
        if isinstance(self._optimizer, Optimizer):
            self._optimizer._refresh()
        self._attached = False
        devices.release(self)

    def attachToDevice(self) -> None:
        """Take the device again and upload what the host now has."""
        self._require_compiled()
        assert self._options.connection_type != ConnectionType.Never.value, (
            "Trying to attach to an offline device (ConnectionType.Never)"
        )
        if self._attached:
            raise createPoptorchError("The model is already attached to a device")
        devices.attach(self, self._options)
        self._attached = True
        self._upload()

    def destroy(self) -> None:
        """Bring everything home, drop the executable and take the wrapper classes off the module."""
        if not self.isCompiled():
            return
        if self._training:
            self.copyWeightsToHostIfNeeded()
            self._unwrap()
        self._release_optimizer(self._optimizer)
        self._executable = self._runner = self._device_optimizer = None
        self._attached = False
        devices.release(self)

    def __del__(self) -> None:
        # A dropped executor loses nothing: trained weights come home first. At interpreter exit too little may be
        # left to do that, and nobody to notice.
        if self.__dict__.get("_executable") is not None and not sys.is_finalizing():
            self.destroy()

    def _unwrap(self) -> None:
        self.copyWeightsToHostIfNeeded()
        wrapping.unwrap(self._user_model, self)


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


def refuse_backward(*args: Any, **kwargs: Any) -> None:
    """What ``backward`` is on an executor's outputs. Outputs may be pickled, hence a function of the module."""
    raise createPoptorchError(
        "backward() cannot be called explicitly on outputs of a PopTorch model. If you're using a trainingModel, the "
        "backwards pass is performed automatically when invoking the model. If you're using an inferenceModel, you "
        "should use a trainingModel instead."
    )


if hasattr(torch.serialization, "add_safe_globals"):  # torch.load(weights_only=True) may meet it
    torch.serialization.add_safe_globals([refuse_backward])

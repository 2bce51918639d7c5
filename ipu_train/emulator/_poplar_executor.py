"""``PoplarExecutor``: compiles a module once and runs it on the emulated device."""

import copy
import time
from typing import Any, Callable, Dict, List, Optional

import torch

from . import _args_parser, _impl
from ._impl import answered_by, createPoptorchError, outside_inference_mode
from ._logging import logger
from ._printing import module_repr
from .capture.rounding import Noise
from .device import devices, files, hooks, wrapping
from .device.compiled import CompiledModel
from .device.executable import Executable
from .device.measurements import Measurements
from .device.optimizer import ModelOptimizer
from .device.replica_groups import ParameterProxy
from .device.substitutions import _OverwriteContextManager  # noqa: F401
from .device.weights import NOT_COMPILED, DeviceWeights
from .enums import ConnectionType, OutputMode
from .inspection.compile_log import log_acquired, log_compiled
from .inspection.cost_report import cost_report
from .options import Options
from .update.rules import DeviceOptimizer


class PoplarExecutor:
    """A module together with options, an optimizer when training, and the device's copy of its weights.

    Made by ``trainingModel`` and ``inferenceModel``. Attributes it does not have are looked up on the module. It owns
    what compiling gives (``_compiled``, None before) and the parts that know more: ``_weights``, ``_optimizer`` (None
    in inference) and ``_measurements``.
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
        self._optimizer = ModelOptimizer(optimizer, own, self) if training else None
        self._parser = _args_parser.ArgsParser(model)
        # the module that runs: its own attributes, but sub-modules, parameters and buffers shared with the user's
        self._model = copy.copy(model)
        if not training:
            self._user_model = self._model  # so that model.eval() on an inference executor reaches what runs
        self._weights = DeviceWeights(self._user_model, own, self._optimizer, model)
        self._measurements = Measurements(own)
        self._compiled: Optional[CompiledModel] = None
        self._noise = Noise(own._Emulator.device)
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

    @property
    def _executable(self) -> Optional[Executable]:
        """What was compiled, under PopTorch's name for it."""
        return self._compiled.executable if self._compiled is not None else None

    def isCompiled(self) -> bool:
        return self._compiled is not None

    def isAttachedToDevice(self) -> bool:
        return self._weights.attached and self.isCompiled()

    @property
    def rng_state(self) -> List[int]:
        """``[seed, state...]`` of the device's random streams; may be set, also before a resumed run."""
        return self._require_compiled().random.read()

    @rng_state.setter
    def rng_state(self, state: List[int]) -> None:
        self._require_compiled().random.write(state, self.isAttachedToDevice())

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
                "The model is already compiled: compile() is ignored. Call destroy() to recompile."
            )
            return
        self._compile(self._parser.bind(args, kwargs))

    def _compile(self, arguments: _args_parser.Arguments, modes: Optional[Dict[str, bool]] = None) -> None:
        """Capture the forward; ``modes`` are training flags by module name to do it with, rather than the present."""
        started = time.perf_counter()
        if self._optimizer is not None:
            self._optimizer.find_parameters(self._user_model)
        early = self._options.connection_type == ConnectionType.Always.value
        device = devices.acquire(self, self._options) if early else devices.target_of(self._options)
        hooks.run_pre_compile()
        if not self._training:
            self._weights.fetch_trained()  # which compiling looks at
        try:
            self._compiled = CompiledModel(
                self._model, self._user_model, arguments, self._options, self._training, self._noise,
                self.per_replica_params, modes,
            )  # fmt: skip
        finally:
            hooks.run_post_compile()
            _impl.rewrapModelIfNecessary(self._model)
        executable = self._weights.executable = self._compiled.executable
        log_acquired(executable.graph, self._options.replication_factor, device)
        if early:
            devices.attach(self, self._options)
        log_compiled()
        self._weights.attached = self._options.connection_type != ConnectionType.Never.value
        if self._weights.attached and not early:
            devices.attach(self, self._options)
        self._upload()
        seconds = time.perf_counter() - started
        files.after_compile(executable, self._options, seconds)
        self._measurements.compile_seconds = seconds

    @outside_inference_mode
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        assert self._options.connection_type != ConnectionType.Never.value, (
            "Trying to run a model on an offline device (ConnectionType.Never): use compile() or "
            "compileAndExport() only"
        )
        arguments = self._parser.bind(args, kwargs)
        if not self.isCompiled():
            self._compile(arguments)
        _args_parser.validate(self._require_compiled().executable.signature, arguments)
        if not self._weights.attached:
            self.attachToDevice()
        if self._optimizer is None:
            self._weights.follow()
        else:
            self._write_loaded_state()
        outputs = self._require_compiled().run(
            arguments.tensors(), self._device_optimizer, self._measurements
        )
        if self._optimizer is not None:
            self._weights.trained(self._options.device_iterations)
            self._optimizer.has_run()
        return outputs

    def _upload(self) -> None:
        """All that the host knows, to a device that was just taken."""
        self._weights.upload()
        self._require_compiled().random.send(self.isAttachedToDevice())

    @property
    def _device_optimizer(self) -> Optional[DeviceOptimizer]:
        return self._optimizer.device if self._optimizer is not None else None

    # -- optimizer and weights -----------------------------------------------------------------------------------

    def setOptimizer(self, optimizer: Any) -> None:
        """Send the optimizer's present hyper-parameters to the device; its state is kept.

        Raises:
            poptorch.Error: after compilation, the number of parameter groups differs, or what was compiled in as a
                constant has changed.
            ValueError: float16 accumulation is asked for after compilation.
        """
        if self._optimizer is None:
            ModelOptimizer(optimizer, self._options, None)  # is checked, and has nowhere to go
            return
        self._optimizer.replace(optimizer, self.isCompiled())
        if self.isAttachedToDevice():
            self._write_loaded_state()

    def _write_loaded_state(self) -> None:
        """A state that was loaded into the optimizer since the last run, to the device; weights go up with it."""
        if self._optimizer is not None and self._optimizer.was_loaded:
            self.copyWeightsToHostIfNeeded()
            self._weights.upload()

    copyWeightsToDevice = answered_by("_weights", DeviceWeights.copyWeightsToDevice)
    copyWeightsToHost = answered_by("_weights", DeviceWeights.copyWeightsToHost)
    copyNamedBuffersToDevice = answered_by("_weights", DeviceWeights.copyNamedBuffersToDevice)

    def copyWeightsToHostIfNeeded(self) -> bool:
        """Fetch the weights when training has changed them since; tells whether it did."""
        if not self._weights.stale or not self.isCompiled():
            return False
        logger.debug("Implicit copyWeightsToHost()")
        self.copyWeightsToHost()
        return True

    def load_state_dict(self, state_dict: Dict[str, torch.Tensor], strict: bool = True) -> Any:
        """Load into the module and, when compiled and attached, on to the device."""
        result = self._user_model.load_state_dict(state_dict, strict)
        if self.isAttachedToDevice():
            self.copyWeightsToDevice()
        return result

    def _require_compiled(self) -> CompiledModel:
        if self._compiled is None:
            raise createPoptorchError(NOT_COMPILED)
        return self._compiled

    # -- device --------------------------------------------------------------------------------------------------

    def detachFromDevice(self) -> None:
        """Bring weights, optimizer state and random state home and release the device."""
        compiled = self._require_compiled()
        if not self._weights.attached:
            raise createPoptorchError("Device is not attached")
        compiled.random.read()
        self.copyWeightsToHostIfNeeded()
        if self._optimizer is not None:
            self._optimizer.refresh()
        self._weights.attached = False
        devices.release(self)
        logger.debug("Detached from device")

    def attachToDevice(self) -> None:
        """Take the device again and upload what the host now has."""
        self._require_compiled()
        assert self._options.connection_type != ConnectionType.Never.value, (
            "Trying to attach to an offline device (ConnectionType.Never)"
        )
        if self._weights.attached:
            raise createPoptorchError("The model is already attached to a device")
        devices.attach(self, self._options)
        self._weights.attached = True
        self._upload()

    def destroy(self) -> None:
        """Bring everything home, drop the executable and take the wrapper classes off the module.

        Raises:
            poptorch.Error: the module itself was not wrapped any more, as after a first ``destroy()``.
        """
        if not self.isCompiled():
            return
        wrapped = _impl.isWrapped(self._user_model)
        if self._optimizer is not None:
            self.copyWeightsToHostIfNeeded()
            _impl.unwrapModelIfNecessary(self._user_model)
            self._optimizer.release()
            self._optimizer.device = None
        self._compiled = self._weights.executable = None
        self._measurements.compile_seconds = None
        self._weights.attached = False
        devices.release(self)
        if self._training and not wrapped:
            raise createPoptorchError("model was never wrapped")

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._training or self.isCompiled():
            files.refuse_copies(self)
        # PopTorch writes it as well, and cannot read it either
        return files.refuse_copies, (self._user_model,)

    # -- files ---------------------------------------------------------------------------------------------------

    def save(self, filename: str, export_model: bool = True, save_rng_state: bool = True) -> None:
        """Write the compiled model to a file.

        Args:
            filename: a file, or a directory, in which it is called ``model.poptorch``.
            export_model: write the module, options and optimizer too, so that ``poptorch.load`` can read the file.
            save_rng_state: write the random state too.
        """
        compiled, device = self._require_compiled(), self._device_optimizer
        self.copyWeightsToHostIfNeeded()
        host = self._optimizer.host if self._optimizer is not None else None
        saved = files.Saved(
            training=self._training,
            signature=compiled.executable.signature,
            optimizer_state=device.read_state() if device is not None else None,
            random=self.rng_state if save_rng_state else None,
            grouping=self.per_replica_params,
            modes=compiled.modes,
            model=(self._user_model, self._options.clone(), host) if export_model else None,
        )
        files.write(filename, saved)

    def compileAndExport(self, filename: str, *args: Any, export_model: bool = True, **kwargs: Any) -> None:
        """:meth:`compile`, then :meth:`save`."""
        self.compile(*args, **kwargs)
        self.save(filename, export_model=export_model)

    def loadExecutable(self, filename: str) -> None:
        """Take over the executable of a file, in place of compiling.

        Raises:
            poptorch.Error: the file holds no executable of this kind and version.
        """
        self._restore(files.read_executable(filename, self._training))

    def _restore(self, saved: files.Saved) -> None:
        """Compile for what was saved, and take over the state that was saved with it."""
        self.per_replica_params.update(saved.grouping)
        self._compile(saved.signature, saved.modes)
        if self._device_optimizer is not None and saved.optimizer_state is not None:
            self._device_optimizer.write_state(saved.optimizer_state)
        if saved.random is not None:
            self.rng_state = saved.random

    # -- what it tells -------------------------------------------------------------------------------------------

    compilationTime = answered_by("_measurements", Measurements.compilationTime)
    cycleCount = answered_by("_measurements", Measurements.cycleCount)
    getPerfCounters = answered_by("_measurements", Measurements.getPerfCounters)
    getHostIpuLatency = answered_by("_measurements", Measurements.getHostIpuLatency)
    getComputeLatency = answered_by("_measurements", Measurements.getComputeLatency)
    getIpuHostLatency = answered_by("_measurements", Measurements.getIpuHostLatency)
    getLatency = answered_by("_measurements", Measurements.getLatency)

    def getTensorNames(self) -> List[str]:
        """Names of all tensors of the compiled model, for ``Options.anchorTensor``."""
        assert self._compiled is not None, (
            "getTensorNames() needs a compiled model: call it (or compile()) first"
        )
        return self._compiled.tensor_names(self._device_optimizer)

    def getAnchoredTensor(self, short_name: str) -> torch.Tensor:
        """What the last call left of a tensor that ``Options.anchorTensor`` keeps."""
        assert short_name in self._options.anchored_tensors, (
            f"No tensor with name {short_name}: Options.anchorTensor() names those that are kept"
        )
        anchored = self._compiled.anchored if self._compiled else {}
        assert short_name in anchored, f"No value of {short_name} yet: run the model first"
        return anchored[short_name]

    def _debugGetPopartIR(self) -> str:
        """The captured graph as JSON text; in training with the operators that update the weights."""
        return self._require_compiled().popart_ir(self._device_optimizer)

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
        executable = self._require_compiled().executable
        sent = self._optimizer.sent if self._optimizer is not None else None
        return cost_report(self._user_model, executable, self._options, sent, chip)


def load(filename: str, edit_opts_fn: Optional[Callable[[Options], None]] = None) -> PoplarExecutor:
    """A compiled executor from a file that holds its model; see ``poptorch.load``."""
    saved = files.read_model(filename)
    assert saved.model is not None
    model, options, optimizer = saved.model
    options.deleteIfExists("ipu_version")
    if options.connection_type == ConnectionType.Never.value:
        options.connectionType(ConnectionType.Always)
    if edit_opts_fn is not None:
        edit_opts_fn(options)
    executor = PoplarExecutor(model, options, saved.training, optimizer)
    executor._restore(saved)
    return executor

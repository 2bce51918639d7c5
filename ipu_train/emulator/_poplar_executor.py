"""``PoplarExecutor``: compiles a module once and runs it on the emulated device."""

import copy
import datetime
import sys
import time
import weakref
from typing import Any, Dict, List, Optional

import torch

from . import _args_parser, _hooks, _wrapping
from ._compiler import Executable, compile_model
from ._dtypes import download
from ._graph import Ref, map_structure
from ._impl import createPoptorchError
from ._logging import logger
from ._random import DeviceRandom, host_random_untouched
from ._runner import Runner
from ._update_rules import DeviceOptimizer
from .enums import ConnectionType, OutputMode
from .optim import Optimizer, snapshot
from .options import Options

_NOT_COMPILED = "The model has not been compiled or has been destroyed: call it (or compile()) first."


class PoplarExecutor:
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
        self._sent = snapshot(optimizer) if training else None
        self._parser = _args_parser.ArgsParser(model)
        # the module that runs: its own attributes, but sub-modules, parameters and buffers shared with the user's
        self._model = copy.copy(model)
        self._executable: Optional[Executable] = None
        self._runner: Optional[Runner] = None
        self._device_optimizer: Optional[DeviceOptimizer] = None
        self._rounding_generator = torch.Generator()
        self._random: Optional[DeviceRandom] = None
        self._random_state: Optional[List[int]] = None
        self._dirty_host_weights = False
        self._attached = False
        self._weight_updates = 0
        self._refreshed_from: Dict[int, int] = {}
        self._compile_seconds = 0.0
        if training:
            _wrapping.wrap(model, self)

    # -- plain facts ---------------------------------------------------------------------------------------------

    @property
    def model(self) -> torch.nn.Module:
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
            raise createPoptorchError("Cannot read the random state: " + _NOT_COMPILED)
        return self._random.state

    @rng_state.setter
    def rng_state(self, state: List[int]) -> None:
        if self._random is None:
            raise createPoptorchError("Cannot set the random state: " + _NOT_COMPILED)
        self._random.state = list(state)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_user_model" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._user_model, name)

    def __repr__(self) -> str:
        from ._printing import module_repr

        return module_repr(self._user_model)

    # -- compile and run -----------------------------------------------------------------------------------------

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile for arguments like these without running."""
        if self.isCompiled():
            logger.warning(
                "The model is already compiled: compile() is ignored. Call destroy() first to recompile."
            )
            return
        self._compile(self._parser.bind(args, kwargs))

    def _compile(self, arguments: _args_parser.Arguments) -> None:
        started = time.perf_counter()
        _hooks.run_pre_compile()
        self._refresh_from_training()
        random = DeviceRandom(
            self._options.random_seed if self._options.exists("random_seed") else None,
            self._rounding_generator,
            self._options.Distributed.processId * self._options.replication_factor,
        )
        with host_random_untouched():
            random.start_micro_batch(0)
            self._executable = compile_model(
                self._model,
                self._user_model,
                arguments,
                self._options,
                self._training,
                self._rounding_generator,
            )
        self._random = random
        self._runner = Runner(self._executable, self._options, random)
        self._upload()
        self._attached = self._options.connection_type != ConnectionType.Never.value
        self._compile_seconds = time.perf_counter() - started
        _hooks.run_post_compile()

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
        elif getattr(self._optimizer, "ipu_state_is_dirty", False):  # loaded since the last run
            self._upload()
        tensors = arguments.tensors()
        with host_random_untouched():
            outputs, changed_inputs = self._runner.run(tensors, self._device_optimizer)
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
        return _no_backward(host) if self._training else host

    # -- weights -------------------------------------------------------------------------------------------------

    def _upload(self) -> None:
        """Host weights and buffers, then optimizer hyper-parameters and any state that was loaded, to the device."""
        self._dirty_host_weights = False
        self._executable.upload_state(self._user_model)
        if self._training:
            if self._device_optimizer is None:
                self._device_optimizer = DeviceOptimizer(
                    self._sent, self._executable.optimizer_names(self._optimizer), self._executable.weights,
                    self._executable.half_weights,
                )  # fmt: skip
                self._connect_optimizer()
            if getattr(self._optimizer, "ipu_state_is_dirty", False):
                self._device_optimizer.write_state(self._optimizer.get_state_dict()["ipu_state"])
                self._optimizer.ipu_state_is_dirty = False

    def _connect_optimizer(self) -> None:
        """From now on the optimizer reads its state from this device."""
        if not isinstance(self._optimizer, Optimizer) or self._device_optimizer is None:
            return
        this = weakref.ref(self)  # an optimizer must not keep an executor alive that the user has dropped
        self._optimizer._connect(lambda: this() and this()._read_optimizer_state())
        if not self._optimizer.ipu_state_is_dirty:
            self._optimizer.host_state_is_dirty = self._options.connection_type != ConnectionType.Never.value

    def _read_optimizer_state(self) -> None:
        device = self._device_optimizer
        self._optimizer.set_state_dict(
            {"ipu_state": device.read_state(), "ipu_param": device.read_parameters()}
        )

    def _release_optimizer(self, optimizer: Any) -> None:
        """Bring an optimizer's state home for good."""
        if isinstance(optimizer, Optimizer):
            optimizer._refresh()
            optimizer._connect(None)

    def copyWeightsToDevice(self) -> None:
        """Overwrite the device's weights and buffers with the host's."""
        self._require_compiled()
        self._dirty_host_weights = False
        self._executable.upload_state(self._user_model)
        self._weight_updates += 1

    def copyWeightsToHost(self) -> None:
        """Write the device's weights and buffers into the module's own tensors, in place."""
        self._require_compiled()
        self._dirty_host_weights = False
        self._executable.download_state(self._user_model)

    def copyWeightsToHostIfNeeded(self) -> bool:
        """Fetch the weights when training has changed them since; tells whether it did."""
        if not self._dirty_host_weights:
            return False
        self._dirty_host_weights = False
        self.copyWeightsToHost()
        return True

    def _refresh_host_weights(self) -> None:
        if self._dirty_host_weights and self.isCompiled():
            self._dirty_host_weights = False
            self.copyWeightsToHost()

    def _refresh_from_training(self) -> None:
        """An inference executor follows the executor that trains the same weights."""
        if self._training:
            return
        changed = False
        for executor in {
            id(e): e for e in map(_wrapping.owner_of, self._user_model.parameters()) if e
        }.values():
            executor.copyWeightsToHostIfNeeded()
            if self._refreshed_from.get(id(executor)) != executor._weight_updates:
                self._refreshed_from[id(executor)] = executor._weight_updates
                changed = True
        if changed and self.isCompiled():
            self._executable.upload_state(self._user_model)

    def copyNamedBuffersToDevice(self) -> None:
        """Upload the buffers named in ``Options.updatableNamedBuffers``."""
        self._require_compiled()
        names = self._options._updatable_named_buffers
        if not names:
            raise createPoptorchError(
                "copyNamedBuffersToDevice() needs Options.updatableNamedBuffers([...]) to name the buffers to update."
            )
        self._executable.upload_state(self._user_model, only=names)

    def load_state_dict(self, state_dict: Dict[str, torch.Tensor], strict: bool = True) -> Any:
        """Load into the module and, when compiled and attached, on to the device."""
        result = self._user_model.load_state_dict(state_dict, strict)
        if self.isAttachedToDevice():
            self.copyWeightsToDevice()
        return result

    def _require_compiled(self) -> None:
        if not self.isCompiled():
            raise createPoptorchError(_NOT_COMPILED)

    # -- optimizer -----------------------------------------------------------------------------------------------

    def setOptimizer(self, optimizer: Any) -> None:
        """Send the optimizer's present hyper-parameters to the device; its state is kept.

        Raises:
            poptorch.Error: the number of parameter groups differs from the compiled optimizer's.
        """
        taken = snapshot(optimizer)
        if self._sent is not None and len(taken.groups) != len(self._sent.groups):
            raise createPoptorchError(
                f"setOptimizer: the new optimizer has {len(taken.groups)} parameter groups, the one that the model "
                f"was wrapped with has {len(self._sent.groups)}."
            )
        if optimizer is not self._optimizer:
            self._release_optimizer(self._optimizer)
            self._optimizer = optimizer
            self._connect_optimizer()
        self._sent = taken
        if self._device_optimizer is not None:
            self._device_optimizer.set_hyper_parameters(taken)

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

    def attachToDevice(self) -> None:
        """Take the device again and upload what the host now has."""
        self._require_compiled()
        assert self._options.connection_type != ConnectionType.Never.value, (
            "Trying to attach to an offline device (ConnectionType.Never)"
        )
        if self._attached:
            raise createPoptorchError("The model is already attached to a device")
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

    def __del__(self) -> None:
        # A dropped executor loses nothing: trained weights come home first. At interpreter exit too little may be
        # left to do that, and nobody to notice.
        if self.__dict__.get("_executable") is not None and not sys.is_finalizing():
            self.destroy()

    def _unwrap(self) -> None:
        self.copyWeightsToHostIfNeeded()
        _wrapping.unwrap(self._user_model, self)

    # -- measurements --------------------------------------------------------------------------------------------

    def compilationTime(self) -> datetime.timedelta:
        """How long compiling took."""
        if not self._options._show_compilation_progress_bar:
            raise createPoptorchError(
                "compilationTime() is not available: set showCompilationProgressBar to True"
            )
        if not self.isCompiled():
            raise createPoptorchError("Please compile the model to get its compilation time")
        return datetime.timedelta(seconds=self._compile_seconds)


def _no_backward(tensor: torch.Tensor) -> torch.Tensor:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise createPoptorchError(
            "backward() cannot be called explicitly outside forward: the training executor has run backward already."
        )

    tensor.backward = refuse  # type: ignore[method-assign]
    return tensor

"""Weights, buffers and optimizer state on their way between the host and the device.

Source: PopTorch 3.4 user guide, "PoplarExecutor" and "Optimizers": the device has copies of its own, written when a
model is compiled or attached, and read back when somebody looks.
"""

import weakref
from typing import Any, Dict, Optional

import torch

from .._impl import createPoptorchError
from .._logging import logger
from ..enums import ConnectionType
from ..optim import Optimizer
from ..poptorch_core import createError
from ..update.loss_scaling import AutomaticLossScaling
from ..update.rules import DeviceOptimizer
from ..update.text import log_update
from . import wrapping
from .executable import Executable

NOT_COMPILED = "Model has not been compiled or has been destroyed. Call the model or compile() first."


class DeviceWeights:
    """The part of an executor that moves weights."""

    _user_model: torch.nn.Module
    _training: bool
    _options: Any
    _optimizer: Any
    _sent: Any
    _executable: Optional[Executable]
    _attached: bool
    _device_optimizer: Optional[DeviceOptimizer]
    _dirty_host_weights: bool
    _weight_updates: int
    _refreshed_from: Dict[int, int]

    def _upload(self) -> None:
        """Host weights and buffers, then optimizer hyper-parameters and any state that was loaded, to the device."""
        self._dirty_host_weights = False
        self._executable.upload_state(self._user_model)
        if self._training:
            if self._device_optimizer is None:
                self._device_optimizer = DeviceOptimizer(
                    self._sent, self._executable.optimizer_names(self._optimizer), self._executable.weights,
                    self._executable.half_weights, self._executable.rounding,
                    AutomaticLossScaling(self._options._Popart.options)
                    if self._options.Training.automatic_loss_scaling else None,
                )  # fmt: skip
                log_update(self._sent)
                self._connect_optimizer()
            if getattr(self._optimizer, "ipu_state_is_dirty", False):
                logger.info("Writing optimiser state tensors from host to IPU memory")
                loaded = self._optimizer.get_state_dict()
                self._device_optimizer.write_state(loaded["ipu_state"])
                self._device_optimizer.write_parameters(loaded["ipu_param"] or {})
                self._optimizer.ipu_state_is_dirty = False

    def _send(self, taken: Any) -> None:
        """Hyper-parameters, as ``optim.snapshot`` reads them, to the device if they differ from those it has."""
        before, self._sent = self._sent, taken
        if self._device_optimizer is not None and (before is None or taken.differs(before)):
            log_update(taken)
            self._device_optimizer.set_hyper_parameters(taken)

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
        logger.info("Writing optimiser state tensors from IPU to host.")
        self._optimizer.set_state_dict(
            {"ipu_state": device.read_state(), "ipu_param": device.read_parameters()}
        )

    def _release_optimizer(self, optimizer: Any) -> None:
        """Bring an optimizer's state home for good."""
        if isinstance(optimizer, Optimizer):
            optimizer._refresh()
            optimizer._connect(None)

    def copyWeightsToDevice(self) -> None:
        """Overwrite the device's weights and buffers with the host's.

        Raises:
            poptorch.Error: nothing is compiled, or the device is detached (attaching copies the weights anyway).
        """
        self._require_attached("copyWeightsToDevice")
        self._dirty_host_weights = False
        if isinstance(self._optimizer, Optimizer):
            self._optimizer._refresh()  # goes up together with the weights, so it is read first
        self._executable.upload_state(self._user_model)
        self._weight_updates += 1

    def copyWeightsToHost(self) -> None:
        """Write the device's weights and buffers into the module's own tensors, in place.

        Raises:
            poptorch.Error: nothing is compiled, or the device is detached (detaching has fetched the weights).
        """
        self._require_attached("copyWeightsToHost")
        self._dirty_host_weights = False
        self._executable.download_state(self._user_model)

    def copyWeightsToHostIfNeeded(self) -> bool:
        """Fetch the weights when training has changed them since; tells whether it did."""
        if not self._dirty_host_weights:
            return False
        logger.debug("Implicit copyWeightsToHost()")
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
            id(e): e for e in map(wrapping.owner_of, self._user_model.parameters()) if e
        }.values():
            executor.copyWeightsToHostIfNeeded()
            if self._refreshed_from.get(id(executor)) != executor._weight_updates:
                self._refreshed_from[id(executor)] = executor._weight_updates
                changed = True
        if changed and self.isCompiled():
            self._executable.upload_state(self._user_model)

    def copyNamedBuffersToDevice(self) -> None:
        """Upload the buffers named in ``Options.updatableNamedBuffers``."""
        self._require_attached("copyNamedBuffersToDevice")
        names = self._options._updatable_named_buffers
        if not names:
            raise createPoptorchError(
                "copyNamedBuffersToDevice() needs Options.updatableNamedBuffers([...]) to name the buffers to update."
            )
        if isinstance(self._optimizer, Optimizer):
            self._optimizer._refresh()
        self._executable.upload_state(self._user_model, only=names)

    def load_state_dict(self, state_dict: Dict[str, torch.Tensor], strict: bool = True) -> Any:
        """Load into the module and, when compiled and attached, on to the device."""
        result = self._user_model.load_state_dict(state_dict, strict)
        if self.isAttachedToDevice():
            self.copyWeightsToDevice()
        return result

    def _require_attached(self, what: str) -> None:
        """Programs that move weights run on the device, which has to be there."""
        self._require_compiled()
        if not self._attached:
            raise createError(
                f"{what}() runs a program on the device, and the model is detached from it. Call attachToDevice() "
                "first.",
                type="poplar_error",
            )

    def _require_compiled(self) -> None:
        if not self.isCompiled():
            raise createPoptorchError(NOT_COMPILED)

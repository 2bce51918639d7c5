"""Weights, buffers and optimizer state on their way between the host and the device.

Source: PopTorch 3.4 user guide, "PoplarExecutor" and "Optimizers": the device has copies of its own, written when a
model is compiled or attached, and read back when somebody looks.
"""

from typing import Any, Dict, List, Optional

import torch

from .._impl import createPoptorchError, owner_of
from .._logging import logger
from ..poptorch_core import createError
from .executable import Executable
from .optimizer import ModelOptimizer

_TO_DEVICE = "Writing weights from host to IPU memory."
NOT_COMPILED = "Model has not been compiled or has been destroyed. Call the model or compile() first."


class DeviceWeights:
    """A module's parameters and buffers, and their copies in what was compiled.

    Args:
        model: the module; its tensors are the host's.
        options: of the executor.
        optimizer: whose state goes up together with the weights; None in inference.

    Attributes:
        executable: holds the copies; None while nothing is compiled.
        attached: whether the device is there.
        stale: training has changed the device's weights since the host's were written.
        updates: how often the device's weights have changed.
    """

    def __init__(self, model: torch.nn.Module, options: Any, optimizer: Optional[ModelOptimizer]) -> None:
        self.executable: Optional[Executable] = None
        self.attached = False
        self.stale = False
        self.updates = 0
        self._model, self._options, self._optimizer = model, options, optimizer
        self._followed: Dict[int, int] = {}

    def upload(self) -> None:
        """Host weights and buffers, then optimizer hyper-parameters and any state that was loaded, to the device."""
        executable = self._compiled()
        self.stale = False
        if self.attached:
            logger.info(_TO_DEVICE)
        executable.upload_state(self._model)
        if self._optimizer is not None:
            self._optimizer.upload(executable)

    def copyWeightsToDevice(self) -> None:
        """Overwrite the device's weights and buffers with the host's.

        Raises:
            poptorch.Error: nothing is compiled, or the device is detached (attaching copies the weights anyway).
        """
        executable = self._on_device("copyWeightsToDevice")
        self.stale = False
        if self._optimizer is not None:
            self._optimizer.refresh()  # goes up together with the weights, so it is read first
        logger.info(_TO_DEVICE)
        executable.upload_state(self._model)
        self.updates += 1

    def copyWeightsToHost(self) -> None:
        """Write the device's weights and buffers into the module's own tensors, in place.

        Raises:
            poptorch.Error: nothing is compiled, or the device is detached (detaching has fetched the weights).
        """
        executable = self._on_device("copyWeightsToHost")
        self.stale = False
        logger.info("Writing weights from IPU to host.")
        executable.download_state(self._model)

    def copyNamedBuffersToDevice(self) -> None:
        """Upload the buffers named in ``Options.updatableNamedBuffers``."""
        executable = self._on_device("copyNamedBuffersToDevice")
        names = self._options._updatable_named_buffers
        if not names:
            raise createPoptorchError(
                "copyNamedBuffersToDevice() needs Options.updatableNamedBuffers([...]) to name the buffers to update."
            )
        if self._optimizer is not None:
            self._optimizer.refresh()
        logger.info("Writing named buffers from host to IPU memory.")
        executable.upload_state(self._model, only=names)

    def trained(self, updates: int) -> None:
        """The device has made so many weight updates."""
        self.stale = True
        self.updates += updates

    def follow(self, seen: List[Any]) -> None:
        """Take the weights of whoever trains what an inference model sees, when they have changed since the last time.

        Args:
            seen: modules or parameters.
        """
        trainers = {id(executor): executor for executor in map(owner_of, seen) if executor is not None}
        for executor in trainers.values():
            executor.copyWeightsToHostIfNeeded()
        updates = {key: executor._weights.updates for key, executor in trainers.items()}
        changed = any(self._followed.get(key) != count for key, count in updates.items())
        self._followed.update(updates)
        if changed and self.executable is not None:
            logger.debug("Implicit copyWeightsToDevice()")
            logger.info(_TO_DEVICE)
            self.executable.upload_state(self._model)

    def _compiled(self) -> Executable:
        if self.executable is None:
            raise createPoptorchError(NOT_COMPILED)
        return self.executable

    def _on_device(self, what: str) -> Executable:
        """Programs that move weights run on the device, which has to be there."""
        executable = self._compiled()
        if not self.attached:
            raise createError(
                f"{what}() runs a program on the device, and the model is detached from it. Call attachToDevice() "
                "first.",
                type="poplar_error",
            )
        return executable

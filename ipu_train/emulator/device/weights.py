"""Weights, buffers and optimizer state on their way between the host and the device.

Source: PopTorch 3.4 user guide, "PoplarExecutor" and "Optimizers": the device has copies of its own, written when a
model is compiled or attached, and read back when somebody looks.
"""

import sys
from typing import Any, Dict, List, Optional

import torch

from .._impl import createPoptorchError, isWrapped, owner_of, owners
from .._logging import logger
from ..poptorch_core import createError
from .executable import Executable
from .optimizer import ModelOptimizer

_TO_DEVICE = "Writing weights from host to IPU memory."
_LEFT_BEHIND = (
    "The model has been trained since this inference model got its weights, and it keeps those that it has: as in "
    "PopTorch, it follows only a trainingModel() of the very same module that was there before it. Make "
    "inferenceModel() after trainingModel() and of the same module, or call the training model's copyWeightsToHost() "
    "and then copyWeightsToDevice() of this one."
)
_LOST = (
    "A training model was dropped, and with it the weights that it has trained since they were fetched last: as in "
    "PopTorch the module has the weights of then. Call copyWeightsToHost() or destroy() before, or keep the model."
)
NOT_COMPILED = "Model has not been compiled or has been destroyed. Call the model or compile() first."


class DeviceWeights:
    """A module's parameters and buffers, and their copies in what was compiled.

    Args:
        model: the module; its tensors are the host's.
        options: of the executor.
        optimizer: whose state goes up together with the weights; None in inference.
        given: what the user gave to make the executor of; an inference model follows the executor that trains it by
            then.

    Attributes:
        executable: holds the copies; None while nothing is compiled.
        attached: whether the device is there.
        stale: training has changed the device's weights since the host's were written.
        updates: how often the device's weights have changed.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        options: Any,
        optimizer: Optional[ModelOptimizer],
        given: torch.nn.Module,
    ) -> None:
        self.executable: Optional[Executable] = None
        self.attached = False
        self.stale = False
        self.updates = 0
        self._model, self._options, self._optimizer = model, options, optimizer
        self._trainer = owners.get(id(given)) if isWrapped(given) else None
        self._warned = False
        self._followed: Dict[int, int] = {}

    def __del__(self) -> None:
        # the executor is gone; at interpreter exit too little may be left to say so, and nobody to notice
        if self.__dict__.get("stale") and not sys.is_finalizing():
            logger.warning(_LOST)

    def upload(self) -> None:
        """Host weights and buffers, then optimizer hyper-parameters and any state that was loaded, to the device."""
        executable = self._compiled()
        self.stale = False
        if self.attached:
            logger.info(_TO_DEVICE)
        executable.upload_state(self._model)
        self._note_upload()
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
        self._note_upload()
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

    def fetch_trained(self) -> None:
        """Bring the weights home of all that train a parameter of the model, before it is compiled."""
        trainers = self._trainers()
        for trainer in trainers:
            trainer.copyWeightsToHostIfNeeded()
        self._note(trainers)

    def follow(self) -> None:
        """Take the weights of whoever trains the model, when they have changed since the last time.

        Source: ``PoplarExecutor.__call__``: the copy that an inference model runs asks its own class for trained
        weights, and that is the trained module's wrapper only if there was one when the copy was made.
        """
        if self._trainer is None:
            self._warn_when_left_behind()
            return
        trainer = self._trainer()
        if trainer is None:  # dropped: what it left on the host goes up once
            changed, self._trainer = True, None
        else:
            trainer.copyWeightsToHostIfNeeded()
            changed = self._note([trainer])
        if changed:
            logger.debug("Implicit copyWeightsToDevice()")
            logger.info(_TO_DEVICE)
            self._compiled().upload_state(self._model)

    def _note(self, trainers: List[Any]) -> bool:
        """Tells whether any of these executors has changed its weights since it was noted here last."""
        updates = {id(trainer): trainer._weights.updates for trainer in trainers}
        changed = any(self._followed.get(key) != count for key, count in updates.items())
        self._followed.update(updates)
        return changed

    def _trainers(self) -> List[Any]:
        """All that train a parameter of the model."""
        if not owners:  # asked at each call of an inference model
            return []
        return list({id(e): e for e in map(owner_of, self._model.parameters()) if e is not None}.values())

    def _note_upload(self) -> None:
        """The device has now what the host has."""
        if self._optimizer is None:
            self._note([trainer for trainer in self._trainers() if not trainer._weights.stale])

    def _warn_when_left_behind(self) -> None:
        if self._warned:
            return
        if any(
            trainer._weights.updates != self._followed.get(id(trainer), 0) for trainer in self._trainers()
        ):
            self._warned = True
            logger.warning(_LEFT_BEHIND)

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

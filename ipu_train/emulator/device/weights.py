"""Weights and buffers on their way between the host and the device.

Source: PopTorch 3.4 user guide, "PoplarExecutor": the device has copies of its own, written when a model is compiled or
attached, and read back when somebody looks.
"""

from typing import Dict, Iterable, Optional

import torch

from .._logging import logger
from .executable import Executable


class DeviceWeights:
    """A module's parameters and buffers, and their copies in what was compiled.

    Args:
        model: the module; its tensors are the host's.

    Attributes:
        executable: holds the copies; None while nothing is compiled.
        stale: training has changed the device's weights since the host's were written.
        updates: how often the device's weights have changed.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.executable: Optional[Executable] = None
        self.stale = False
        self.updates = 0
        self._model = model
        self._followed: Dict[int, int] = {}

    def to_device(self, only: Optional[Iterable[str]] = None) -> None:
        """Overwrite the device's copies, or those of these names, with the host's."""
        if only is None:
            self.stale = False
        self._compiled().upload_state(self._model, only=only)

    def to_host(self) -> None:
        """Write the device's copies into the module's own tensors, in place."""
        self.stale = False
        self._compiled().download_state(self._model)

    def to_host_if_stale(self) -> bool:
        """Fetch the weights when training has changed them since; tells whether it did."""
        if not self.stale or self.executable is None:
            return False
        logger.debug("Implicit copyWeightsToHost()")
        self.to_host()
        return True

    def trained(self, updates: int) -> None:
        """The device has made so many weight updates."""
        self.stale = True
        self.updates += updates

    def follow(self, others: Dict[int, int]) -> None:
        """Take the host's weights when others have trained them since the last time.

        Args:
            others: how often each of those who train these weights has changed them.
        """
        changed = any(self._followed.get(key) != updates for key, updates in others.items())
        self._followed.update(others)
        if changed and self.executable is not None:
            self.executable.upload_state(self._model)

    def _compiled(self) -> Executable:
        assert self.executable is not None, "nothing is compiled"
        return self.executable

"""What cannot be compiled ahead, by its configuration alone. No torch in here."""

from ..config import Resolved
from .errors import CompileError


def check(resolved: Resolved, instances: int) -> None:
    """Refuse a simulated device, and numbers of processes that do not divide the replicas.

    Raises:
        CompileError: with what to change.
    """
    config = resolved.config
    if instances < 1:
        raise CompileError(f"--instances must be at least 1, got {instances}")
    if config.device.target == "ipu_model":
        raise CompileError(
            "device.target is ipu_model, which is simulated: nothing can be compiled ahead for it"
        )
    if config.training.replicas % instances:
        raise CompileError(
            f"{config.training.replicas} replicas (training.replicas) cannot be shared out among {instances} instances"
        )

"""Calls that would mix micro-batches which run as one batch: losses, batch norm and its counter."""

from typing import Any, Dict, Optional, Set, Tuple

import torch
import torch.nn.functional as F

from .._impl import createPoptorchError
from .losses import LOSS_FUNCTIONS, identity_loss_of_micro_batches
from .micro_batch_norm import batch_norm_of_micro_batches
from .refusals import caller_location
from .slots import Slots

# torch.batch_norm's parameters; those of torch.nn.functional.batch_norm come in another order
_PARAMETERS = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
_FUNCTIONAL_PARAMETERS = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
)  # fmt: skip
_DEFAULTS: Dict[str, Any] = {
    "running_mean": None, "running_var": None, "weight": None, "bias": None, "training": False, "momentum": 0.1,
    "eps": 1e-5,
}  # fmt: skip

Call = Tuple[Any, Tuple[Any, ...], Dict[str, Any]]


class FusedBatches:
    """Lets losses and batch norm see the micro-batches that run as one batch.

    Args:
        slots: the recorder's.
        micro_batches: how many run as one batch (1: none are fused).
        replicas: replicas whose micro-batches take turns in the batch; None where norms shall see the whole of it.

    Attributes:
        updated: slots of the buffers whose updates are those of all micro-batches.
    """

    def __init__(self, slots: Slots, micro_batches: int, replicas: Optional[int]) -> None:
        self._slots = slots
        self._micro_batches = micro_batches
        self._replicas = replicas
        self.updated: Set[int] = set()

    def call(self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Call:
        """The call for fused micro-batches; as it is where it is no concern of them.

        Raises:
            poptorch.Error: a loss reduces the whole batch to one value.
        """
        if self._micro_batches == 1:
            return func, args, kwargs
        if name in LOSS_FUNCTIONS:
            return self._loss(func, name, args, kwargs)
        if self._replicas is None:
            return func, args, kwargs
        if name in ("add_", "__iadd__"):
            return self._count(func, args, kwargs, self._replicas)
        return self._norm(func, args, kwargs) if name == "batch_norm" else (func, args, kwargs)

    def has_loss_of_each(self, name: str, args: Tuple[Any, ...]) -> bool:
        """Whether a recorded call, after :meth:`call`, gives one value for each of several micro-batches."""
        return self._micro_batches > 1 and name == "identity_loss" and args[1] != "none"

    def _loss(self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Call:
        if name != "identity_loss":
            reduction = kwargs.get("reduction", "mean")
            if reduction == "none":
                return func, args, kwargs
            raise createPoptorchError(
                f"{name}(reduction={reduction!r}) at {caller_location()} mixes the images of a batch, so that "
                "micro-batches cannot be fused: compute it with reduction='none' followed by "
                "poptorch.identity_loss, or switch fusing off."
            )
        x, reduction = args[0], kwargs.get("reduction", args[1] if len(args) > 1 else None)
        return identity_loss_of_micro_batches, (x, reduction, self._micro_batches), {}

    def _count(self, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any], replicas: int) -> Call:
        """A call that adds a number to a buffer that is an integer without dimensions, as batch norm counts."""
        buffer, step = (tuple(args) + (None, None))[:2]
        slot = self._slots.find(buffer)
        if slot is None or not isinstance(step, int) or slot not in self._slots.graph.state.values():
            return func, args, kwargs
        with torch._C.DisableTorchFunction():
            if buffer.dim() or buffer.is_floating_point():
                return func, args, kwargs
        self.updated.add(slot)
        return func, (buffer, step * max(1, self._micro_batches // replicas)), kwargs

    def _norm(self, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Call:
        names = _FUNCTIONAL_PARAMETERS if func is F.batch_norm else _PARAMETERS
        given = {**_DEFAULTS, **dict(zip(names, args))}
        given.update((key, value) for key, value in kwargs.items() if key in names)
        if not given["training"]:
            return func, args, kwargs
        slots = [self._slots.find(given[name]) for name in ("running_mean", "running_var")]
        self.updated.update(slot for slot in slots if slot is not None)
        values = tuple(given[key] for key in _FUNCTIONAL_PARAMETERS if key != "training")
        return batch_norm_of_micro_batches, (*values, self._micro_batches, self._replicas), {}

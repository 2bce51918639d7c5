"""Tensors that torch changes with a view of them, and PopTorch does not.

PopTorch 3.4 has no views: each is a value of its graph, made by an operator of its own. An in-place write gives the
tensor that it is called on a new value; where that is a slice, the tensor that was sliced gets one, too, and so on
through slices of slices, past the reshapes in between (``PopartCanonicalization.cpp``, ``handleSliceModification``).
The slice itself goes by its new value from then on, which is no slice (``JitDispatch.cpp``, ``fallback``): what is
written to it a second time, or to slices of it, reaches nothing that it was cut from. Whatever else shares the memory
in torch keeps its old value, too: the tensor behind a ``view`` or a ``transpose``, and views that were made before.
Reading such a tensor afterwards is refused, as it would be read unchanged.
"""

from typing import Any, List, Sequence, Set, Tuple

import numpy as np
import torch

from ..lowering.shadow import Shadow
from ..lowering.views import RESHAPED, SLICED
from .graph import tensor_paths
from .refusals import Refusals, caller_location
from .shadow_calls import ShadowCalls
from .slots import Slots

_LARGEST = (
    2**27
)  # elements of a storage in which an overlap is looked for; in larger ones it is taken for granted


class StaleViews:
    """Marks the shadows of tensors that PopTorch would leave as they were.

    Args:
        slots, shadows, refusals: the recorder's.
    """

    def __init__(self, slots: Slots, shadows: ShadowCalls, refusals: Refusals) -> None:
        self._slots, self._shadows, self._refusals = slots, shadows, refusals

    def versions(self, values: Any) -> List[Tuple[torch.Tensor, int]]:
        """Storage tensors among the arguments of a call, and how often each has been written to."""
        return [(tensor, tensor._version) for _, tensor in tensor_paths(values)]

    def look_at(self, name: str, args: Sequence[Any], before: List[Tuple[torch.Tensor, int]]) -> None:
        """After a call on storage and on shadows: mark what it has changed for torch only.

        Args:
            name: of the call.
            args: storage tensors and other arguments.
            before: see :meth:`versions`.
        """
        written = self._shadows.written()
        changed = [tensor for tensor, version in before if tensor._version != version]
        if not written or not changed:
            return
        renewed: Set[int] = set()
        for shadow in written:
            renewed |= _renewed(shadow)
            shadow.written = True
            self._refuse_state(name, shadow, renewed)
        for tensor in changed:
            self._mark(name, _region(name, args, tensor), renewed)

    def _mark(self, name: str, region: torch.Tensor, renewed: Set[int]) -> None:
        storage = region.untyped_storage().data_ptr()
        for slot, value in self._slots.values.items():
            if value is region or value.untyped_storage().data_ptr() != storage:
                continue
            shadow = self._shadows.of(slot)
            if id(shadow) not in renewed and not shadow.stale and _overlap(value, region):
                shadow.stale = (
                    f"reads a tensor that {name} at {caller_location()} has changed through another view of its "
                    "memory. PopTorch carries such a change from slices to what they were cut from and no further, "
                    "and of a slice only the first one, so that the old value would be read: write to the tensor that "
                    "is read, or to new slices of it"
                )

    def _refuse_state(self, name: str, shadow: Shadow, renewed: Set[int]) -> None:
        """A parameter or buffer takes over what was written, which has another shape or order."""
        root = shadow
        while root.origin is not None:
            root = root.origin[1]
        if root.is_state and id(root) not in renewed:
            self._refusals.add(
                name,
                "changes a parameter or buffer through a view that is no slice of it, whose shape or order is another, "
                "or that has been written to before: write to the tensor itself, or to new slices of it",
            )


def _renewed(shadow: Shadow) -> Set[int]:
    """Ids of the shadows that have a new value once ``shadow`` is written to."""
    found, now = {id(shadow)}, shadow
    while not now.written and now.origin is not None and now.origin[0] in (SLICED, RESHAPED):
        kind, parent = now.origin
        if kind == SLICED:
            found.add(id(parent))
        now = parent
    return found


def _region(name: str, args: Sequence[Any], tensor: torch.Tensor) -> torch.Tensor:
    """What of ``tensor`` a call has written to."""
    if name != "__setitem__" or tensor is not args[0]:
        return tensor
    part = tensor.detach()[args[1]]
    return part if part.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr() else tensor


def _overlap(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one storage have an element in common."""
    size = one.untyped_storage().nbytes() // one.element_size()
    if size > _LARGEST or one.element_size() != other.element_size():
        return True
    mask = np.zeros(size, dtype=bool)
    _elements(mask, one)[...] = True
    return bool(_elements(mask, other).any())


def _elements(mask: np.ndarray, tensor: torch.Tensor) -> np.ndarray:
    """The entries of ``mask`` that stand for the elements of ``tensor``."""
    return np.lib.stride_tricks.as_strided(
        mask[tensor.storage_offset() :], tuple(tensor.shape), tuple(tensor.stride())
    )

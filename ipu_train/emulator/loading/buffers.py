"""The ring of shared-memory buffers between a data-loading process and its consumer."""

from typing import Any, List, NamedTuple, Optional, Tuple

import torch

from .._args_parser import custom_parser

# what a slot holds
DATA, END, FAILED = 0, 1, 2


class ItemTemplate(NamedTuple):
    """How to make an item out of its tensors.

    Attributes:
        kind: ``tensor``, ``list``, ``dict`` or ``custom``.
        structure: keys of a dict; for ``custom``, an object to rebuild after; else None.
    """

    kind: str
    structure: Any


def takeApart(item: Any) -> Tuple[ItemTemplate, List[torch.Tensor]]:
    """The tensors of an item, and how to put them together again.

    Raises:
        AssertionError: something in it is no tensor.
    """
    parser = custom_parser(item)
    if parser is not None:
        tensors = list(parser.yieldTensors(item))
        template = ItemTemplate("custom", item)
    elif isinstance(item, torch.Tensor):
        tensors = [item]
        template = ItemTemplate("tensor", None)
    elif isinstance(item, dict):
        tensors = list(item.values())
        template = ItemTemplate("dict", list(item))
    else:
        assert isinstance(item, (tuple, list)), (
            "Expected a tensor, a flat tuple, list or dict of tensors, or a registered custom type, "
            f"not a {type(item).__name__}"
        )
        tensors = list(item)
        template = ItemTemplate("list", None)
    for tensor in tensors:
        assert isinstance(tensor, torch.Tensor), (
            f"Tensors only: there is a {type(tensor).__name__} inside an item of type {type(item).__name__}"
        )
    return template, tensors


def rebuildItem(template: ItemTemplate, tensors: List[torch.Tensor]) -> Any:
    """An item like the template with these tensors."""
    if template.kind == "tensor":
        return tensors[0]
    if template.kind == "dict":
        return dict(zip(template.structure, tensors))
    if template.kind == "custom":
        return custom_parser(template.structure).reconstruct(template.structure, iter(tensors))
    return tensors


class RingBuffers:
    """Slots in shared memory, written by one process and read by another, each in turn.

    Whether a slot is free is counted by two semaphores; what is in it stands in ``meta``.

    Args:
        tensors: one tensor of each kind a slot holds, for shapes and dtypes.
        template: how they make an item.
        size: number of slots.
    """

    def __init__(self, tensors: List[torch.Tensor], template: ItemTemplate, size: int) -> None:
        self.template = template
        self.size = size
        self.slots = [[_sharedLike(tensor) for tensor in tensors] for _ in range(size)]
        # per slot: filled (0, 1), generation, kind, rows (-1: all)
        self.meta = torch.zeros(size, 4, dtype=torch.int64).share_memory_()
        self.position = 0  # each process has its own

    @property
    def indices_mem(self) -> torch.Tensor:
        """1 for each slot that holds something the consumer has not given back; shape ``[size]``."""
        return self.meta[:, 0]

    def post(self, generation: int, kind: int, rows: Optional[int] = None) -> None:
        """Mark the slot at this process's position as filled and go on to the next."""
        self.meta[self.position] = torch.tensor([1, generation, kind, -1 if rows is None else rows])
        self.position = (self.position + 1) % self.size

    def free(self) -> None:
        """Mark the slot at this process's position as free and go on to the next."""
        self.meta[self.position, 0] = 0
        self.position = (self.position + 1) % self.size

    def head(self) -> Tuple[int, int, Optional[int]]:
        """Generation, kind and rows of the slot at this process's position."""
        _, generation, kind, rows = self.meta[self.position].tolist()
        return generation, kind, None if rows < 0 else rows

    def tensors(self, rows: Optional[int] = None) -> List[torch.Tensor]:
        """The tensors of the slot at this process's position, their first ``rows`` rows."""
        slot = self.slots[self.position]
        return list(slot) if rows is None else [tensor[:rows] for tensor in slot]


def _sharedLike(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype).share_memory_()

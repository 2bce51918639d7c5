"""Structures of tensors, under the names of PopTorch's own helpers."""

from typing import Any, Iterable, List

import torch

from ._args_parser import rebuild, tensors_of


def flattenTensorStructure(tensors: Any) -> List[torch.Tensor]:
    """The tensors of nested tuples, lists, dicts and registered custom types, in a fixed order."""
    return list(tensors_of(tensors))


def reconstructTensorStructure(structure: Any, values: Iterable[torch.Tensor]) -> Any:
    """The same structure with other tensors, in the order of :func:`flattenTensorStructure`."""
    return rebuild(structure, iter(values))

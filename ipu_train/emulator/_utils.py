"""Structures of tensors, under the names of PopTorch's own helpers."""

import ctypes
import json
from typing import Any, Dict, Iterable, Iterator, List

import torch

from ._args_parser import rebuild, tensors_of
from .poptorch_core import getIpuTensorId  # noqa: F401

_ADDRESS = "attr:"


def flattenTensorStructure(tensors: Any) -> List[torch.Tensor]:
    """The tensors of nested tuples, lists, dicts and registered custom types, in a fixed order."""
    return list(tensors_of(tensors))


def reconstructTensorStructure(structure: Any, values: Iterable[torch.Tensor]) -> Any:
    """The same structure with other tensors, in the order of :func:`flattenTensorStructure`."""
    return rebuild(structure, iter(values))


def combine_batch_tensors_gen(tensors: List[List[torch.Tensor]]) -> Iterator[torch.Tensor]:
    """For each tensor of a batch the concatenation of that tensor over all batches; ``tensors`` holds batches."""
    for parts in zip(*tensors):
        yield torch.cat(parts)


def accessAttributes(attribute_id_str: str) -> Dict[str, Any]:
    """The attributes of an operation from the text that stands for them: JSON, or ``attr:`` and a dict's address.

    Raises:
        ValueError: any other text, or no text.
    """
    if not isinstance(attribute_id_str, str):
        raise ValueError(f"Attributes are named by a string, not a {type(attribute_id_str).__name__}")
    if attribute_id_str.startswith("{"):
        return json.loads(attribute_id_str)
    if not attribute_id_str.startswith(_ADDRESS):
        raise ValueError(
            f"{attribute_id_str!r} does not name attributes: it is neither JSON nor {_ADDRESS}ADDRESS"
        )
    address = int(attribute_id_str[len(_ADDRESS) :], 16)
    return ctypes.cast(address, ctypes.py_object).value or {}

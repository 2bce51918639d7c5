"""What forward returns, with references in the place of tensors: rebuilt with the tensors of each call."""

from typing import Any, Callable, List

import torch

from .._args_parser import custom_parser
from .._impl import createPoptorchError
from ..capture.graph import Packed, like_dict, map_structure


def pack(value: Any, output: Callable[[torch.Tensor], Any]) -> Any:
    """The structure of ``value`` with ``output(tensor)`` for each tensor.

    Registered containers and subclasses of list and tuple become :class:`Packed`.

    Raises:
        poptorch.Error: an object that holds tensors, of a class without a registered parser.
    """
    if isinstance(value, torch.Tensor):
        return output(value)
    parser = custom_parser(value)
    if parser is not None:
        tensors = [output(tensor) for tensor in parser.yieldTensors(value)]
        return Packed(tensors, lambda now: parser.reconstruct(value, iter(now)))
    if isinstance(value, (tuple, list)):
        items = [pack(item, output) for item in value]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*items)
        if type(value) in (tuple, list) or type(value).__module__ == "torch.return_types":
            return type(value)(items)
        return Packed(items, type(value))
    if isinstance(value, dict):
        items_by_key = {key: pack(item, output) for key, item in value.items()}
        return items_by_key if type(value) is dict else like_dict(value, items_by_key)
    if any(isinstance(item, torch.Tensor) for item in getattr(value, "__dict__", {}).values()):
        kind = type(value)
        raise createPoptorchError(
            f"forward returns a {kind.__module__}.{kind.__qualname__}, which holds tensors that cannot be found: "
            "return tensors in tuples, lists or dicts, or register the class with poptorch.registerCustomArgParser()"
        )
    return value


def unpack(value: Any) -> Any:
    """The structure as forward returned it, from a packed one that holds tensors again."""

    def rebuilt(packed: Packed) -> Any:
        now: List[Any] = unpack(packed.items)
        return packed.rebuild(now)

    return map_structure(value, rebuilt, (Packed,))

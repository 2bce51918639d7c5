"""What forward returns, with references in the place of tensors: rebuilt with the tensors of each call."""

import types
from typing import Any, Callable, List, Set

import torch

from .._args_parser import custom_parser
from .._impl import createPoptorchError
from ..capture.graph import Packed, like_dict, map_structure

# a module's own tensors are weights, and nobody returns functions, classes and modules for the tensors around them
_HOLD_NONE = (str, bytes, int, float, complex, type, torch.nn.Module, types.FunctionType, types.ModuleType)


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
    if _hides_tensors(value, set()):
        kind = type(value)
        raise createPoptorchError(
            f"forward returns a {kind.__module__}.{kind.__qualname__}, which holds tensors that cannot be found: "
            "return tensors in tuples, lists or dicts, or register the class with poptorch.registerCustomArgParser()"
        )
    return value


def _hides_tensors(value: Any, seen: Set[int]) -> bool:
    """Whether an object holds a tensor somewhere: in its attributes or slots, in what these hold, or in its items."""
    if isinstance(value, torch.Tensor):
        return True
    if id(value) in seen or isinstance(value, _HOLD_NONE):
        return False
    seen.add(id(value))
    if isinstance(value, dict):
        held = list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        held = list(value)
    else:
        slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
        held = list(getattr(value, "__dict__", {}).values())
        held += [getattr(value, name) for name in slots if hasattr(value, name)]
    return any(_hides_tensors(item, seen) for item in held)


def _slots(kind: type) -> List[str]:
    names = kind.__dict__.get("__slots__", ())
    return [names] if isinstance(names, str) else [n for n in names if n not in ("__dict__", "__weakref__")]


def unpack(value: Any) -> Any:
    """The structure as forward returned it, from a packed one that holds tensors again."""

    def rebuilt(packed: Packed) -> Any:
        now: List[Any] = unpack(packed.items)
        return packed.rebuild(now)

    return map_structure(value, rebuilt, (Packed,))

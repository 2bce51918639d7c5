"""``torch.ops.poptorch``: the operators that scripts call by these names, also on the CPU."""

from typing import Optional

import torch

from ..poptorch_core import createError
from .blocks import popNameScope, pushNameScope

CAST_TYPES = {
    "FLOAT": torch.float32,
    "FLOAT16": torch.float16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "INT16": torch.int16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}

_library: Optional[torch.library.Library] = None


def cast_type(name: str) -> torch.dtype:
    """The dtype that PopART calls ``name``.

    Raises:
        poptorch.Error: no such type.
    """
    if name not in CAST_TYPES:
        raise createError(f"internal_cast: unknown type {name!r}, use one of {', '.join(CAST_TYPES)}")
    return CAST_TYPES[name]


def _internal_cast(tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    return tensor.to(cast_type(dtype), copy=True)


def register() -> None:
    """Define the operators, unless the namespace has them already (the Poplar SDK's library does)."""
    global _library
    if _library is not None or hasattr(torch.ops.poptorch, "push_name_scope"):
        return
    _library = torch.library.Library("poptorch", "DEF")
    _library.define("push_name_scope(str name) -> ()")
    _library.define("pop_name_scope() -> ()")
    _library.define("internal_cast(Tensor self, str dtype) -> Tensor")
    # without tensor arguments there is no backend to dispatch on
    _library.impl("push_name_scope", pushNameScope, "CompositeExplicitAutograd")
    _library.impl("pop_name_scope", popNameScope, "CompositeExplicitAutograd")
    _library.impl("internal_cast", _internal_cast, "CompositeImplicitAutograd")

"""``torch.ops.poptorch``: the operators that scripts call by these names, also on the CPU."""

from typing import Optional

import torch

from ..capture.dtypes import cast_type
from .blocks import popNameScope, pushNameScope

_library: Optional[torch.library.Library] = None


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

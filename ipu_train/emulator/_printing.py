"""``poptorch.print`` and ``poptorch.module_repr``: modules with their block annotations shown."""

import builtins
from typing import Any, Callable

import torch

__all__ = ["module_repr", "print"]


def module_repr(m: torch.nn.Module) -> str:
    """``repr`` of a module, the line of each module preceded by the forward pre-hooks it has.

    A module that begins a block reads like ``(conv): BeginBlock(user_id=None, ipu_id=1) Conv2d(...)``.
    """
    annotated = [child for child in m.modules() if child._forward_pre_hooks]

    def named(child: torch.nn.Module) -> Callable[[], str]:
        name = child._get_name()
        return lambda: "".join(f"{hook!r} " for hook in child._forward_pre_hooks.values()) + name

    # torch begins a module's line with what _get_name gives
    for child in annotated:
        child.__dict__["_get_name"] = named(child)
    try:
        return repr(m)
    finally:
        for child in annotated:
            del child.__dict__["_get_name"]


def print(m: Any) -> None:
    """Print ``m``; a module twice, first as :func:`module_repr` has it."""
    if isinstance(m, torch.nn.Module):
        builtins.print(module_repr(m))
    builtins.print(m)

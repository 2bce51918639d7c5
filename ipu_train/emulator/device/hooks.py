"""Callbacks around every compilation (PopTorch 3.4: registerPreCompileHook, registerPostCompileHook)."""

import collections
from typing import Any, Callable, Dict

from torch.utils.hooks import RemovableHandle

_pre_compile: Dict[int, Callable[[], None]] = collections.OrderedDict()
_post_compile: Dict[int, Callable[[], None]] = collections.OrderedDict()


def _register(hooks: Dict[int, Callable[[], None]], function: Any) -> RemovableHandle:
    if not callable(function):
        raise RuntimeError(f"A compile hook must be callable, got {type(function).__name__}")
    handle = RemovableHandle(hooks)
    hooks[handle.id] = function
    return handle


def registerPreCompileHook(hook: Callable[[], None]) -> RemovableHandle:
    """Call ``hook()`` before every compilation; ``.remove()`` on the returned handle ends that."""
    return _register(_pre_compile, hook)


def registerPostCompileHook(hook: Callable[[], None]) -> RemovableHandle:
    """Call ``hook()`` after every compilation; ``.remove()`` on the returned handle ends that."""
    return _register(_post_compile, hook)


def run_pre_compile() -> None:
    for hook in list(_pre_compile.values()):
        hook()


def run_post_compile() -> None:
    for hook in list(_post_compile.values()):
        hook()

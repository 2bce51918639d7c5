"""Makes ``x[index]`` visible to torch-function modes where torch's own C code forgets them (2.0)."""

import functools
from contextlib import contextmanager
from typing import Any, Iterator

import torch
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

_original = torch._C._TensorBase.__getitem__


@functools.lru_cache(maxsize=None)
def modes_see_indexing() -> bool:
    """Whether a slice is reported to a torch-function mode: asked of torch itself, not of its version."""
    seen = []

    class Probe(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Probe():
        torch.Tensor([0.0])[0:1]
    return any(getattr(func, "__name__", "") == "__getitem__" for func in seen)


def _getitem(self: torch.Tensor, index: Any) -> Any:
    if has_torch_function_unary(self):
        return handle_torch_function(_original, (self,), self, index)
    return _original(self, index)


@contextmanager
def visible_indexing() -> Iterator[None]:
    """While open, indexing reaches torch-function modes on every supported torch."""
    if modes_see_indexing():
        yield
        return
    torch.Tensor.__getitem__ = _getitem
    try:
        yield
    finally:
        del torch.Tensor.__getitem__

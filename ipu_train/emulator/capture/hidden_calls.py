"""Calls that torch-function modes do not see, shown to the recorder while a forward is captured.

These are ``torch.autograd.Function.apply`` and, up to torch 2.0, ``torch.asarray``, reading ``tensor[index]`` and
assigning a tensor to it. A function is refused in training, since PopART differentiates what its forward does; where
refusals are warnings it is recorded as one call, so that its own backward is used. Distributions, on the other hand,
do not check their arguments meanwhile: that would need values.
"""

import ctypes
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

import torch
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary
from torch.utils import checkpoint
from torch.utils.checkpoint import CheckpointFunction

_apply = torch.autograd.Function.__dict__["apply"]
_getitem = torch._C._TensorBase.__getitem__
_setitem = torch._C._TensorBase.__setitem__
_asarray = torch.asarray
_validates = Distribution._validate_args
OWN_BACKWARD = (
    "is an autograd.Function with a backward of its own, which the IPU would not run: PopART differentiates the "
    "operations of its forward instead"
)
_PROBE = torch.zeros(1)  # handled by a torch function exactly while a mode is on


class _Listener(TorchFunctionMode):
    seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen = True
        return func(*args, **(kwargs or {}))


def _modes_see(call: Callable[[], torch.Tensor]) -> bool:
    with _Listener() as listener:
        call()
    return listener.seen


_INDEXING_IS_HIDDEN = not _modes_see(lambda: _PROBE[0])
_ASARRAY_IS_HIDDEN = not _modes_see(lambda: torch.asarray(1.0))


def _recorded_getitem(self: torch.Tensor, index: Any) -> Any:
    if has_torch_function_unary(_PROBE):
        return handle_torch_function(_getitem, (self,), self, index)
    return _getitem(self, index)


def _recorded_setitem(self: torch.Tensor, index: Any, value: Any) -> None:
    if has_torch_function_unary(_PROBE):
        handle_torch_function(_setitem, (self,), self, index, value)
    else:
        _setitem(self, index, value)


def _recorded_asarray(obj: Any, **kwargs: Any) -> torch.Tensor:
    if has_torch_function_unary(_PROBE):
        return handle_torch_function(_asarray, (_PROBE,), obj, **kwargs)  # type: ignore[no-any-return]
    return _asarray(obj, **kwargs)


# CPython's PyTypeObject: the head of a PyVarObject, ten words, the address of the functions of a sequence
_AS_SEQUENCE = object.__basicsize__ + 11 * ctypes.sizeof(ctypes.c_void_p)
_ITEM, _ASSIGN_ITEM = 3, 5  # among these functions


def _with_subclasses(cls: type) -> List[type]:
    subclasses: List[type] = cls.__subclasses__()
    return [cls] + [further for below in subclasses for further in _with_subclasses(below)]


@contextmanager
def _no_sequences() -> Iterator[None]:
    """Keep tensors what Python takes for no sequences, whose functions it enters beside a ``__getitem__`` for good.

    ``torch.tensor([x.sum(), y.sum()])`` would ask numbers for their length from then on.
    """
    kept = []
    for cls in _with_subclasses(torch.Tensor):
        address = ctypes.c_void_p.from_address(id(cls) + _AS_SEQUENCE).value
        if address is not None:
            functions = (ctypes.c_void_p * (_ASSIGN_ITEM + 1)).from_address(address)
            kept.append((functions, functions[_ITEM], functions[_ASSIGN_ITEM]))
    yield
    for functions, item, assign_item in kept:
        functions[_ITEM], functions[_ASSIGN_ITEM] = item, assign_item


def _plainly(function: Any, preserve_rng_state: bool, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _nothing_around(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


# what torch.utils.checkpoint puts around a function, by name in its versions: a matter of memory alone
_CHECKPOINTS = {
    "_checkpoint_without_reentrant": _plainly,
    "_checkpoint_without_reentrant_generator": _nothing_around,
    "_checkpoint_without_reentrant_generator_impl": _nothing_around,
}
_checkpoints = {name: getattr(checkpoint, name) for name in _CHECKPOINTS if hasattr(checkpoint, name)}


def _is_torchs(cls: Any) -> bool:
    """Whether an autograd.Function is torch's own: its backward is the derivative of its forward."""
    return cls.__module__.split(".")[0] == "torch"


def show_hidden_calls(recorder: Any) -> None:
    """From now on these calls reach the recorder."""

    def recorded_apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        original = _apply.__get__(None, cls)
        if not has_torch_function_unary(_PROBE):  # inside a recorded call
            return original(*args, **kwargs)
        if cls is CheckpointFunction:  # a matter of memory alone: what it runs is recorded
            return args[0](*args[2:])
        with torch._C.DisableTorchFunction():
            if recorder.training and torch.is_grad_enabled() and not _is_torchs(cls):
                recorder.refusals.add(cls.__name__, OWN_BACKWARD)
            return recorder.record(original, cls.__name__, args, kwargs)

    global _validates
    _validates = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    torch.autograd.Function.apply = classmethod(recorded_apply)
    for name in _checkpoints:
        setattr(checkpoint, name, _CHECKPOINTS[name])
    if _INDEXING_IS_HIDDEN:
        with _no_sequences():
            torch.Tensor.__getitem__ = _recorded_getitem
            torch.Tensor.__setitem__ = _recorded_setitem
    if _ASARRAY_IS_HIDDEN:
        torch.asarray = _recorded_asarray


def hide_calls() -> None:
    """As torch has them."""
    torch.autograd.Function.apply = _apply
    for name, original in _checkpoints.items():
        setattr(checkpoint, name, original)
    Distribution.set_default_validate_args(_validates)
    torch.asarray = _asarray
    if _INDEXING_IS_HIDDEN and "__getitem__" in torch.Tensor.__dict__:
        with _no_sequences():
            del torch.Tensor.__getitem__
            del torch.Tensor.__setitem__

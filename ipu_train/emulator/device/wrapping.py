"""How a training executor marks the user's module, so that host weights look fresh whenever somebody looks.

After training steps the host's weights are stale: the trained ones are on the device. PopTorch 3.4 gives the module,
its parameters and its buffers wrapper classes that fetch the weights when touched, exactly once until the next step.
"""

import functools
from typing import Any, Dict, Iterator

import torch

from .._impl import Owner, createPoptorchError, isWrapped, owner_of, owners

_TOUCHES = frozenset(["_parameters", "_buffers", "forward"])


def _refresh(obj: Any) -> None:
    executor = owner_of(obj)
    if executor is not None:
        executor.copyWeightsToHostIfNeeded()


class _WrappedTensor:
    """Mixed into the class of a parameter or buffer: any access brings the trained values home first."""

    def __getattribute__(self, name: str) -> Any:
        if name != "__class__":
            _refresh(self)
        return super().__getattribute__(name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for arg in args:
            if isinstance(arg, _WrappedTensor):
                _refresh(arg)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def __deepcopy__(self, memo: Dict[int, Any]) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        _refresh(self)
        with torch._C.DisableTorchFunctionSubclass():
            plain = self.detach().clone()
            if isinstance(self, torch.nn.Parameter):
                plain = torch.nn.Parameter(plain, self.requires_grad)
        memo[id(self)] = plain
        return plain

    def __reduce_ex__(self, protocol: Any) -> Any:
        _refresh(self)
        with torch._C.DisableTorchFunctionSubclass():
            if isinstance(self, torch.nn.Parameter):
                return torch.nn.Parameter(self.detach(), self.requires_grad).__reduce_ex__(protocol)
            return self.detach().__reduce_ex__(protocol)


@functools.lru_cache(maxsize=None)
def _wrapped_tensor_class(base: Any) -> Any:
    return type("Poptorch" + base.__name__, (_WrappedTensor, base), {"_poptorch_base": base})


def _new_instance(cls: Any) -> Any:
    """What pickle calls to start an unwrapped copy of a wrapped module."""
    return cls.__new__(cls)


@functools.lru_cache(maxsize=None)
def _wrapped_module_class(base: Any) -> Any:
    class Wrapped(base):  # type: ignore[misc]
        _poptorch_base = base

        def __getattribute__(self, name: str) -> Any:
            if name in _TOUCHES:
                _refresh(self)
            return super().__getattribute__(name)

        def copyWeightsToHostIfNeeded(self) -> bool:
            executor = owner_of(self)
            return executor.copyWeightsToHostIfNeeded() if executor is not None else False

        def destroy(self) -> None:
            executor = owner_of(self)
            if executor is not None:
                executor.destroy()
            elif id(self) in owners and owners[id(self)].left:
                _unwrap_left(self)

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            _refresh(self)
            return super().state_dict(*args, **kwargs)

        def __reduce_ex__(self, protocol: Any) -> Any:
            _refresh(self)
            return _new_instance, (base,), dict(self.__dict__)

    Wrapped.__name__ = "Poptorch" + base.__name__
    Wrapped.__qualname__ = "Poptorch" + base.__qualname__
    Wrapped.__module__ = base.__module__
    return Wrapped


def _tensors(model: torch.nn.Module) -> Iterator[Any]:
    yield from model.parameters()
    yield from model.buffers()


def wrap(model: torch.nn.Module, executor: Any) -> None:
    """Give ``model``, its parameters and its buffers their wrapper classes, in place.

    Raises:
        RuntimeError: the model is wrapped already, or was left so by an executor that was dropped.
        poptorch.Error: a buffer is not exactly a ``torch.Tensor``: of another class, or of a module that is part of
            another model that ``trainingModel`` has wrapped.
    """
    if isWrapped(model):
        message = (
            "Model has already been wrapped in 'poptorch.trainingModel'. Call model.destroy() on the model to "
            "unwrap before wrapping again."
        )
        if owner_of(model) is None and not (id(model) in owners and owners[id(model)].left):
            message += (
                " Its executor was dropped before it was compiled: train a copy.deepcopy() of the model."
            )
        raise RuntimeError(message)
    for name, buffer in model.named_buffers():
        if type(buffer) is not torch.Tensor:
            message = (
                f"All buffers must be an instance of torch.Tensor (Got {type(buffer).__name__} for {name})"
            )
            if isWrapped(buffer):
                message += (
                    ". It is part of another model in 'poptorch.trainingModel': PopTorch trains a module that has "
                    "buffers in one model at a time. Call destroy() on that one first."
                )
            raise createPoptorchError(message)
    owner = Owner(executor)
    module_class: Any = type(model)
    model.__class__ = _wrapped_module_class(module_class)
    owners[id(model)] = owner
    wrap_tensors(model, owner)


def wrap_tensors(model: torch.nn.Module, owner: Owner) -> None:
    """Give parameters and buffers their wrapper classes, where they have none: alone where a model is compiled again.

    PopTorch restores the wrappers of what its shallow copy of the module shares with it (``rewrapModelIfNecessary``).
    """
    for tensor in _tensors(model):
        if not isWrapped(tensor):
            tensor_class: Any = type(tensor)
            tensor.__class__ = _wrapped_tensor_class(tensor_class)
            owners[id(tensor)] = owner
        elif owner_of(tensor) is None:  # of another module, whose executor was dropped
            owners[id(tensor)] = owner


def unwrap(model: torch.nn.Module, executor: Any) -> None:
    """Take the wrapper classes off again; does nothing for what another executor owns."""
    for obj in list(_tensors(model)) + [model]:
        owner = owners.get(id(obj))
        if owner is not None and owner.identity == id(executor):
            del owners[id(obj)]
            wrapped: Any = object.__getattribute__(obj, "__class__")
            # a program may have put another tensor in the place of one that was wrapped, with its id
            obj.__class__ = getattr(wrapped, "_poptorch_base", wrapped)


def leave(model: torch.nn.Module, executor: Any) -> None:
    """The executor is being dropped: the model stays wrapped, until its own ``destroy()``.

    So it is with PopTorch, where an executor often outlives the program's last reference to it: its optimizer has one.
    """
    owner = owners.get(id(model))
    if owner is not None and owner.identity == id(executor):
        owner.left = True


def _unwrap_left(model: torch.nn.Module) -> None:
    for obj in list(_tensors(model)) + [model]:
        if isWrapped(obj) and owner_of(obj) is None:
            owners.pop(id(obj), None)
            obj.__class__ = object.__getattribute__(obj, "__class__")._poptorch_base

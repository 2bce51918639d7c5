"""How a training executor marks the user's module, so that host weights look fresh whenever somebody looks.

After training steps the host's weights are stale: the trained ones are on the device. PopTorch 3.4 gives the module,
its parameters and its buffers wrapper classes that fetch the weights when touched, exactly once until the next step.
"""

import functools
import weakref
from typing import Any, Dict

import torch

from .._impl import createPoptorchError, isWrapped, owner_of, owners

_TOUCHES = frozenset(["_parameters", "_buffers", "forward"])
# PopTorch's class for buffers has no new_empty() of its own, as which Tensor.__deepcopy__ of torch 2.0 refuses it
_NO_COPY = (
    "As in PopTorch, copy.deepcopy() copies no buffer of a model in 'poptorch.trainingModel' (running statistics of a "
    "batch norm are buffers). Copy the model before trainingModel() or after destroy(), or load its state_dict() into "
    "a new one."
)


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
        if not isinstance(self, torch.nn.Parameter):
            raise RuntimeError(_NO_COPY)
        _refresh(self)
        with torch._C.DisableTorchFunctionSubclass():
            plain = torch.nn.Parameter(self.detach().clone(), self.requires_grad)
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
    name = "PoptorchParameter" if issubclass(base, torch.nn.Parameter) else "PoptorchBuffer"
    return type(name, (_WrappedTensor, base), {"_poptorch_base": base})


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


def wrap(model: torch.nn.Module, executor: Any) -> None:
    """Give ``model``, its parameters and its buffers their wrapper classes, in place.

    A parameter that another executor trains, too, belongs to this one from now on.

    Raises:
        RuntimeError: the model is wrapped already, or was left so by an executor that was dropped.
        poptorch.Error: a buffer is not exactly a ``torch.Tensor``: of another class, or wrapped still or again.
    """
    if isWrapped(model):
        message = (
            "Model has already been wrapped in 'poptorch.trainingModel'. Call model.destroy() on the model to "
            "unwrap before wrapping again."
        )
        if owner_of(model) is None:
            message += (
                " Its executor was dropped without destroy(), and nothing else unwraps it: keep the executor until "
                "then, or load the state_dict() of this model into a new one."
            )
        raise RuntimeError(message)
    for name, buffer in model.named_buffers():
        if type(buffer) is not torch.Tensor:
            message = (
                f"All buffers must be an instance of torch.Tensor (Got {type(buffer).__name__} for {name})"
            )
            if isWrapped(buffer):
                message += (
                    ". It is part of another model in 'poptorch.trainingModel', on which destroy() has to be called "
                    "first, or it was: PopTorch wraps the buffers of a destroyed model again when an inferenceModel() "
                    "of it is compiled. Compile that one before destroy(), or load the state_dict() into a new model."
                )
            raise createPoptorchError(message)
    owner = weakref.ref(executor)
    for obj in [*model.parameters(), *model.buffers(), model]:
        if not isWrapped(obj):
            plain: Any = type(obj)
            obj.__class__ = (_wrapped_module_class if obj is model else _wrapped_tensor_class)(plain)
        owners[id(obj)] = owner

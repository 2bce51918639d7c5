"""Annotations inside a model: blocks, attributes and name scopes.

Source: PopTorch 3.4 user guide, the sections on annotation tools and on naming.

They act only while an executor captures the model's forward; anywhere else they do nothing.
"""

import functools
from typing import Any, Callable, Dict, Optional

import torch

from .. import _state
from .._impl import createPoptorchError

__all__ = ["Attribute", "BeginBlock", "Block", "BlockFunction", "NameScope", "removeBlocks"]


class _BlockMeta(type):
    @property
    def _stages_manager(cls) -> Optional[Any]:
        """What keeps track of stages during a capture, else None."""
        return getattr(_state.annotations, "stages", None)


class Block(torch.nn.Module, metaclass=_BlockMeta):
    """Operations inside ``with Block(...)`` belong to one block, hence to one stage and IPU.

    After the ``with`` no block is active: further operations need one of their own.

    Args:
        user_id: the block's id; blocks with the same id are the same. None: numbered as they are entered.
        ipu_id: the IPU, unless the execution strategy says otherwise.
    """

    def __init__(self, user_id: Optional[str] = None, ipu_id: Optional[int] = None) -> None:
        super().__init__()
        self._user_id = user_id
        self._ipu_id = ipu_id

    def __enter__(self) -> "Block":
        if _state.annotations is not None:
            _state.annotations.enter_block(self._user_id, self._ipu_id)
        return self

    def __exit__(self, *exception: Any) -> None:
        if _state.annotations is not None:
            _state.annotations.exit_block()

    @staticmethod
    def useAutoId() -> None:
        """Start numbering blocks without an id from 0 again."""
        if _state.annotations is not None:
            _state.annotations.use_auto_id()

    @staticmethod
    def start(user_id: Optional[str] = None, ipu_id: Optional[int] = None) -> None:
        """Begin a block that lasts until the next one begins."""
        if _state.annotations is not None:
            _state.annotations.enter_block(user_id, ipu_id)


def _keptId(user_id: Optional[str]) -> Optional[str]:
    """The id of a layer's block. One without an id takes the next number once, for all its calls."""
    manager = Block._stages_manager
    return manager.nextAutoId() if user_id is None and manager is not None else user_id


class _BlockHook:
    """Forward pre-hook that begins a block; survives copies and pickling with its module."""

    def __init__(self, user_id: Optional[str], ipu_id: Optional[int]) -> None:
        self._user_id = user_id
        self._ipu_id = ipu_id

    def __call__(self, module: torch.nn.Module, inputs: Any) -> None:
        self._user_id = _keptId(self._user_id)
        Block.start(self._user_id, self._ipu_id)

    def __repr__(self) -> str:
        return f"BeginBlock(user_id={self._user_id}, ipu_id={self._ipu_id})"


class _BeginBlockCallable(torch.nn.Module):
    """Begins a block, then calls something that is no module."""

    def __init__(
        self, layer_to_call: Callable[..., Any], user_id: Optional[str], ipu_id: Optional[int]
    ) -> None:
        super().__init__()
        self._user_id = user_id
        self._layer_to_call = layer_to_call
        self._ipu_id = ipu_id

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self._user_id = _keptId(self._user_id)
        Block.start(self._user_id, self._ipu_id)
        return self._layer_to_call(*args, **kwargs)


def BeginBlock(
    layer_to_call: Any, user_id: Optional[str] = None, ipu_id: Optional[int] = None
) -> torch.nn.Module:
    """Begin a block whenever this layer is called; it lasts until another begins.

    Args:
        layer_to_call: a module, which is annotated in place; or any callable, which is wrapped.
        user_id: as for :class:`Block`, but a layer without one keeps the number of its first call.
        ipu_id: as for :class:`Block`.

    Returns:
        The same module, or the wrapper.

    Raises:
        Error: the module begins a block already, or ``layer_to_call`` cannot be called.
    """
    if not isinstance(layer_to_call, torch.nn.Module):
        if not callable(layer_to_call):
            raise createPoptorchError(
                f"BeginBlock takes a module or something callable, not a {type(layer_to_call).__name__}"
            )
        return _BeginBlockCallable(layer_to_call, user_id, ipu_id)
    if any(isinstance(hook, _BlockHook) for hook in layer_to_call._forward_pre_hooks.values()):
        raise createPoptorchError(
            "This module has already been assigned to a block: "
            f"call poptorch.removeBlocks() before annotating a {type(layer_to_call).__name__} again"
        )
    layer_to_call.register_forward_pre_hook(_BlockHook(user_id, ipu_id))
    return layer_to_call


def removeBlocks(module: torch.nn.Module) -> None:
    """Take :func:`BeginBlock` annotations off a module and all modules inside it."""
    assert isinstance(module, torch.nn.Module), f"removeBlocks() takes a module, not {module!r}"
    for child in module.modules():
        for key in [k for k, hook in child._forward_pre_hooks.items() if isinstance(hook, _BlockHook)]:
            del child._forward_pre_hooks[key]


def BlockFunction(user_id: Optional[str] = None, ipu_id: Optional[int] = None) -> Callable[..., Any]:
    """Decorate a function so that each call runs inside a :class:`Block` of its own."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with Block(user_id, ipu_id):
                return function(*args, **kwargs)

        return call

    return decorate


class Attribute:
    """Attach attributes to operations: ``with Attribute(__outline={"layer": "x"}):``."""

    def __init__(self, **kwargs: Dict[str, Any]) -> None:
        self._attributes = kwargs

    def __enter__(self) -> "Attribute":
        if _state.annotations is not None:
            _state.annotations.push_attribute(self._attributes)
        return self

    def __exit__(self, *exception: Any) -> None:
        if _state.annotations is not None:
            _state.annotations.pop_attribute()


class NameScope:
    """Prefix the names of the operations inside ``with NameScope("encoder")``."""

    def __init__(self, name: str) -> None:
        assert isinstance(name, str), f"The name of a NameScope is a string, not {name!r}"
        self.name = name

    def __enter__(self) -> "NameScope":
        pushNameScope(self.name)
        return self

    def __exit__(self, *exception: Any) -> None:
        popNameScope()


def pushNameScope(name: str) -> None:
    """Open a name scope; ``torch.ops.poptorch.push_name_scope`` is this."""
    if _state.annotations is not None:
        _state.annotations.push_name_scope(name)


def popNameScope() -> None:
    """Close the innermost name scope."""
    if _state.annotations is not None:
        _state.annotations.pop_name_scope()

"""Judges each ATen operator as PopTorch's dispatcher and its lowerings would."""

from typing import Any, Callable, Dict, List, Tuple

import torch

from .arguments import why_arguments
from .elementwise import infer
from .handlers import (
    COMPOSED,
    INDEX_OPERAND,
    NO_INFERENCE,
    RANDOM,
    TAKES_DTYPE_OF_OUT,
    has_lowering,
    lowered_as,
)
from .inference import INFERENCE
from .results import results_of_lowering
from .shadow import Shadow, Unsupported
from .versions import RENAMED
from .views import VIEWS, writes

_NEEDS_VALUE = frozenset(["item", "_local_scalar_dense", "is_nonzero"])
_JUST_TENSORS = frozenset(["empty", "lift_fresh", "alias", "empty_strided", "_linalg_check_errors"])
_META = torch.device("meta")
NO_BFLOAT16 = (
    "gives bfloat16, a data type that is not supported in Poplar"  # PopART, popx/irlowering.cpp, popType
)


class Dispatcher:
    """Infers shapes and dtypes of what operators return, and reports those that PopTorch cannot compile.

    Args:
        report: is told ``(operator, why)`` for every operator that cannot be compiled.
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self.report = report
        self.written: List[Shadow] = []  # what operators have changed in place, until somebody empties it
        self.seen: List[str] = []  # names of the operators that were handed over, until somebody empties it

    def handle(self, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        """What ``func`` gives for shadows.

        Raises:
            Unsupported: it has no place in a static graph.
        """
        shadows: List[Shadow] = []
        _visit((args, kwargs), shadows)
        device = kwargs.get("device")
        if not shadows and (device is None or torch.device(device).type != "ipu"):
            return func(*args, **kwargs)
        space, _, name = func._schema.name.partition("::")
        name, overload = RENAMED.get(name, name), func._overloadname
        key = name if overload in ("", "default") else f"{name}.{overload}"
        if space != "aten":
            key = name = f"{space}::{name}"
        self.seen.append(name)
        if name == "equal":
            return False  # dispatch_tracer/RegisterMetaOps.cpp.inc, without a look at the tensors
        if name in _NEEDS_VALUE:
            raise Unsupported("needs the value of a tensor, which exists only when the compiled graph runs")
        if name == "_to_copy":
            return self._move(args[0], kwargs)
        if name == "detach":
            return _view_of(args[0], VIEWS[name], _like(args[0]))
        if name == "copy_" and not isinstance(args[0], Shadow):
            raise Unsupported("copies a tensor of the IPU to one on the CPU inside forward")
        constant = all(s.constant for s in shadows) and name not in RANDOM
        if not constant and not has_lowering(name) and name not in COMPOSED and name not in _JUST_TENSORS:
            self.report(f"aten::{name}" if space == "aten" else name, "has no counterpart on the IPU")
        elif not constant:
            self._check_operands(name, shadows, args, kwargs)
            why = why_arguments(lowered_as(name), key, args, kwargs)
            if why:
                self.report(f"aten::{name}", why)
        result = self._infer(func, key, args, kwargs, constant)
        if not constant:
            result = results_of_lowering(lowered_as(name), key, args, kwargs, result)
        self._check_types(name, result)
        if writes(name) and isinstance(args[0], Shadow):
            self.written.append(args[0])
        if name in VIEWS and isinstance(args[0], Shadow):
            _view_of(args[0], VIEWS[name], result)
        return result

    def _check_types(self, name: str, result: Any) -> None:
        made: List[Shadow] = []
        _visit(result, made)
        if any(shadow.dtype == torch.bfloat16 for shadow in made):
            self.report(f"aten::{name}", NO_BFLOAT16)

    def _check_operands(self, name: str, shadows: List[Shadow], args: Any, kwargs: Any) -> None:
        for shadow in shadows:
            if shadow.absent:
                self.report(f"aten::{name}", f"reads what the device does not have: {shadow.absent}")
        if name.endswith("_") and args and isinstance(args[0], Shadow) and args[0].subsampled:
            self.report(f"aten::{name}", "changes a slice with a step in place, which is not supported")

    def _move(self, source: torch.Tensor, kwargs: Dict[str, Any]) -> Any:
        """``tensor.to(...)``: a cast, or a move between host and device."""
        device, dtype = kwargs.get("device"), kwargs.get("dtype") or source.dtype
        if not isinstance(source, Shadow):
            return Shadow(source.shape, dtype, constant=True)
        if device is not None and torch.device(device).type != "ipu":
            raise Unsupported(
                f'is an illegal move to {torch.device(device).type} (via `.to("{torch.device(device).type}")`): return '
                "the tensor from forward instead"
            )
        self._check_operands("_to_copy", [source], (), {})
        if dtype == torch.bfloat16:
            self.report("aten::to", NO_BFLOAT16)
            dtype = torch.float32
        return Shadow(source.shape, dtype, source.constant)

    def _infer(
        self, func: Any, key: str, args: Tuple[Any, ...], kwargs: Dict[str, Any], constant: bool
    ) -> Any:
        """Run ``func`` on meta tensors, as PopTorch's type inference does."""
        if key in NO_INFERENCE:
            raise Unsupported(
                "cannot be compiled: type inference fails, because torch 2.0.1 has no implementation of it for the "
                "Meta backend"
            )
        if kwargs.get("dtype") is None and kwargs.get("out") is not None:
            kwargs = _with_dtype_of_out(key, kwargs)
        plain = infer(key, args, kwargs)
        if plain is not None:
            plain.constant = plain.constant and constant if plain is args[0] else constant
            return plain
        own = INFERENCE.get(key)
        if own is not None:
            return _marked(own(*args, **kwargs), constant)
        originals: Dict[int, Shadow] = {}
        alive: List[torch.Tensor] = []
        upcast = INDEX_OPERAND.get(key)

        def to_meta(value: Any, index: bool = False) -> Any:
            if isinstance(value, torch.Tensor):
                if not isinstance(value, Shadow):
                    return self._host_operand(value)
                dtype = torch.int64 if index and value.dtype == torch.int32 else value.dtype
                meta = torch.empty(value.shape, dtype=dtype, device=_META)
                originals[id(meta)] = value
                alive.append(meta)
                return meta
            if isinstance(value, (list, tuple)):
                return type(value)([to_meta(item, index) for item in value])
            if isinstance(value, torch.device):
                return _META if value.type == "ipu" else value
            return value

        meta_args = [to_meta(value, position == upcast) for position, value in enumerate(args)]
        for position, argument in enumerate(func._schema.arguments[: len(args)]):
            # of a number that torch has made a tensor of, torch 2.0 shows Python the number
            if type(args[position]) in (bool, int, float) and str(argument.type) == "Tensor":
                meta_args[position] = torch.tensor(args[position], device=_META)
        meta_kwargs = {name: to_meta(value) for name, value in kwargs.items()}
        with torch._C.DisableTorchFunction():
            result = func(*meta_args, **meta_kwargs)

        def back(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                original = originals.get(id(value))
                if original is not None and original.shape == value.shape:
                    original.constant = original.constant and constant
                    return original
                return Shadow(value.shape, value.dtype, constant)
            if isinstance(value, (list, tuple)):
                return type(value)([back(item) for item in value])
            return value

        return back(result)

    def _host_operand(self, tensor: torch.Tensor) -> torch.Tensor:
        raise Unsupported(
            f"Expected an IPU tensor but got tensor(device={tensor.device.type}, shape={list(tensor.shape)}, "
            f"dtype={tensor.dtype}): constant tensors should be moved explicitly to the IPU"
        )


def _with_dtype_of_out(key: str, kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Arguments of a reduction into ``out``: of integers torch expects int64 there, which no IPU tensor is.

    PopTorch helps some of them (TypeInferenceHandler.cpp, ``makeReductionWorkaround``).
    """
    dtype = kwargs["out"].dtype
    if key in TAKES_DTYPE_OF_OUT:
        return dict(kwargs, dtype=dtype)
    if key == "prod.int_out" and not dtype.is_floating_point:
        raise RuntimeError("dtype argument and out dtype must match in reduction")
    return kwargs


def _marked(result: Any, constant: bool) -> Any:
    for shadow in result if isinstance(result, tuple) else (result,):
        shadow.constant = constant
    return result


def _visit(value: Any, found: List[Shadow]) -> None:
    if isinstance(value, Shadow):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _visit(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _visit(item, found)


def _view_of(source: Shadow, kind: str, made: Any) -> Any:
    """What an operator has made of ``source`` is one or several views of it."""
    for view in made if isinstance(made, (list, tuple)) else (made,):
        if isinstance(view, Shadow) and view is not source:
            view.origin = (kind, source)
    return made


def _like(shadow: Shadow) -> Shadow:
    made = Shadow(shadow.shape, shadow.dtype, shadow.constant)
    made.absent, made.subsampled = shadow.absent, shadow.subsampled
    return made

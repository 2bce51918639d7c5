"""Captures a forward as a static graph while Python runs it once.

PopTorch 3.4 dispatches every torch operation of the first call to its compiler instead of computing it. Here a
torch-function mode sees the same calls, computes them on the emulated device's storage and records them. What Python
does between the calls (prints, counters, branches) therefore happens once for each compilation, as on an IPU.

The recorder keeps three things apart: the tensors that user code holds (for parameters these are the host's own
objects), the storage tensors that calls are computed on, and the slots of the graph.
"""

import sys
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch.overrides import TorchFunctionMode

from . import _state
from ._dtypes import device_dtype, storage_dtype, upload
from ._graph import Graph, Node, Ref, map_structure, references, tensor_paths
from ._impl import createPoptorchError
from ._losses import LOSS_FUNCTIONS, check_loss_arguments
from ._precision import ACTIVATION_DECIDES, EXACT, result_is_half, round_in_place
from ._stages import Annotations

IPU = torch.device("ipu", 0)

_GETTERS = {
    torch.Tensor.dtype.__get__: "dtype",
    torch.Tensor.device.__get__: "device",
    torch.Tensor.is_cuda.__get__: "is_cuda",
}
_VALUE_NEEDED = frozenset(
    ["item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__"]
)
_DATA_DEPENDENT = frozenset(
    ["nonzero", "masked_select", "unique", "unique_consecutive", "bincount", "argwhere"]
)
_SIDE_EFFECTS = frozenset(["__setitem__"])
_MOVES = frozenset(["cuda", "ipu", "cpu"])
_CASTS = {
    "half": torch.float16,
    "float": torch.float32,
    "double": torch.float64,
    "bfloat16": torch.bfloat16,
}
_LIKE = frozenset(["to", "type_as", "view_as", "expand_as", "reshape_as"])


class Recorder(Annotations, TorchFunctionMode):
    """The torch-function mode that fills a :class:`Graph`.

    Args:
        compute_device: where storage tensors live.
        round_to_half: differentiable rounding that is inserted wherever a float16 result is stored.
        strategy: the execution strategy, which turns blocks into stages and IPUs.
        fused_micro_batches: number of micro-batches that run as one batch (1: none are fused).
        permissive: refusals become warnings where the operation can run anyway.
    """

    def __init__(
        self,
        compute_device: torch.device,
        round_to_half: Callable[[torch.Tensor], torch.Tensor],
        strategy: Any,
        fused_micro_batches: int = 1,
        permissive: bool = False,
    ) -> None:
        Annotations.__init__(self, strategy)
        TorchFunctionMode.__init__(self)
        self.graph = Graph()
        self.compute_device = compute_device
        self.round_to_half = round_to_half
        self.fused = fused_micro_batches
        self.permissive = permissive
        self._slot_of: Dict[int, int] = {}  # id of a tensor that user code may hold -> slot
        self._values: Dict[int, torch.Tensor] = {}  # slot -> storage tensor
        self._alive: List[Any] = []  # ids stay unique only while their objects live
        self._visible: Dict[int, torch.Tensor] = {}  # id of storage -> host object that stands for it
        self._rounded_weights: Dict[int, int] = {}
        self._attributes: Dict[int, torch.Tensor] = {}

    # -- slots ---------------------------------------------------------------------------------------------------

    def _new_slot(self, visible: torch.Tensor, value: torch.Tensor, half: bool) -> int:
        slot = len(self._values)
        self._values[slot] = value
        self._slot_of[id(visible)] = slot
        self._alive.append(visible)
        if half:
            self.graph.half.add(slot)
        return slot

    def add_input(self, storage: torch.Tensor, half: bool) -> torch.Tensor:
        self.graph.inputs.append(self._new_slot(storage, storage, half))
        return storage

    def add_state(self, name: str, host: torch.Tensor, storage: torch.Tensor, half: bool) -> None:
        """A parameter or buffer: user code meets ``host``, calls are computed on ``storage``."""
        self.graph.state[name] = self._new_slot(host, storage, half)
        self._visible[id(storage)] = host

    def allow_attribute(self, host: torch.Tensor) -> None:
        """A tensor held as a plain attribute of a module: a constant of the graph once it is used."""
        self._attributes[id(host)] = host

    def _slot(self, tensor: torch.Tensor) -> int:
        slot = self._slot_of.get(id(tensor))
        if slot is not None:
            return slot
        if id(tensor) in self._attributes:
            storage, half = upload(tensor, self.compute_device)
            slot = self._new_slot(tensor, storage, half)
            self.graph.constants[slot] = storage
            self._visible[id(storage)] = tensor
            return slot
        raise createPoptorchError(
            f"Expected an IPU tensor but got a CPU tensor of shape {tuple(tensor.shape)} at {caller_location()}. "
            "Tensors made outside forward must be inputs, parameters, buffers or attributes of the module."
        )

    def is_recorded(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._slot_of

    def slot_of(self, tensor: torch.Tensor) -> int:
        return self._slot(tensor)

    def value_of_slot(self, slot: int) -> torch.Tensor:
        return self._values[slot]

    # -- the mode ------------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        getter = _GETTERS.get(func)
        if getter is not None:
            return self._property(getter, args[0], func)
        name = getattr(func, "__name__", type(func).__name__)
        if name in ("__get__", "__set__"):
            descriptor = getattr(func, "__self__", None)
            name = getattr(descriptor, "__name__", name) + ("" if name == "__get__" else "__set__")
        if name in _VALUE_NEEDED or name in _DATA_DEPENDENT:
            self._refuse(name)
        if name == "__getitem__" and _selects_by_mask(args[1]):
            self._refuse("indexing with a boolean tensor")
        if name in ("__repr__", "__str__", "__format__"):
            return self._describe(args[0])
        if name == "backward":
            raise createPoptorchError("backward() cannot be called explicitly inside forward.")
        if name == "__iter__":
            return iter(self.__torch_function__(torch.unbind, types, (args[0], 0)))
        return self.record(func, name, args, kwargs)

    def _property(self, getter: str, tensor: torch.Tensor, func: Any) -> Any:
        slot = self._slot_of.get(id(tensor))
        if slot is None and id(tensor) not in self._attributes:
            return func(tensor)
        if getter == "dtype":
            slot = self._slot(tensor)
            return torch.float16 if slot in self.graph.half else device_dtype(self._values[slot].dtype)
        return IPU if getter == "device" else False

    def _describe(self, tensor: torch.Tensor) -> str:
        if not self.is_recorded(tensor):
            with torch._C.DisableTorchFunction():
                return torch.Tensor.__repr__(tensor)
        dtype = self._property("dtype", tensor, None)
        return f"tensor(..., device='ipu:0', size={tuple(tensor.shape)}, dtype={dtype})"

    def _refuse(self, name: str) -> None:
        what = (
            "needs the value of a tensor, which exists only when the compiled graph runs"
            if name in _VALUE_NEEDED
            else "has a result whose shape depends on the values of its input"
        )
        raise createPoptorchError(
            f"{name} at {caller_location()} {what}: it cannot be compiled for the IPU. "
            "Use operations with fixed shapes and return the tensor from forward to read it on the host."
        )

    # -- recording -----------------------------------------------------------------------------------------------

    def record(self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
        """Compute a call on storage tensors, append it to the graph and return what user code shall hold."""
        location = caller_location()
        func, args, kwargs, cast_half = self._device_call(func, name, args, kwargs)
        if name in LOSS_FUNCTIONS:
            check_loss_arguments(name, args, kwargs)
            func, args, kwargs = self._fused_loss(func, name, args, kwargs)
        refs = map_structure((args, kwargs), lambda t: Ref(self._slot(t)), (torch.Tensor,))
        half_result, refs = self._half_rules(name, refs, cast_half)
        values = map_structure(refs, lambda ref: self._values[ref.slot], (Ref,))
        result = func(*values[0], **values[1])
        found = tensor_paths(result)
        if not found and name not in _SIDE_EFFECTS and not name.endswith("__set__"):
            return result
        place = self.stages.current()
        node = Node(
            func, name, refs[0], refs[1], [], torch.is_grad_enabled(), place.ipu, place.stage, location
        )
        self.graph.nodes.append(node)
        replaced = {}
        for path, tensor in found:
            half = half_result and tensor.dtype == torch.float32
            if cast_half is not None and self._changes_dtype_in_name_only(tensor, refs, half):
                replaced[id(tensor)] = self._append_copy(node, path, tensor, half)
                continue
            visible = self._visible.get(id(tensor), tensor)
            slot = self._new_slot(visible, tensor, half)
            node.results.append((path, slot))
            if name in LOSS_FUNCTIONS:
                self.graph.losses.append((len(self.graph.nodes) - 1, slot))
                if self.fused > 1 and name == "identity_loss" and args[1] != "none":
                    self.graph.fused_losses.add(slot)
            replaced[id(tensor)] = visible
            if half and name not in EXACT:
                in_place = any(tensor is value for _, value in tensor_paths(values))
                replaced[id(tensor)] = self._append_rounding(node, slot, visible if in_place else None)
        return map_structure(result, lambda t: replaced.get(id(t), t), (torch.Tensor,))

    def _append_rounding(self, node: Node, slot: int, updated: Optional[torch.Tensor]) -> torch.Tensor:
        """Round the result in ``slot`` to float16 as a node of its own; the rounded tensor replaces it.

        ``updated`` is the tensor that an in-place call changed: user code goes on holding it, and what it reads from
        now on is the rounded value. A parameter or buffer keeps its storage, so it is rounded where it lies.
        """
        if updated is not None and updated is not self._values[slot]:
            self._append_in_place_rounding(node, slot)
            return updated
        rounded = self.round_to_half(self._values[slot])
        target = self._new_slot(rounded if updated is None else updated, rounded, half=True)
        self.graph.nodes.append(
            Node(
                self.round_to_half, "round_to_half", (Ref(slot),), {}, [((), target)],
                node.grad_enabled, node.ipu, node.stage, node.location,
            )
        )  # fmt: skip
        if self.graph.losses and self.graph.losses[-1][1] == slot:
            self.graph.losses[-1] = (len(self.graph.nodes) - 1, target)
            if slot in self.graph.fused_losses:
                self.graph.fused_losses.add(target)
        return rounded if updated is None else updated

    def _changes_dtype_in_name_only(self, result: torch.Tensor, refs: Any, half: bool) -> bool:
        """Whether a cast gave its own argument back because float16 and float32 have the same storage."""
        return any(
            self._values[ref.slot] is result and (ref.slot in self.graph.half) != half
            for ref in references(refs)
        )

    def _append_copy(
        self, node: Node, path: Tuple[Any, ...], tensor: torch.Tensor, half: bool
    ) -> torch.Tensor:
        """The result of such a cast as a tensor of its own; to float16 it is rounded."""
        slot = len(self._values)
        self._values[slot] = (
            tensor  # a name for the replay only; user code knows this tensor under another slot
        )
        node.results.append((path, slot))
        function = self.round_to_half if half else torch.clone
        result = function(tensor)
        target = self._new_slot(result, result, half)
        self.graph.nodes.append(
            Node(
                function, function.__name__, (Ref(slot),), {}, [((), target)],
                node.grad_enabled, node.ipu, node.stage, node.location,
            )
        )  # fmt: skip
        return result

    def _append_in_place_rounding(self, node: Node, slot: int) -> None:
        round_in_place(self._values[slot])
        self.graph.nodes.append(
            Node(
                round_in_place, "round_in_place", (Ref(slot),), {}, [], False,
                node.ipu, node.stage, node.location,
            )
        )  # fmt: skip

    def _half_rules(self, name: str, refs: Any, cast_half: Optional[bool]) -> Tuple[bool, Any]:
        """Whether the result is float16, and the arguments with weights cast to a float16 activation's dtype."""
        if cast_half is not None:
            return cast_half, refs
        if not self.graph.half:
            return False, refs
        floating: List[Ref] = []
        map_structure(refs, lambda ref: floating.append(ref) or ref, (Ref,))
        floating = [ref for ref in floating if self._values[ref.slot].dtype == torch.float32]
        half = [ref.slot in self.graph.half for ref in floating]
        result = result_is_half(name, half, [self._values[ref.slot].dim() for ref in floating])
        if result and name in ACTIVATION_DECIDES and not all(half):
            refs = map_structure(refs, self._weight_as_half, (Ref,))
        return result, refs

    def _weight_as_half(self, ref: Ref) -> Ref:
        value = self._values[ref.slot]
        if ref.slot in self.graph.half or value.dtype != torch.float32:
            return ref
        if ref.slot not in self._rounded_weights:
            rounded = self.round_to_half(value)
            target = self._new_slot(rounded, rounded, half=True)
            place = self.stages.current()
            self.graph.nodes.append(
                Node(
                    self.round_to_half, "round_to_half", (ref,), {}, [((), target)],
                    torch.is_grad_enabled(), place.ipu, place.stage, caller_location(),
                )
            )  # fmt: skip
            self._rounded_weights[ref.slot] = target
        return Ref(self._rounded_weights[ref.slot])

    # -- devices and dtypes inside calls -------------------------------------------------------------------------

    def _device_call(
        self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]
    ) -> Tuple[Any, Tuple[Any, ...], Dict[str, Any], Optional[bool]]:
        """The call as the storage needs it, and whether it explicitly asks for float16 (None: it does not say)."""
        if name in _MOVES and args and isinstance(args[0], torch.Tensor):
            return torch.Tensor.view_as, (args[0], args[0]), {}, None
        if name in _CASTS and args and isinstance(args[0], torch.Tensor):
            return torch.Tensor.to, (args[0], torch.float32), {}, _CASTS[name] == torch.float16
        dtypes: List[torch.dtype] = []

        def on_storage(value: Any) -> Any:
            if isinstance(value, torch.dtype):
                dtypes.append(value)
                return storage_dtype(value)
            return self.compute_device if value.type == "ipu" else value

        args, kwargs = map_structure((args, kwargs), on_storage, (torch.dtype, torch.device))
        if kwargs.get("device") is not None and str(kwargs["device"]).startswith("ipu"):
            kwargs = dict(kwargs, device=self.compute_device)
        if name in ("to", "type") and len(args) > 1 and isinstance(args[1], str):
            if args[1].startswith("ipu"):
                args = (args[0], self.compute_device) + tuple(args[2:])
            elif args[1].endswith("HalfTensor"):
                args, dtypes = (args[0], torch.float32) + tuple(args[2:]), [torch.float16]
        if dtypes:
            return func, args, kwargs, dtypes[0] == torch.float16
        if name in ("to", "type_as") and len(args) > 1 and isinstance(args[1], torch.Tensor):
            return func, args, kwargs, self._slot(args[1]) in self.graph.half
        if self.compute_device.type != "cpu" and "device" not in kwargs and name in _FACTORIES:
            kwargs = dict(kwargs, device=self.compute_device)
        return func, args, kwargs, None

    def _fused_loss(
        self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]
    ) -> Tuple[Any, Tuple[Any, ...], Dict[str, Any]]:
        if self.fused == 1:
            return func, args, kwargs
        if name != "identity_loss":
            reduction = kwargs.get("reduction", "mean")
            if reduction == "none":
                return func, args, kwargs
            raise createPoptorchError(
                f"{name}(reduction={reduction!r}) at {caller_location()} mixes the images of a batch, so that "
                "micro-batches cannot be fused: compute it with reduction='none' followed by "
                "poptorch.identity_loss, or switch fusing off."
            )
        x, reduction = args[0], kwargs.get("reduction", args[1] if len(args) > 1 else None)
        from .ops import identity_loss_of_micro_batches

        return identity_loss_of_micro_batches, (x, reduction, self.fused), {}

    def __enter__(self) -> "Recorder":
        _state.capture = self
        return super().__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        _state.capture = None
        super().__exit__(*exc_info)


_FACTORIES = frozenset(
    [
        "zeros",
        "ones",
        "full",
        "empty",
        "rand",
        "randn",
        "randint",
        "arange",
        "tensor",
        "eye",
        "linspace",
        "randperm",
    ]
)


def _selects_by_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    with torch._C.DisableTorchFunction():
        return any(
            isinstance(part, torch.Tensor) and part.dtype == torch.bool and part.dim() for part in parts
        )


def caller_location() -> str:
    """``file:line`` of the innermost frame outside torch and the emulator: where user code made the call."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not (module == "torch" or module.startswith(("torch.", __package__ + "."))):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"

"""Captures a forward as a static graph while Python runs it once.

PopTorch 3.4 dispatches every torch operation of the first call to its compiler instead of computing it. Here a
torch-function mode sees the same calls, computes them on the emulated device's storage and records them. What Python
does between the calls (prints, counters, branches) therefore happens once for each compilation, as on an IPU.

The recorder keeps three things apart: the tensors that user code holds (for parameters these are the host's own
objects), the storage tensors that calls are computed on, and the slots of the graph.
"""

from typing import Any, Dict, List, Sequence, Set, Tuple

import torch
from torch.overrides import TorchFunctionMode

from .. import _state
from .._impl import createPoptorchError
from .constants import INDEXING, Constants, describe_host, moved_to_device
from .control_flow import ControlFlow
from .device_calls import DeviceCalls
from .dtypes import device_dtype, upload
from .gradients import GRAD_OF, Detached, GradientCalls
from .graph import Graph, Node, Ref, map_structure, tensor_paths
from .hidden_calls import hide_calls, show_hidden_calls
from .losses import LOSS_FUNCTIONS, check_loss_arguments, identity_loss_of_micro_batches
from .micro_batch_norm import FusedNorms
from .multi_conv import MultiConvs
from .precision import EXACT
from .refusals import VALUE_NEEDED, Refusals, caller_location, why_refused
from .rounding import Rounding
from .shadow_calls import ShadowCalls, is_torchs
from .stages import Annotations
from .stored_results import StoredResults

IPU = torch.device("ipu", 0)

_GETTERS = {
    torch.Tensor.dtype.__get__: "dtype",
    torch.Tensor.device.__get__: "device",
    torch.Tensor.is_cuda.__get__: "is_cuda",
}
SQUEEZES_ITS_MEAN = frozenset(["var_mean", "std_mean"])
_SIDE_EFFECTS = frozenset(["__setitem__"])


class Recorder(
    Annotations,
    Constants,
    DeviceCalls,
    ControlFlow,
    FusedNorms,
    GradientCalls,
    MultiConvs,
    ShadowCalls,
    StoredResults,
    TorchFunctionMode,
):
    """The torch-function mode that fills a :class:`Graph`.

    Args:
        compute_device: where storage tensors live.
        round_to_half: differentiable rounding that is inserted wherever a float16 result is stored.
        strategy: the execution strategy, which turns blocks into stages and IPUs.
        fused_micro_batches: number of micro-batches that run as one batch (1: none are fused).
        permissive: refusals become warnings where the operation can run anyway.
        training: whether the forward is captured for training.
        tracks_weights: whether gradients flow to weights.
    """

    def __init__(
        self,
        compute_device: torch.device,
        round_to_half: Rounding,
        strategy: Any,
        fused_micro_batches: int = 1,
        permissive: bool = False,
        training: bool = False,
        tracks_weights: bool = False,
    ) -> None:
        Annotations.__init__(self, strategy)
        GradientCalls.__init__(self)
        ShadowCalls.__init__(self)
        TorchFunctionMode.__init__(self)
        self.graph = Graph()
        self.compute_device = compute_device
        self.round_to_half = round_to_half
        self.fused = fused_micro_batches
        self.norm_replicas = None
        self.fused_state = []
        self.training = training
        self.tracks_weights = tracks_weights
        self.refusals = Refusals(permissive)
        self.mixes_types = False  # whether an operation has float16 and float32 operands
        self._slot_of: Dict[int, int] = {}  # id of a tensor that user code may hold -> slot
        self._values: Dict[int, torch.Tensor] = {}  # slot -> storage tensor
        self._alive: List[Any] = []  # ids stay unique only while their objects live
        self._visible: Dict[int, torch.Tensor] = {}  # id of storage -> host object that stands for it
        self._rounded_weights: Dict[int, int] = {}
        self._attributes: Dict[int, torch.Tensor] = {}
        self._moved: Set[int] = set()

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

    def add_copy(self, storage: torch.Tensor, of: int) -> int:
        """A new slot for a copy of what slot ``of`` holds."""
        return self._new_slot(storage, storage, of in self.graph.half)

    def add_state(self, name: str, host: torch.Tensor, storage: torch.Tensor, half: bool) -> None:
        """A parameter or buffer: user code meets ``host``, calls are computed on ``storage``."""
        self.graph.state[name] = self._new_slot(host, storage, half)
        self._visible[id(storage)] = host

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
        self.refusals.add(
            f"an operation on a CPU tensor of shape {tuple(tensor.shape)}",
            f"cannot be compiled. Expected an IPU tensor but got {describe_host(tensor)}. Constant tensors should be "
            'moved explicitly to the IPU, via cpu_tensor.to("ipu"), or be attributes of the module; what changes '
            "between calls must be an input, parameter or buffer.",
        )
        self.allow_attribute(tensor)
        return self._slot(tensor)

    def is_recorded(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._slot_of

    def slot_of(self, tensor: torch.Tensor) -> int:
        return self._slot(tensor)

    def dtype_of(self, tensor: torch.Tensor) -> torch.dtype:
        """The dtype that the device holds a tensor in, or that it would have there."""
        slot = self._slot_of.get(id(tensor))
        if slot is None:
            with torch._C.DisableTorchFunction():
                return device_dtype(tensor.dtype)
        return torch.float16 if slot in self.graph.half else device_dtype(self._values[slot].dtype)

    def value_of_slot(self, slot: int) -> torch.Tensor:
        return self._values[slot]

    # -- the mode ------------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        captured_by = getattr(func, "captured_by", None)
        if captured_by is not None:
            return captured_by(self, *args, **kwargs)
        getter = _GETTERS.get(func)
        if getter is not None:
            return self._property(getter, args[0], func)
        name = call_name(func)
        if name in ("__repr__", "__str__", "__format__"):
            return self._describe(args[0])
        if func in self._differentiations:
            return self._differentiations[func](*args, **kwargs)
        if func == GRAD_OF and self._slot_of.get(id(args[0])) in self._grads:
            return self._grads[self._slot_of[id(args[0])]]
        if self._stays_on_the_cpu(name, args, kwargs):
            return func(*args, **kwargs)
        if name == "__iter__":
            return iter(self.__torch_function__(torch.unbind, types, (args[0], 0)))
        why = why_refused(name, args, kwargs)
        if why is not None:
            self.refusals.add(name, why)
        if (
            name in VALUE_NEEDED
        ):  # go on with the value of the first micro-batch, to find what else is refused
            args = map_structure(args, lambda t: self._values[self._slot(t)].detach(), (torch.Tensor,))
            return func(*args, **kwargs)
        return self.record(func, name, args, kwargs, judged=why is not None)

    def _property(self, getter: str, tensor: torch.Tensor, func: Any) -> Any:
        slot = self._slot_of.get(id(tensor))
        if slot is None and id(tensor) not in self._attributes:
            return func(tensor)
        if getter == "dtype":
            self._slot(tensor)  # an attribute becomes a constant now
            return self.dtype_of(tensor)
        return IPU if getter == "device" else False

    def _describe(self, tensor: torch.Tensor) -> str:
        if not self.is_recorded(tensor):
            with torch._C.DisableTorchFunction():
                return torch.Tensor.__repr__(tensor)
        dtype = self._property("dtype", tensor, None)
        return f"tensor(..., device='ipu:0', size={tuple(tensor.shape)}, dtype={dtype})"

    # -- recording -----------------------------------------------------------------------------------------------

    def record(
        self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any], judged: bool = False
    ) -> Any:
        """Compute a call on storage tensors, append it to the graph and return what user code shall hold.

        Args:
            judged: it has been refused already, so that PopTorch need not be asked.
        """
        location = caller_location()
        moved = moved_to_device(name, args)
        if moved is not None and not self.is_recorded(moved):
            self.allow_attribute(moved)
        if name in INDEXING:
            args = self._with_host_bounds(args)
        called = (func, name, args, kwargs)
        func, args, kwargs, cast_half = self._device_call(func, name, args, kwargs)
        if name in LOSS_FUNCTIONS:
            check_loss_arguments(name, args, kwargs)
            func, args, kwargs = self._fused_loss(func, name, args, kwargs)
        func, args, kwargs = self._fused_norm(func, name, args, kwargs)
        refs = map_structure((args, kwargs), lambda t: Ref(self._slot(t)), (torch.Tensor,))
        half_result, refs = self._half_rules(func, name, refs, cast_half)
        values = map_structure(refs, lambda ref: self._values[ref.slot], (Ref,))
        result = func(*values[0], **values[1])
        found = tensor_paths(result)
        if not found and name not in _SIDE_EFFECTS and not name.endswith("__set__"):
            return result
        shadows = self.shadows_of(result, None if judged else self.call_shadows(*called))
        underivable = self.has_no_derivative(called[0])
        if underivable and not self.training and is_torchs(called[0]):
            result = map_structure(result, lambda t: t.detach(), (torch.Tensor,))
            found, func = tensor_paths(result), Detached(func)
        node = self._append(func, name, refs[0], refs[1], torch.is_grad_enabled(), location)
        replaced = {}
        for (path, tensor), shadow in zip(found, shadows):
            half = half_result and tensor.dtype == torch.float32
            if shadow is not None and tensor.dtype == torch.float32:
                half = shadow.dtype == torch.float16
            if cast_half is not None and self._changes_dtype_in_name_only(tensor, refs, half):
                replaced[id(tensor)] = self._append_copy(node, path, tensor, half)
                continue
            if shadow is not None and shadow.shape != tensor.shape and name in SQUEEZES_ITS_MEAN:
                replaced[id(tensor)] = self._append_reshape(node, path, tensor, shadow, half)
                continue
            visible = self._visible.get(id(tensor), tensor)
            slot = self._new_slot(visible, tensor, half)
            node.results.append((path, slot))
            if shadow is not None:
                self._shadow_of[slot] = shadow
            if name in LOSS_FUNCTIONS:
                self.graph.losses.append((len(self.graph.nodes) - 1, slot))
                if self.fused > 1 and name == "identity_loss" and args[1] != "none":
                    self.graph.fused_losses.add(slot)
            replaced[id(tensor)] = visible
            if underivable:
                self._without_derivative[slot] = name
            if half and name not in EXACT:
                in_place = any(tensor is value for _, value in tensor_paths(values))
                if in_place and cast_half is not None:
                    continue  # a cast to the dtype that the tensor has: its argument, unchanged
                replaced[id(tensor)] = self._append_rounding(node, slot, visible if in_place else None)
        return map_structure(result, lambda t: replaced.get(id(t), t), (torch.Tensor,))

    def _append(
        self,
        function: Any,
        name: str,
        args: Tuple[Any, ...],
        kwargs: Dict[str, Any],
        grad_enabled: bool,
        location: str,
        results: Sequence[Tuple[Tuple[Any, ...], int]] = (),
    ) -> Node:
        """A node at the end of the graph, placed where the active block says."""
        place = self.stages.current()
        node = Node(
            function, name, args, kwargs, list(results), grad_enabled, place.ipu, place.stage, location
        )
        node.scope = "/".join(self.name_scopes)
        for attributes in self.attributes:
            node.attributes.update(attributes)
        self.graph.nodes.append(node)
        return node

    def record_list(
        self, function: Any, name: str, args: Tuple[Any, ...], halves: Sequence[bool]
    ) -> List[torch.Tensor]:
        """Record a call that returns a list of fresh tensors, of which those marked in ``halves`` are float16.

        ``args`` hold :class:`Ref` in the place of tensors. For operations of PopTorch that no dtype rule covers.
        """
        values = map_structure(args, lambda ref: self._values[ref.slot], (Ref,))
        tensors = list(function(*values))
        node = self._append(function, name, args, {}, torch.is_grad_enabled(), caller_location())
        for index, (tensor, half) in enumerate(zip(tensors, halves)):
            node.results.append(((index,), self._new_slot(tensor, tensor, half)))
        return tensors

    # -- losses of fused micro-batches -----------------------------------------------------------------------------

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
        return identity_loss_of_micro_batches, (x, reduction, self.fused), {}

    def __enter__(self) -> "Recorder":
        _state.capture = self
        show_hidden_calls(self)
        return super().__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        _state.capture = None
        hide_calls()
        super().__exit__(*exc_info)


def call_name(func: Any) -> str:
    """The name that a torch function goes by: attributes of tensors are called like functions."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        attribute = getattr(getattr(func, "__self__", None), "__name__", name)
        return attribute + ("" if name == "__get__" else "__set__")
    return name

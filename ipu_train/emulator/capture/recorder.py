"""Captures a forward as a static graph while Python runs it once.

PopTorch 3.4 dispatches every torch operation of the first call to its compiler instead of computing it. Here a
torch-function mode sees the same calls, computes them on the emulated device's storage and records them. What Python
does between the calls (prints, counters, branches) therefore happens once for each compilation, as on an IPU.

The recorder owns what knows more: ``slots`` tells tensors of user code, storage tensors and slots of the graph apart,
``constants``, ``shadows``, ``fused``, ``multi_convs``, ``results`` each know one matter, and none knows the recorder.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch.overrides import TorchFunctionMode

from .. import _state
from .._logging import logger
from .annotations import Annotations
from .constants import INDEXING, Constants, moved_to_device
from .device_calls import DeviceCalls
from .fused_batches import FusedBatches
from .gradients import Detached, GradientCalls
from .graph import Graph, Node, Ref, map_structure, tensor_paths
from .hidden_calls import hide_calls, show_hidden_calls
from .losses import LOSS_FUNCTIONS, check_loss_arguments, note_loss
from .multi_conv import MultiConvs
from .popart_gradients import passes_no_gradient
from .popart_operators import as_on_popart
from .precision import EXACT
from .refusals import VALUE_NEEDED, Refusals, caller_location, why_refused
from .rounding import Rounding
from .shadow_calls import ShadowCalls, is_torchs
from .slots import Slots
from .stale_views import StaleViews
from .stored_results import StoredResults
from .writer import Writer

IPU = torch.device("ipu", 0)

_GETTERS = {
    torch.Tensor.dtype.__get__: "dtype",
    torch.Tensor.device.__get__: "device",
    torch.Tensor.is_cuda.__get__: "is_cuda",
}
SQUEEZES_ITS_MEAN = frozenset(["var_mean", "std_mean"])
_SIDE_EFFECTS = frozenset(["__setitem__"])


class Recorder(TorchFunctionMode):
    """The torch-function mode that fills a :class:`Graph`.

    Args:
        compute_device: where storage tensors live.
        round_to_half: differentiable rounding that is inserted wherever a float16 result is stored.
        strategy: the execution strategy, which turns blocks into stages and IPUs.
        fused_micro_batches: number of micro-batches that run as one batch (1: none are fused).
        norm_replicas: replicas whose micro-batches take turns in such a batch; None where norms see the whole of it.
        permissive: refusals become warnings where the operation can run anyway.
        training: whether the forward is captured for training.
        tracks_weights: whether gradients flow to weights.
        strided_channel_groups: PopART's setting groupNormStridedChannelGrouping.
    """

    def __init__(
        self,
        compute_device: torch.device,
        round_to_half: Rounding,
        strategy: Any,
        *,
        fused_micro_batches: int = 1,
        norm_replicas: Optional[int] = None,
        permissive: bool = False,
        training: bool = False,
        tracks_weights: bool = False,
        strided_channel_groups: bool = False,
    ) -> None:
        super().__init__()
        self.training = training
        self.round_to_half = round_to_half
        self.graph = Graph()
        self.refusals = Refusals(permissive)
        self.annotations = Annotations(strategy)
        self.slots = Slots(self.graph, compute_device, self.refusals)
        self.constants = Constants(self.slots)
        self.shadows = ShadowCalls(self.slots, self.refusals)
        self.stale_views = StaleViews(self.slots, self.shadows, self.refusals)
        self.fused = FusedBatches(self.slots, fused_micro_batches, norm_replicas)
        self.multi_convs = MultiConvs(self.graph)
        self.writer = Writer(self.graph, self.annotations)
        self.results = StoredResults(self.slots, self.writer, self.shadows, round_to_half)
        self.gradients = GradientCalls(
            self.slots, self.writer, self.results, self.shadows, self.refusals, training, tracks_weights
        )
        self._calls = DeviceCalls(self.slots, strided_channel_groups)

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
        differentiate = self.gradients.answer_to(func, args)
        if differentiate is not None:
            return differentiate(*args, **kwargs)
        args, kwargs = self.constants.with_host_sizes(name, args, kwargs)
        if self.constants.stays_on_the_cpu(name, args, kwargs):
            return func(*args, **kwargs)
        if name == "__iter__":
            return iter(self.__torch_function__(torch.unbind, types, (args[0], 0)))
        if name == "equal":
            logger.warning(
                "torch.equal at %s is False whatever its tensors hold: there are no values while a model is compiled",
                caller_location(),
            )
            return False
        why = why_refused(name, args, kwargs)
        if why is not None:
            self.refusals.add(name, why)
        if (
            name in VALUE_NEEDED
        ):  # go on with the value of the first micro-batch, to find what else is refused
            args = map_structure(args, lambda t: self.slots.value_of(t).detach(), (torch.Tensor,))
            return func(*args, **kwargs)
        return self.record(func, name, args, kwargs, judged=why is not None)

    def _property(self, getter: str, tensor: torch.Tensor, func: Any) -> Any:
        if self.slots.is_on_host(tensor):
            return func(tensor)
        if getter == "dtype":
            self.slots.of(tensor)  # an attribute becomes a constant now
            return self.slots.dtype(tensor)
        return IPU if getter == "device" else False

    def _describe(self, tensor: torch.Tensor) -> str:
        if self.slots.find(tensor) is None:
            with torch._C.DisableTorchFunction():
                return torch.Tensor.__repr__(tensor)
        dtype = self.slots.dtype(tensor)
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
        if moved is not None and self.slots.find(moved) is None:
            self.slots.allow_attribute(moved)
        if name in INDEXING:
            args = self.constants.with_host_bounds(args)
        called = (func, name, args, kwargs)
        func, args, kwargs, cast_half = self._calls.on_storage(func, name, args, kwargs)
        func, args, kwargs = as_on_popart(func, name, args, kwargs, self.training)
        if name in LOSS_FUNCTIONS:
            check_loss_arguments(name, args, kwargs)
        func, args, kwargs = self.fused.call(func, name, args, kwargs)
        refs = map_structure((args, kwargs), lambda t: Ref(self.slots.of(t)), (torch.Tensor,))
        half_result, refs = self.results.half_rules(func, name, refs, cast_half)
        func = self.results.computed_apart(func, name, refs, half_result)
        values = map_structure(refs, lambda ref: self.slots.values[ref.slot], (Ref,))
        before = self.stale_views.versions(values)
        result = func(*values[0], **values[1])
        found = tensor_paths(result)
        if not found and name not in _SIDE_EFFECTS and not name.endswith("__set__"):
            return result
        shadows = self.shadows.of_results(name, result, None if judged else self.shadows.call(*called))
        self.stale_views.look_at(name, values[0], before)
        underivable = self.gradients.has_no_derivative(called[0])
        if underivable and not self.training and is_torchs(called[0]):
            result = map_structure(result, lambda t: t.detach(), (torch.Tensor,))
            found, func = tensor_paths(result), Detached(func)
        operators = () if judged else tuple(self.shadows.operators)
        if self.training and passes_no_gradient(operators):
            result = map_structure(result, lambda t: t.detach(), (torch.Tensor,))
            found, func = tensor_paths(result), Detached(func)
        node = self.writer.append(func, name, refs[0], refs[1], torch.is_grad_enabled(), location)
        node.operators = operators
        changed = {id(tensor) for tensor, version in before if tensor._version != version}
        node.written = [slot for slot in node.inputs() if id(self.slots.values[slot]) in changed]
        node.refused, self.shadows.refused_if_used = self.shadows.refused_if_used, []
        self.results.round_statistics(node)
        replaced = {}
        for (path, tensor), shadow in zip(found, shadows):
            half = half_result and tensor.dtype == torch.float32
            if shadow is not None and tensor.dtype == torch.float32:
                half = shadow.dtype == torch.float16
            if cast_half is not None and self.results.changes_dtype_in_name_only(tensor, refs, half):
                replaced[id(tensor)] = self.results.copied(node, path, tensor, half)
                continue
            if shadow is not None and shadow.shape != tensor.shape and name in SQUEEZES_ITS_MEAN:
                replaced[id(tensor)] = self.results.reshaped(node, path, tensor, shadow, half)
                continue
            visible = self.slots.held(tensor)
            slot = self.slots.new(visible, tensor, half)
            node.results.append((path, slot))
            self.shadows.keep(slot, shadow)
            if name in LOSS_FUNCTIONS:
                note_loss(self.graph, node, slot)
                if self.fused.has_loss_of_each(name, args):
                    self.graph.fused_losses.add(slot)
            replaced[id(tensor)] = visible
            if underivable:
                self.gradients.stop_at(slot, name)
            if half and name not in EXACT:
                own = [version for argument, version in before if argument is tensor]
                in_place = bool(own)
                if in_place and (cast_half is not None or own[0] == tensor._version):
                    continue  # its argument, unchanged: a cast to the dtype that it has, dropout of nothing
                replaced[id(tensor)] = self.results.rounded(node, slot, visible if in_place else None)
        return map_structure(result, lambda t: replaced.get(id(t), t), (torch.Tensor,))

    def record_list(
        self, function: Any, name: str, args: Tuple[Any, ...], halves: Sequence[bool]
    ) -> List[torch.Tensor]:
        """Record a call that returns a list of fresh tensors, of which those marked in ``halves`` are float16.

        ``args`` hold :class:`Ref` in the place of tensors. For operations of PopTorch that no dtype rule covers.
        """
        values = map_structure(args, lambda ref: self.slots.values[ref.slot], (Ref,))
        tensors = list(function(*values))
        node = self.writer.append(function, name, args, {}, torch.is_grad_enabled(), caller_location())
        node.refused, self.shadows.refused_if_used = self.shadows.refused_if_used, []
        for index, (tensor, half) in enumerate(zip(tensors, halves)):
            node.results.append(((index,), self.slots.new(tensor, tensor, half)))
        return tensors

    def record_body(self, body: Callable[[], Any]) -> Tuple[Any, List[Node]]:
        """What ``body()`` returns, and what it records, which does not become part of the graph."""
        start = len(self.graph.nodes)
        with self.results.own_casts():
            # a mode is off while it handles a call; the body's calls are wanted
            super().__enter__()
            try:
                result = body()
            finally:
                super().__exit__(None, None, None)
        nodes = self.graph.nodes[start:]
        self.shadows.refused_if_used += [text for node in nodes for text in node.refused]
        del self.graph.nodes[start:]
        return result, nodes

    def refuse(self, nodes: List[Node], cause: Optional[BaseException] = None) -> None:
        """Refuse what cannot be compiled of these nodes.

        Raises:
            poptorch.Error: something was refused, of these or before.
        """
        for node in nodes:
            for text in node.refused:
                self.refusals.add_text(text)
        self.refusals.check(cause)

    def __enter__(self) -> "Recorder":
        _state.recorder, _state.annotations = self, self.annotations
        show_hidden_calls(self)
        return super().__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        _state.recorder = _state.annotations = None
        hide_calls()
        super().__exit__(*exc_info)


def call_name(func: Any) -> str:
    """The name that a torch function goes by: attributes of tensors are called like functions."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        attribute = getattr(getattr(func, "__self__", None), "__name__", name)
        return attribute + ("" if name == "__get__" else "__set__")
    return name

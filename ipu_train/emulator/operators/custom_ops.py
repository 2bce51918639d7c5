"""``poptorch.custom_op`` and ``poptorch.CPU``: code of the user's own inside a compiled model.

On an IPU a custom operator is a compiled PopART op. Here a Python implementation stands in for it, registered under the
op's domain and name; it may be any differentiable torch code.
"""

import math
import weakref
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch.overrides import handle_torch_function, has_torch_function

from .. import _state
from .._impl import createPoptorchError
from .._logging import logger
from ..capture.dtypes import download, upload
from ..capture.graph import Ref
from ..poptorch_core import createError

__all__ = ["CPU", "custom_op", "registerCustomOp"]

Tensors = List[torch.Tensor]
_FLOAT_MAX = torch.finfo(torch.float32).max  # PopART's float attributes have single precision
Implementation = Callable[[Tensors, Dict[str, Any]], Any]


def _fast_gather_last_dim(inputs: Tensors, attributes: Dict[str, Any]) -> Tensors:
    """``torch.gather`` along the last dimension, where the others agree; a custom op that comes with PopTorch."""
    data, indices = inputs
    if data.shape[:-1] != indices.shape[:-1]:
        raise createError(
            f"FastGatherLastDim: data {tuple(data.shape)} and indices {tuple(indices.shape)} must agree in all "
            "dimensions but the last."
        )
    return [torch.gather(data, -1, indices)]


_implementations: Dict[Tuple[str, str], Implementation] = {
    ("poptorch.custom_ops", "FastGatherLastDim"): _fast_gather_last_dim,
}


def registerCustomOp(domain: str, name: str, implementation: Optional[Implementation]) -> None:
    """Say in Python what ``poptorch.custom_op`` with this domain and name computes on the emulator.

    Args:
        domain: the op's domain, e.g. ``"custom.ops"``.
        name: the op's name.
        implementation: ``implementation(inputs, attributes)`` with a list of tensors and a dict, returns a list of
            tensors. Gradients flow through it as through any torch code. float16 tensors arrive as float32 tensors
            of float16 values; results that the model declares as float16 are rounded. None removes it.
    """
    if implementation is None:
        _implementations.pop((domain, name), None)
        return
    if not callable(implementation):
        raise TypeError(f"The implementation of a custom op must be callable, got {implementation!r}")
    _implementations[(domain, name)] = implementation


def _check_attributes(attributes: Dict[str, Any]) -> None:
    for key, value in attributes.items():
        if not isinstance(key, str):
            raise ValueError(f"The attributes of a custom op are named by strings, not {key!r}")
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        kinds = {type(item) for item in values}
        # PopART gets bools as integers
        if not kinds or len(kinds) > 1 or kinds.pop() not in (float, int, str, bool):
            raise ValueError(
                f"Attribute {key!r} of a custom op must be a float, an int, a string, or a list or tuple of one of "
                f"these types, not {value!r}"
            )
        for text in [key] + [item for item in values if isinstance(item, str)]:
            try:
                text.encode("ascii")
            except UnicodeEncodeError:
                raise ValueError(
                    f"{text} contains non-ASCII characters. It belongs to attribute {key!r}."
                ) from None
        for number in [item for item in values if isinstance(item, float)]:
            if _FLOAT_MAX < abs(number) < math.inf:
                which = "high" if number > 0 else "low"
                raise createError(f"{number:g} is too {which} for a Popart float attribute.")


def custom_op(
    inputs: Sequence[torch.Tensor],
    name: str,
    domain: str,
    domain_version: int,
    example_outputs: Sequence[torch.Tensor],
    attributes: Optional[Dict[str, Any]] = None,
) -> Tensors:
    """Call a custom operator.

    Args:
        inputs: tensors.
        name, domain, domain_version: of the op.
        example_outputs: tensors with the shapes and dtypes of the results; their values are not read.
        attributes: floats, ints, strings, or lists of one of them, by name.

    Returns:
        A list of tensors like ``example_outputs``. Outside an executor these are the implementation's results
        where one is registered, else copies of ``example_outputs``.

    Raises:
        ValueError: attributes of other types, or not ASCII.
        poptorch.Error: no implementation is registered, it returns another number of tensors than ``example_outputs``
            holds, or a float attribute does not fit single precision.
    """
    attributes = dict(attributes or {})
    _check_attributes(attributes)
    inputs = list(inputs)
    if has_torch_function(inputs):
        return handle_torch_function(
            custom_op, inputs, inputs, name, domain, domain_version, example_outputs, attributes
        )
    implementation = _implementations.get((domain, name))
    if implementation is None:
        return [example.clone() for example in example_outputs]
    return list(implementation(inputs, attributes))


class CustomCall:
    """The recorded form of :func:`custom_op`."""

    def __init__(
        self,
        title: str,
        implementation: Implementation,
        attributes: Dict[str, Any],
        shapes: List[torch.Size],
        roundings: List[Optional[Callable[[torch.Tensor], torch.Tensor]]],
    ) -> None:
        self.title = title
        self.implementation = implementation
        self.attributes = attributes
        self.shapes = shapes
        self.roundings = roundings
        self.warned = False

    def __call__(self, inputs: Tensors) -> Tensors:
        results = self.implementation(inputs, dict(self.attributes))
        results = list(results) if isinstance(results, (list, tuple)) else [results]
        if len(results) != len(self.shapes):
            raise createError(
                f"The implementation of custom op {self.title} returned {len(results)} tensors, example_outputs holds "
                f"{len(self.shapes)}."
            )
        if [result.shape for result in results] != self.shapes and not self.warned:
            self.warned = True  # PopART takes the shapes that the op infers, whatever the examples said
            logger.warning(
                "The implementation of custom op %s returned shapes %s, its example_outputs have %s",
                self.title,
                [tuple(result.shape) for result in results],
                [tuple(shape) for shape in self.shapes],
            )
        return [r if rounding is None else rounding(r) for r, rounding in zip(results, self.roundings)]


def capture_custom_op(
    recorder: Any,
    inputs: Tensors,
    name: str,
    domain: str,
    domain_version: int,
    example_outputs: Sequence[torch.Tensor],
    attributes: Dict[str, Any],
) -> Tensors:
    implementation = _implementations.get((domain, name))
    if implementation is None:
        raise createError(
            f"Custom op {domain}.{name}:{domain_version} has no implementation here. Compiled PopART ops cannot run "
            f"on the emulator: register one with ipu_train.emulator.registerCustomOp({domain!r}, {name!r}, function), "
            "in a file that --custom-ops names, for example (docs/emulator.md)."
        )
    halves = [recorder.slots.dtype(example) == torch.float16 for example in example_outputs]
    call = CustomCall(
        f"{domain}.{name}:{domain_version}",
        implementation,
        attributes,
        [example.shape for example in example_outputs],
        [recorder.round_to_half if half else None for half in halves],
    )
    return recorder.record_list(call, name, ([Ref(recorder.slots.of(t)) for t in inputs],), halves)


custom_op.captured_by = capture_custom_op  # type: ignore[attr-defined]


_called: Dict[str, "weakref.ref[CPU]"] = {}  # ID -> what was called first under it


class CPU:
    """Run a Python function or module on the host, inside a compiled inference model, at every execution.

    Args:
        layer_to_call: takes and returns CPU tensors: one, or a list or tuple. Shapes are fixed at compilation.
            Parameters of a module get ``requires_grad=False``.
        ID: a name for the operation.
    """

    def __init__(self, layer_to_call: Callable[..., Any], ID: str) -> None:
        self._layer_to_call = layer_to_call
        self._ID = ID
        self.in_shapes: List[torch.Size] = []
        self.out_shapes: List[torch.Size] = []
        self.inputs: Tensors = []
        self.outputs: Tensors = []
        if isinstance(layer_to_call, torch.nn.Module):
            layer_to_call.requires_grad_(False)

    def __call__(self, *input: torch.Tensor, **kwargs: Any) -> Any:
        """Call the function with tensors; a list for a list or tuple of results.

        Raises:
            RuntimeError: an argument that is no tensor.
        """
        for arg in input:
            if not isinstance(arg, torch.Tensor):
                raise RuntimeError(
                    f"poptorch.CPU {self._ID!r} takes tensors alone, not a {type(arg).__name__}: give other values to "
                    "the function before (functools.partial)"
                )
        if kwargs:
            logger.warning(
                "poptorch.CPU %r drops keyword arguments, as PopTorch does: %s", self._ID, ", ".join(kwargs)
            )
        if _called.setdefault(self._ID, weakref.ref(self))() is not self:
            logger.warning("PopTorch calls the first function of this process that had the ID %r", self._ID)
        if has_torch_function(input):
            result = handle_torch_function(call_on_host, input, self._layer_to_call, self._ID, input)
        else:
            result = self._layer_to_call(*input)
        self.in_shapes = [tensor.shape for tensor in input]
        self.out_shapes = [tensor.shape for tensor in _results(result)]
        return list(result) if isinstance(result, tuple) else result

    def registerPersistentData(self) -> None:
        """Make ``inputs`` and ``outputs``, host tensors of the last call's shapes; :meth:`execute` works on them."""
        self.inputs = [torch.zeros(shape) for shape in self.in_shapes]
        self.outputs = [torch.zeros(shape) for shape in self.out_shapes]

    def execute(self) -> None:
        """Call the function with ``inputs`` and write what it returns into ``outputs``."""
        for output, result in zip(self.outputs, _results(self._layer_to_call(*self.inputs))):
            output.copy_(result)


def _results(result: Any) -> Tensors:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def call_on_host(layer: Callable[..., Any], ID: str, tensors: Tuple[torch.Tensor, ...]) -> Any:
    return layer(*tensors)


class HostCall:
    """The recorded form of :class:`CPU`: storage tensors in, storage tensors out, host tensors between."""

    def __init__(self, layer: Callable[..., Any], ID: str, halves: List[bool], device: torch.device) -> None:
        self.layer = layer
        self.ID = ID
        self.halves = halves
        self.device = device
        self.single = False
        self.result_halves: List[bool] = []
        self.shapes: Optional[List[torch.Size]] = None
        # Results of the call made while compiling, until they are recorded.
        self.traced: Optional[Tensors] = None

    def __call__(self, inputs: Tensors) -> Tensors:
        if self.traced is not None:  # the function may have side effects: compiling calls it once
            traced, self.traced = self.traced, None
            return traced
        host = [download(tensor, half) for tensor, half in zip(inputs, self.halves)]
        with torch.no_grad(), _state.reporting_to(None):
            result = self.layer(*host)
        self.single = isinstance(result, torch.Tensor)
        results = _results(result)
        shapes = [tensor.shape for tensor in results]
        if self.shapes is not None and shapes != self.shapes:
            raise createPoptorchError(
                f"poptorch.CPU {self.ID!r} returned shapes {[tuple(s) for s in shapes]}; the model was compiled for "
                f"{[tuple(s) for s in self.shapes]}."
            )
        self.shapes = shapes
        stored = [upload(tensor, self.device) for tensor in results]
        self.result_halves = [half for _, half in stored]
        return [tensor for tensor, _ in stored]


def capture_host_call(
    recorder: Any, layer: Callable[..., Any], ID: str, tensors: Tuple[torch.Tensor, ...]
) -> Any:
    if recorder.training:
        raise createPoptorchError("poptorch.CPU operations are only supported in inference models")
    slots = [recorder.slots.of(tensor) for tensor in tensors]
    halves = [recorder.slots.is_half(slot) for slot in slots]
    call = HostCall(layer, ID, halves, recorder.slots.device)
    # One call says how many results there are, and their dtypes; they are also what is recorded.
    call.traced = call([recorder.slots.values[slot] for slot in slots])
    results = recorder.record_list(call, "CPU", ([Ref(slot) for slot in slots],), call.result_halves)
    dtypes = {recorder.slots.dtype(tensor) for tensor in [*tensors, *results]} - {torch.float32}
    if dtypes:
        logger.warning(
            "poptorch.CPU %r: PopTorch moves bytes to and from buffers of float32, so that %s would be other numbers "
            "on an IPU. Cast what goes in and out to float32.",
            ID,
            ", ".join(sorted(str(dtype)[6:] for dtype in dtypes)),
        )
    return results[0] if call.single else results


call_on_host.captured_by = capture_host_call  # type: ignore[attr-defined]

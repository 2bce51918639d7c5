"""The PopART operators of this room, run on the host.

Their sources (operators, lowerings, graphs and vertices) are built against the host implementation of Poplar
in ``host_poplar`` and run there, tile by tile: see its README for what that proves and what it does not.
"""

import ctypes
import functools
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch.autograd.function import once_differentiable

from ipu_train.kernels import build

DOMAIN = "ipu_train"
OPERATORS = ("ProxyNormStats", "ProxyNormAct", "GroupNormProxyNormAct")
HOST_FLAGS = ("-O1",)

Attribute = Union[int, float, str]
_TYPES = {"half": torch.float16, "float": torch.float32}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_ERROR_BYTES = 1024


class HostError(RuntimeError):
    """The operator refused its inputs, or the host found a fault in its graph or its vertices."""


@dataclass(frozen=True)
class Options:
    """How :func:`custom_ops` runs operators.

    Args:
        tiles: Of the device. Results do not depend on it (but for the order of sums), time does.
        mapping: How activations lie on the tiles: ``linear``, ``grouped``, ... (``host_poplar/mapping.hpp``).
        judge: Whether every vertex runs several times over in search of races and the like: slow.
    """

    tiles: int = 4
    mapping: str = "linear"
    judge: bool = False


class Session:
    """One operator for inputs of given types and shapes, lowered and ready to run, with its gradient.

    Args:
        name: Of the operator, in the domain ``ipu_train``.
        inputs: dtype (float16 or float32) and shape of each.
        attributes: As ``poptorch.custom_op`` takes them.
        options: See :class:`Options`.
        gradient_mapping: The mapping of the outputs' gradients, the activations' if not given.
        unused: Outputs that nothing depends on: their gradients are left unconnected.
        library: The library to use, that of :func:`library` if not given.
        session_options: PopART's session options that are set.

    Raises:
        HostError: With the operator's or the host's message.
        ipu_train.kernels.build.BuildError: The library cannot be built here.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[Tuple[torch.dtype, Sequence[int]]],
        attributes: Mapping[str, Attribute],
        options: Optional[Options] = None,
        gradient_mapping: Optional[str] = None,
        unused: Sequence[int] = (),
        library: Optional[ctypes.CDLL] = None,
        session_options: Sequence[str] = (),
    ):
        self._library = library or _load()
        self._handle = ctypes.c_void_p()
        self._lock = threading.Lock()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        lines = _request(name, inputs, attributes, options, gradient_mapping, unused, session_options)
        status = self._library.host_session_create(lines.encode(), ctypes.byref(self._handle), error)
        _raise(status, error)
        #: dtype and shape of each input.
        self.inputs = [(dtype, tuple(shape)) for dtype, shape in inputs]
        #: Shapes and attributes, as the host describes them.
        self.description = json.loads(self._library.host_session_description(self._handle).decode())
        #: dtype and shape of each output.
        self.outputs = [
            (_TYPES[output["type"]], tuple(output["shape"])) for output in self.description["outputs"]
        ]
        #: What the gradient operator reads: kind (``in``, ``out`` or ``grad_out``) and index.
        self.grad_inputs = [tuple(entry) for entry in self.description.get("grad_inputs", [])]

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.host_session_destroy(self._handle)

    def report(self) -> dict:
        """Bytes and estimated cycles of ``forward`` and ``backward`` (``host_poplar/README.md``)."""
        return json.loads(self._library.host_session_report(self._handle).decode())

    def forward(self, inputs: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        """The operator's outputs. ``inputs`` must have the session's types and shapes."""
        for tensor, (dtype, shape) in zip(inputs, self.inputs):
            if tensor.dtype != dtype or tuple(tensor.shape) != shape:
                raise HostError(
                    f"the session was made for {dtype} {shape}, not {tensor.dtype} {tuple(tensor.shape)}"
                )
        outputs = [torch.empty(shape, dtype=dtype) for dtype, shape in self.outputs]
        self._run(self._library.host_session_forward, inputs, outputs)
        return outputs

    def backward(self, grad_inputs: Sequence[Optional[torch.Tensor]]) -> List[torch.Tensor]:
        """Gradients of the operator's inputs, in their order. ``grad_inputs``: the tensors that
        :attr:`grad_inputs` lists, ``None`` for those that are not connected."""
        gradients = [torch.empty(shape, dtype=dtype) for dtype, shape in self.inputs]
        order = [gradients[forward_input] for _, forward_input in self.description["grad_outputs"]]
        self._run(self._library.host_session_backward, grad_inputs, order)
        return gradients

    def _run(
        self, function: Any, inputs: Sequence[Optional[torch.Tensor]], outputs: Sequence[torch.Tensor]
    ) -> None:
        inputs = [None if tensor is None else tensor.detach().contiguous() for tensor in inputs]
        sources = (ctypes.c_void_p * len(inputs))(*(None if t is None else t.data_ptr() for t in inputs))
        targets = (ctypes.c_void_p * len(outputs))(*(t.data_ptr() for t in outputs))
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        with self._lock:
            status = function(self._handle, sources, len(inputs), targets, len(outputs), error)
        _raise(status, error)


def custom_ops(
    options: Optional[Options] = None,
) -> Dict[Tuple[str, str], Callable[[List[torch.Tensor], Mapping[str, Attribute]], List[torch.Tensor]]]:
    """Implementations of this room's operators for an emulated ``poptorch.custom_op``, by (domain, name).

    Each takes the list of inputs and the attributes, and returns the list of outputs, differentiable once
    with respect to the inputs. The library and the graph of each new shape take a while to build.
    """
    options = options or Options()
    return {(DOMAIN, name): functools.partial(_apply, name, options) for name in OPERATORS}


@functools.lru_cache(maxsize=None)
def library() -> str:
    """The path of the operators' library for the host, built on the first call.

    Raises:
        ipu_train.kernels.build.BuildError: There is no C++ compiler, or it failed.
    """
    room = build.ROOM
    sources = sorted([*room.glob("host_poplar/*.cpp"), *room.glob("host_poplar/src/*.cpp")])
    sources += sorted(room.glob("proxy_norm/*.cpp"))
    includes = [room / "host_poplar" / "include", room / "proxy_norm"]
    flags = [*HOST_FLAGS, f'-DPROXY_NORM_SOURCE_FOLDER="{room / "proxy_norm"}"']
    return str(build.shared_library("proxy_norm_host", sources, includes, flags))


def open_library(path: str) -> ctypes.CDLL:
    """Loads a library with the sessions' C interface."""
    opened = build.load(Path(path))
    for text in (opened.host_session_description, opened.host_session_report):
        text.restype = ctypes.c_char_p
        text.argtypes = [ctypes.c_void_p]
    opened.host_session_destroy.argtypes = [ctypes.c_void_p]
    opened.host_session_destroy.restype = None
    return opened


@functools.lru_cache(maxsize=None)
def _load() -> ctypes.CDLL:
    return open_library(library())


def _raise(status: int, error: Any) -> None:
    if status != 0:
        raise HostError(error.value.decode(errors="replace"))


def _request(
    name: str,
    inputs: Sequence[Tuple[torch.dtype, Sequence[int]]],
    attributes: Mapping[str, Attribute],
    options: Optional[Options],
    gradient_mapping: Optional[str] = None,
    unused: Sequence[int] = (),
    session_options: Sequence[str] = (),
    number: int = 100,
) -> str:
    """One operator for the library's C interface: a line for each thing to know of it."""
    options = options or Options()
    lines = [f"operator {DOMAIN} {name} 1", f"number {number}"]
    for dtype, shape in inputs:
        if dtype not in _NAMES:
            raise HostError(f"{name}: tensors must be float16 or float32 on the device, not {dtype}")
        lines.append(" ".join(["input", _NAMES[dtype], *map(str, shape)]))
    lines += [_attribute_line(name, key, value) for key, value in sorted(attributes.items())]
    lines.append(f"tiles {options.tiles}")
    lines.append(f"mapping {options.mapping} {gradient_mapping or options.mapping}")
    lines.append(f"judge {int(options.judge)}")
    lines.append(" ".join(["unused", *map(str, unused)]))
    lines += [f"session_option {option}" for option in session_options]
    return "\n".join(lines)


def constant_bytes(
    operators: Sequence[Tuple[Any, Any, Any]], tiles: int = 1472, mapping: str = "grouped"
) -> List[int]:
    """What the constants of several operators of one graph, with their gradients, take on each tile.

    Args:
        operators: Of each: name, inputs and attributes, as :class:`Session` takes them.
    """
    requests = [
        _request(name, inputs, attributes, Options(tiles, mapping), number=100 + 11 * index)
        for index, (name, inputs, attributes) in enumerate(operators)
    ]
    bytes_of_tile = (ctypes.c_longlong * tiles)()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    _raise(_load().host_constants("\n\n".join(requests).encode(), bytes_of_tile, error), error)
    return list(bytes_of_tile)


def _attribute_line(name: str, key: str, value: Attribute) -> str:
    for kind in (int, float, str):
        if isinstance(value, kind) and not isinstance(value, bool):
            return f"attribute {kind.__name__.replace('str', 'string')} {key} {value!r}".replace("'", "")
    raise HostError(f"{name}: attribute {key} must be an int, a float or a string, not {value!r}")


@functools.lru_cache(maxsize=256)
def _session(name: str, inputs: Any, attributes: Any, options: Options) -> Session:
    return Session(name, inputs, dict(attributes), options)


def _apply(
    name: str, options: Options, inputs: List[torch.Tensor], attributes: Optional[Mapping[str, Attribute]]
) -> List[torch.Tensor]:
    shapes = tuple((tensor.dtype, tuple(tensor.shape)) for tensor in inputs)
    session = _session(name, shapes, tuple(sorted((attributes or {}).items())), options)
    return list(_Operator.apply(session, *inputs))


class _Operator(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, session: Session, *inputs: torch.Tensor) -> Any:
        outputs = _on_host(session.forward, session.outputs, inputs)
        ctx.session = session
        kept = {"in": inputs, "out": outputs}
        ctx.save_for_backward(*(kept[kind][i] for kind, i in session.grad_inputs if kind in kept))
        with_gradient = [i for kind, i in session.grad_inputs if kind == "grad_out"]
        ctx.mark_non_differentiable(*(t for i, t in enumerate(outputs) if i not in with_gradient))
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        saved = iter(ctx.saved_tensors)
        tensors = [gradients[i] if kind == "grad_out" else next(saved) for kind, i in ctx.session.grad_inputs]
        return (None, *_on_host(ctx.session.backward, ctx.session.inputs, tensors))


def _on_host(function: Any, kinds: Any, tensors: Any) -> List[torch.Tensor]:
    """Calls ``function`` with copies in host memory and moves its results back. Tensors without data, as a
    tracer has them, give tensors without data."""
    first = tensors[0]
    if first.is_meta or type(first) not in (torch.Tensor, torch.nn.Parameter):
        return [first.new_empty(shape, dtype=dtype) for dtype, shape in kinds]
    return [result.to(first.device) for result in function([tensor.cpu() for tensor in tensors])]

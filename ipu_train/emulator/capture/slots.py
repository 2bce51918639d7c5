"""The numbered tensors of a graph that is being recorded, and which objects of user code they belong to."""

from typing import Any, Dict, List, Optional

import torch

from .dtypes import core_name, device_dtype, upload
from .graph import Graph
from .refusals import Refusals


def describe_host(tensor: torch.Tensor) -> str:
    """A CPU tensor as PopTorch's errors name it: ``tensor(device=cpu, shape=[2], dtype=Long)``."""
    return f"tensor(device=cpu, shape={list(tensor.shape)}, dtype={core_name(tensor.dtype)})"


class Slots:
    """Keeps three things apart: the tensors that user code holds, storage tensors, and slots of the graph.

    Calls are computed on storage tensors. For parameters and buffers user code meets the host's own objects instead.

    Args:
        graph: whose slots these are.
        device: where storage tensors live.
        refusals: where host tensors that the device cannot have are noted.

    Attributes:
        values: storage tensors by slot.
    """

    def __init__(self, graph: Graph, device: torch.device, refusals: Refusals) -> None:
        self.graph = graph
        self.device = device
        self.values: Dict[int, torch.Tensor] = {}
        self._refusals = refusals
        self._slot_of: Dict[int, int] = {}  # by id of a tensor that user code may hold
        self._alive: List[Any] = []  # ids stay unique only while their objects live
        self._hosts: Dict[int, torch.Tensor] = {}  # by id of storage: the host's object that stands for it
        self._attributes: Dict[int, torch.Tensor] = {}  # by id, what becomes a constant once it is used

    # -- making them

    def new(self, held: torch.Tensor, value: torch.Tensor, half: bool) -> int:
        """A slot for ``value``, which user code knows as ``held``; ``half``: the device has it as float16."""
        slot = self.nameless(value)
        self._slot_of[id(held)] = slot
        self._alive.append(held)
        if half:
            self.graph.half.add(slot)
        return slot

    def nameless(self, value: torch.Tensor) -> int:
        """A slot for the replay only: user code holds this tensor under another one, or not at all."""
        slot = len(self.values)
        self.values[slot] = value
        return slot

    def add_input(self, storage: torch.Tensor, half: bool) -> torch.Tensor:
        """An argument of forward, as storage; it is what user code holds, too."""
        self.graph.inputs.append(self.new(storage, storage, half))
        return storage

    def add_state(self, name: str, host: torch.Tensor, storage: torch.Tensor, half: bool) -> None:
        """A parameter or buffer: user code meets ``host``, calls are computed on ``storage``."""
        self.graph.state[name] = self.new(host, storage, half)
        self._hosts[id(storage)] = host

    def add_copy(self, storage: torch.Tensor, of: int) -> int:
        """A slot for a copy of what slot ``of`` holds."""
        return self.new(storage, storage, self.is_half(of))

    def allow_attribute(self, host: torch.Tensor) -> torch.Tensor:
        """A tensor held as a plain attribute of a module: a constant of the graph once it is used."""
        self._attributes[id(host)] = host  # which also keeps its id unique
        return host

    # -- finding them

    def find(self, tensor: Any) -> Optional[int]:
        """The slot of a tensor that user code holds; None for one that the device does not have."""
        return self._slot_of.get(id(tensor))

    def of(self, tensor: torch.Tensor) -> int:
        """The slot of a tensor that user code hands to a call: an attribute becomes a constant, others are refused."""
        slot = self._slot_of.get(id(tensor))
        if slot is not None:
            return slot
        if id(tensor) not in self._attributes:
            self._refusals.add(
                f"an operation on a CPU tensor of shape {tuple(tensor.shape)}",
                f"cannot be compiled. Expected an IPU tensor but got {describe_host(tensor)}. Constant tensors should "
                'be moved explicitly to the IPU, via cpu_tensor.to("ipu"), or be attributes of the module; what '
                "changes between calls must be an input, parameter or buffer.",
            )
            self.allow_attribute(tensor)
        storage, half = upload(tensor, self.device)
        slot = self.new(tensor, storage, half)
        self.graph.constants[slot] = storage
        self._hosts[id(storage)] = tensor
        return slot

    def value_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The storage of a tensor that user code holds."""
        return self.values[self.of(tensor)]

    def memory_of(self, slot: int) -> int:
        """A number that slots have in common whose tensors are views of each other."""
        return self.values[slot].untyped_storage().data_ptr()

    def is_on_host(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor was made outside forward and is nothing that the device holds."""
        return id(tensor) not in self._slot_of and id(tensor) not in self._attributes

    def held(self, storage: torch.Tensor) -> torch.Tensor:
        """What user code holds in the place of a storage tensor."""
        return self._hosts.get(id(storage), storage)

    def is_half(self, slot: int) -> bool:
        """Whether the device has what is in ``slot`` as float16."""
        return slot in self.graph.half

    def dtype(self, tensor: torch.Tensor) -> torch.dtype:
        """The dtype that the device holds a tensor in, or that it would have there."""
        slot = self._slot_of.get(id(tensor))
        if slot is None:
            with torch._C.DisableTorchFunction():
                return device_dtype(tensor.dtype)
        return self.dtype_of(slot)

    def dtype_of(self, slot: int) -> torch.dtype:
        """The dtype that the device holds a slot in."""
        return torch.float16 if self.is_half(slot) else device_dtype(self.values[slot].dtype)

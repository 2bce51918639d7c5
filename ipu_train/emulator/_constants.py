"""Host tensors inside a forward: what becomes a constant of the graph, and what stays on the CPU."""

from typing import Any, Dict, Set, Tuple

import torch

from ._device_calls import FACTORIES, is_cpu, moves_to_ipu
from ._dtypes import download, upload
from ._graph import Graph, tensor_paths


class Constants:
    """The part of a recorder that knows about tensors that are neither inputs nor state."""

    graph: Graph
    compute_device: torch.device
    _slot_of: Dict[int, int]
    _values: Dict[int, torch.Tensor]
    _visible: Dict[int, torch.Tensor]
    _attributes: Dict[int, torch.Tensor]
    # ids of attributes that forward moves to the device by itself: the device has copies of them
    _moved: Set[int]

    def allow_attribute(self, host: torch.Tensor) -> None:
        """A tensor held as a plain attribute of a module: a constant of the graph once it is used."""
        self._attributes[id(host)] = host  # which also keeps its id unique

    def keep_constants(self) -> None:
        """Let every run start from the constants' own values, also where forward updates them in place.

        Such an update happens once as the host sees it, since Python runs forward once, and is lost on the device
        between runs: only buffers last (PopTorch 3.4 user guide, "Custom buffers").
        """
        updated = [(slot, t) for slot, t in self.graph.constants.items() if t._version]
        for slot, storage in updated:
            host = self._visible[id(storage)]
            kept = len(self._values)
            self._values[kept], half = upload(host, self.compute_device)
            if half:
                self.graph.half.add(kept)
            del self.graph.constants[slot]
            self.graph.constants[kept] = self._values[kept]
            self.graph.start_with_copy(kept, slot)
            if id(host) not in self._moved:
                with torch.no_grad():
                    host.copy_(download(storage, half))

    def _stays_on_the_cpu(self, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bool:
        """Whether a call has to do with CPU tensors alone: Python computes it while compiling, for good.

        Moving such a tensor to the device makes a constant of it (PopTorch's public dispatcher sources).
        """
        tensors = [tensor for _, tensor in tensor_paths((args, kwargs))]
        if not tensors:
            return name in FACTORIES and is_cpu(kwargs.get("device"))
        if any(id(t) in self._slot_of or id(t) in self._attributes for t in tensors):
            return False
        if moves_to_ipu(name, args, kwargs):
            self.allow_attribute(tensors[0])
            self._moved.add(id(tensors[0]))
            return False
        return True

"""What an executor tells about the tensors of its compiled model (PopTorch 3.4 user guide, "Inspecting tensors")."""

from typing import Any, Dict, List

import torch

from .ir import as_json, graph_operators, slot_names, update_operators


class Inspection:
    """The part of an executor that names and reads tensors of the graph."""

    _options: Any
    _executable: Any
    _device_optimizer: Any
    _training: bool
    _anchored: Dict[str, torch.Tensor]

    def getTensorNames(self) -> List[str]:
        """Names of all tensors of the compiled model, for ``Options.anchorTensor``."""
        assert self.isCompiled(), "getTensorNames() needs a compiled model: call it (or compile()) first"
        names = list(slot_names(self._executable.graph))
        if self._training:
            names.append("loss")
            for weight, storage in self._executable.weights.items():
                if storage.requires_grad:
                    names += [f"Gradient___{weight}", f"UpdatedVar___{weight}"]
            names += list(self._device_optimizer.read_parameters())
        return names

    def getAnchoredTensor(self, short_name: str) -> torch.Tensor:
        """What the last call left of a tensor that ``Options.anchorTensor`` keeps."""
        assert short_name in self._options.anchored_tensors, (
            f"No tensor with name {short_name}: Options.anchorTensor() names those that are kept"
        )
        assert short_name in self._anchored, f"No value of {short_name} yet: run the model first"
        return self._anchored[short_name]

    def _debugGetPopartIR(self) -> str:
        """The captured graph as JSON text; in training with the operators that update the weights."""
        self._require_compiled()
        operators = graph_operators(self._executable.graph)
        if self._training:
            operators += update_operators(self._device_optimizer)
        return as_json(operators)

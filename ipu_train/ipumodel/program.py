"""A traced program: its tensors and its operations, in execution order. Pure data, no torch."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

PARAMETER, BUFFER, INPUT, ACTIVATION = "parameter", "buffer", "input", "activation"


@dataclass
class Tensor:
    """One piece of storage. Views of it are the same tensor; an in-place operation writes it again.

    ``shape`` is that of its first use, ``elements`` and ``bytes`` those of the whole storage in the dtype it
    was traced with; ``floating`` says whether a precision setting may change its width.
    """

    index: int
    kind: str
    shape: Tuple[int, ...]
    elements: int
    bytes: int
    floating: bool
    name: str = ""
    requires_grad: bool = False
    is_gradient: bool = False


@dataclass
class Operation:
    """One operation. ``kind`` groups operators by how an IPU runs them (see ``operators.py``).

    ``reads`` and ``writes`` are tensor indices, ``layer`` the path of the module it ran in, ``stage`` the
    pipeline stage, ``phase`` "forward" or "backward", ``attributes`` what the estimators need (shapes,
    kernel, stride, ...). ``saves`` are the tensors that its backward operation reads, in PopART's sense.
    """

    operator: str
    kind: str
    layer: str
    stage: int
    phase: str
    reads: Tuple[int, ...]
    writes: Tuple[int, ...]
    attributes: Dict[str, Any] = field(default_factory=dict)
    saves: Tuple[int, ...] = ()
    differentiable: Tuple[int, ...] = ()


@dataclass
class Program:
    """What ``trace`` returns. ``operations`` holds the forward pass, and the backward pass where it was
    recorded.

    ``unknown`` counts operators that have no rule of their own, by name: they are costed by the general rule.
    ``saved_by_torch`` are the tensors that eager torch keeps for backward (for comparison).
    """

    tensors: List[Tensor]
    operations: List[Operation]
    batch: int
    training: bool
    outputs: Tuple[int, ...] = ()
    unknown: Dict[str, int] = field(default_factory=dict)
    saved_by_torch: Tuple[int, ...] = ()
    stage_names: Tuple[str, ...] = ("",)

    @property
    def stages(self) -> int:
        """Number of pipeline stages."""
        return max([op.stage for op in self.operations] or [0]) + 1

    def forward(self) -> List[Operation]:
        return [op for op in self.operations if op.phase == "forward"]

    def parameters(self) -> List[Tensor]:
        return [t for t in self.tensors if t.kind == PARAMETER]

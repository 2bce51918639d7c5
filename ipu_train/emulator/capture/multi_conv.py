"""``poptorch.MultiConv``: convolutions that are independent of each other, planned together."""

from typing import Any, Dict, List, Optional, Union

import torch

from .. import _state
from ..enums import MultiConvPlanType
from ..poptorch_core import createError
from .graph import Graph

__all__ = ["MultiConv"]

_CONVOLUTIONS = frozenset(
    ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
)


class MultiConv:
    """All convolutions inside ``with poptorch.MultiConv():`` run in parallel on the IPU; results are the same.

    The settings are performance hints; a list holds one value for each convolution, in order. None takes back memory
    proportions, plan type and dithering.
    """

    def __init__(self) -> None:
        self._settings: Dict[str, Any] = {}

    def _set(self, name: str, value: Any) -> "MultiConv":
        self._settings[name] = list(value) if isinstance(value, (list, tuple)) else value
        return self

    def availableMemoryProportions(self, value: Union[float, List[float], None]) -> "MultiConv":
        """Share (0..1) of a tile's memory for temporaries, for all convolutions or for each."""
        values = value if isinstance(value, (list, tuple)) else [value]
        assert value is None or (values and all(isinstance(v, float) for v in values)), (
            f"Available memory proportions are floats, not {value!r}"
        )
        return self._set("availableMemoryProportions", value)

    def partialsTypes(self, value: Union[torch.dtype, List[torch.dtype]]) -> "MultiConv":
        """Dtype of partial sums, ``torch.float`` or ``torch.half``, for all convolutions or for each.

        Raises:
            ValueError: another dtype.
        """
        for dtype in value if isinstance(value, (list, tuple)) else [value]:
            if dtype not in (torch.float, torch.half):
                raise ValueError(f"Invalid partials types: expected torch.float or torch.half, not {dtype!r}")
        return self._set("partialsTypes", value)

    def planType(self, value: Optional[MultiConvPlanType]) -> "MultiConv":
        """Whether the convolutions run side by side or one after the other."""
        assert value is None or isinstance(value, MultiConvPlanType), (
            f"Invalid plan type: expected a MultiConvPlanType, not {value!r}"
        )
        return self._set("planType", value)

    def perConvReservedTiles(self, value: int) -> "MultiConv":
        """Tiles that each convolution gets at least."""
        assert isinstance(value, int), f"The number of reserved tiles is an int, not {value!r}"
        return self._set("perConvReservedTiles", value)

    def cycleBackOff(self, value: float) -> "MultiConv":
        """How much slower (0..1) than the fastest plan the longest convolution may be."""
        assert isinstance(value, float), f"The cycle back-off is a float, not {value!r}"
        return self._set("cycleBackOff", value)

    def enableConvDithering(self, value: Union[bool, List[bool], None]) -> "MultiConv":
        """Start convolutions at different tiles, all or each.

        Raises:
            ValueError: values that are no bool.
        """
        for flag in value if isinstance(value, (list, tuple)) else [value]:
            if value is not None and not isinstance(flag, bool):
                raise ValueError(f"Convolution dithering is a bool or a list of them, not {value!r}")
        return self._set("enableConvDithering", value)

    def __enter__(self) -> "MultiConv":
        if _state.recorder is not None:
            _state.recorder.multi_convs.begin()
        return self

    def __exit__(self, kind: Optional[type], *exception: Any) -> None:
        if _state.recorder is not None:
            _state.recorder.multi_convs.end(None if kind is not None else self._settings)


class MultiConvs:
    """Groups the convolutions of a graph that is being recorded."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._start: Optional[int] = None  # index of the first node of the group that is open

    def begin(self) -> None:
        """Open a group.

        Raises:
            poptorch.Error: one is open.
        """
        if self._start is not None:
            raise createError("Nested poptorch.MultiConv is not supported.")
        self._start = len(self._graph.nodes)

    def end(self, settings: Optional[Dict[str, Any]]) -> None:
        """Close the group; ``settings`` is None when an exception is on its way.

        Raises:
            poptorch.Error: there is no convolution in it, or another number of them than ``settings`` has values.
        """
        start, self._start = self._start, None
        if settings is None:
            return
        convolutions = [node for node in self._graph.nodes[start:] if node.name in _CONVOLUTIONS]
        if not convolutions:
            raise createError(
                "Unexpected end_multi_conv: there is no convolution inside this poptorch.MultiConv."
            )
        for name, value in settings.items():
            if isinstance(value, list) and len(value) != len(convolutions):
                raise createError(
                    f"poptorch.MultiConv: {name} has {len(value)} values for {len(convolutions)} convolutions."
                )
        self._graph.multi_convs.append(convolutions)

"""``poptorch.MultiConv``: convolutions that are independent of each other, planned together."""

from typing import Any, List, Optional, Union

import torch

from .. import _state
from ..enums import MultiConvPlanType
from ..poptorch_core import createError
from .graph import Node

__all__ = ["MultiConv"]

_CONVOLUTIONS = frozenset(
    ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
)


class MultiConv:
    """All convolutions inside ``with poptorch.MultiConv():`` run in parallel on the IPU; results are the same.

    The settings are performance hints; a list holds one value for each convolution, in order.
    """

    def __init__(self) -> None:
        self._settings = {}
        self._start = 0

    def _set(self, name: str, value: Any) -> "MultiConv":
        self._settings[name] = list(value) if isinstance(value, (list, tuple)) else value
        return self

    def availableMemoryProportions(self, value: Union[float, List[float]]) -> "MultiConv":
        """Share (0..1) of a tile's memory for temporaries, for all convolutions or for each."""
        values = value if isinstance(value, (list, tuple)) else [value]
        assert all(isinstance(v, float) for v in values), (
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

    def planType(self, value: MultiConvPlanType) -> "MultiConv":
        """Whether the convolutions run side by side or one after the other."""
        assert isinstance(value, MultiConvPlanType), (
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

    def enableConvDithering(self, value: Union[bool, List[bool]]) -> "MultiConv":
        """Start convolutions at different tiles, all or each.

        Raises:
            ValueError: values that are no bool.
        """
        for flag in value if isinstance(value, (list, tuple)) else [value]:
            if not isinstance(flag, bool):
                raise ValueError(f"Convolution dithering is a bool or a list of them, not {value!r}")
        return self._set("enableConvDithering", value)

    def __enter__(self) -> "MultiConv":
        if _state.capture is not None:
            _state.capture.begin_multi_conv()
        return self

    def __exit__(self, kind: Optional[type], *exception: Any) -> None:
        if _state.capture is not None:
            _state.capture.end_multi_conv(None if kind is not None else self._settings)


class MultiConvs:
    """The part of a recorder that groups convolutions."""

    def begin_multi_conv(self) -> None:
        if self.__dict__.get("_multi_conv_start") is not None:
            raise createError("Nested poptorch.MultiConv is not supported.")
        self._multi_conv_start: Optional[int] = len(self.graph.nodes)  # type: ignore[attr-defined]

    def end_multi_conv(self, settings: Any) -> None:
        """Close the group; ``settings`` is None when an exception is on its way."""
        start, self._multi_conv_start = self._multi_conv_start, None
        if settings is None:
            return
        nodes: List[Node] = self.graph.nodes[start:]  # type: ignore[attr-defined]
        convolutions = [node for node in nodes if node.name in _CONVOLUTIONS]
        if not convolutions:
            raise createError(
                "Unexpected end_multi_conv: there is no convolution inside this poptorch.MultiConv."
            )
        for name, value in settings.items():
            if isinstance(value, list) and len(value) != len(convolutions):
                raise createError(
                    f"poptorch.MultiConv: {name} has {len(value)} values for {len(convolutions)} convolutions."
                )
        self.graph.multi_convs.append(convolutions)  # type: ignore[attr-defined]

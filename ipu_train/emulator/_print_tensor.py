"""``poptorch.ipu_print_tensor``: print a tensor, and its gradient, whenever the compiled model runs."""

import sys
from typing import Any, Dict

import numpy
import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from . import _state
from ._impl import createPoptorchError

__all__ = ["ipu_print_tensor"]

_FLOAT_FORMATS = ("auto", "fixed", "scientific", "none")


def ipu_print_tensor(
    tensor: torch.Tensor,
    title: str = "",
    print_gradient: bool = True,
    summarise_threshold: int = 1000,
    edge_items: int = 3,
    max_line_width: int = 80,
    digits: int = 4,
    float_format: str = "auto",
    separator: str = ", ",
    open_bracket: str = "(",
    close_bracket: str = ")",
) -> torch.Tensor:
    """The tensor itself, printed to stderr at every execution.

    Args:
        tensor: any shape and dtype.
        title: printed before the values.
        print_gradient: print the gradient in the backward pass too, under ``<title>_gradient``.
        summarise_threshold: tensors with more elements are shown by their edges.
        edge_items: elements shown at each edge of a summarised dimension.
        max_line_width: characters in a line.
        digits: digits after the point; 0 for as many as needed.
        float_format: ``auto``, ``fixed``, ``scientific`` or ``none``.
        separator, open_bracket, close_bracket: how elements and dimensions are delimited.

    Raises:
        poptorch.Error: ``tensor`` is no tensor.
    """
    if not isinstance(tensor, torch.Tensor):
        raise createPoptorchError(
            f"ipu_print_tensor: expected a torch.Tensor to print, got {type(tensor).__name__}"
        )
    if float_format not in _FLOAT_FORMATS:
        raise createPoptorchError(
            f"ipu_print_tensor: float_format must be one of {', '.join(_FLOAT_FORMATS)}, not {float_format!r}"
        )
    layout = {
        "threshold": summarise_threshold,
        "edge_items": edge_items,
        "max_line_width": max_line_width,
        "digits": digits,
        "float_format": float_format,
        "separator": separator,
        "brackets": (open_bracket, close_bracket),
    }
    return print_with_layout(tensor, title, print_gradient, layout)


def print_with_layout(
    tensor: torch.Tensor, title: str, print_gradient: bool, layout: Dict[str, Any]
) -> torch.Tensor:
    if has_torch_function_unary(tensor):
        return handle_torch_function(print_with_layout, (tensor,), tensor, title, print_gradient, layout)
    return _Print.apply(tensor, title, print_gradient, layout)


print_with_layout.__name__ = "ipu_print_tensor"  # the name under which it is recorded


class _Print(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, title: str, print_gradient: bool, layout: Dict[str, Any]
    ) -> torch.Tensor:
        ctx.title, ctx.print_gradient, ctx.layout = title, print_gradient, layout
        if _state.capture is None:  # capturing is no execution
            _write(tensor, title, layout)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        if ctx.print_gradient:
            _write(gradient, f"{ctx.title}_gradient", ctx.layout)
        return gradient, None, None, None


def _write(tensor: torch.Tensor, title: str, layout: Dict[str, Any]) -> None:
    text = format_tensor(tensor, layout)
    print(f"{title}: {text}" if title else text, file=sys.stderr, flush=True)


def format_tensor(tensor: torch.Tensor, layout: Dict[str, Any]) -> str:
    """The values of a tensor as text."""
    values = tensor.detach().cpu().numpy()
    places = layout["digits"] or None
    how = layout["float_format"]
    formatter: Dict[str, Any] = {}
    if how == "fixed" or (how == "none" and places):
        formatter["float_kind"] = lambda v: numpy.format_float_positional(v, places, trim="k")
    elif how == "scientific":
        formatter["float_kind"] = lambda v: numpy.format_float_scientific(v, places, trim="k")
    text = numpy.array2string(
        values,
        max_line_width=layout["max_line_width"],
        precision=places,
        threshold=layout["threshold"],
        edgeitems=layout["edge_items"],
        separator=layout["separator"],
        formatter=formatter or None,
    )
    opening, closing = layout["brackets"]
    if not values.ndim:
        return text
    return text.replace("[", opening).replace("]", closing)

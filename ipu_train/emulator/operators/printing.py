"""``poptorch.ipu_print_tensor``: print a tensor, and its gradient, whenever the compiled model runs."""

import math
import sys
from typing import Any, Callable, Dict, List, Optional

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from .. import _state
from .._impl import createPoptorchError

__all__ = ["ipu_print_tensor"]

_FLOAT_FORMATS = ("auto", "fixed", "scientific", "none")
_LEFT_OUT = "..."


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
        digits: of each number, without its exponent; 0 for as many as needed, unaligned.
        float_format: ``auto``, ``fixed``, ``scientific`` or ``none`` (unaligned).
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
        if _state.annotations is None:  # capturing is no execution
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
    """The values of a tensor as Poplar's ``PrintTensor`` lays them out: a row in a line, brackets of more than one
    dimension in lines of their own, indented by a space for each dimension around them."""
    tensor = tensor.detach().cpu()
    edge = layout["edge_items"] if tensor.numel() > layout["threshold"] else 0
    text_of = _formatter(_shown(tensor, edge), layout)
    return "".join(_lines(tensor, text_of, edge, layout, 0))


def _shown(tensor: torch.Tensor, edge: int) -> torch.Tensor:
    """What summarising with so many edge items leaves (0: everything)."""
    for dim in range(tensor.dim()):
        if edge and tensor.shape[dim] > 2 * edge:
            last = tensor.shape[dim] - edge
            tensor = torch.cat([tensor.narrow(dim, 0, edge), tensor.narrow(dim, last, edge)], dim)
    return tensor


def _indices(size: int, edge: int) -> List[Optional[int]]:
    """Positions to print along a dimension, with None for what is left out."""
    if not edge or size <= 2 * edge:
        return list(range(size))
    return [*range(edge), None, *range(size - edge, size)]


def _lines(
    tensor: torch.Tensor, text_of: Callable[[Any], str], edge: int, layout: Dict[str, Any], depth: int
) -> List[str]:
    if not tensor.dim():
        return [text_of(tensor.item())]
    opening, closing = layout["brackets"]
    if tensor.dim() == 1:
        items = [_LEFT_OUT if i is None else text_of(tensor[i].item()) for i in _indices(len(tensor), edge)]
        return [opening, _wrap(items, layout, depth), closing]
    indent = " " * (depth + 1)
    parts = [opening, "\n"]
    for i in _indices(len(tensor), edge):
        parts.append(indent)
        parts += [_LEFT_OUT] if i is None else _lines(tensor[i], text_of, edge, layout, depth + 1)
        parts.append("\n")
    return parts + [" " * depth, closing]


def _wrap(items: List[str], layout: Dict[str, Any], depth: int) -> str:
    """One row; what does not fit into a line goes on in the next."""
    separator, width = layout["separator"], layout["max_line_width"]
    text, column = "", depth + len(layout["brackets"][0])
    for index, item in enumerate(items):
        if index:
            if column + len(separator) + len(item) > width:
                text, column = f"{text}{separator.rstrip()}\n{' ' * (depth + 2)}", depth + 2
            else:
                text, column = text + separator, column + len(separator)
        text, column = text + item, column + len(item)
    return text


def _formatter(shown: torch.Tensor, layout: Dict[str, Any]) -> Callable[[Any], str]:
    """How to write a value. ``digits`` counts all digits of a number but those of its exponent; numbers are made
    equally wide, except with 0 digits or the format ``none``."""
    digits, how = layout["digits"], layout["float_format"]
    if not shown.is_floating_point():
        write: Callable[[Any], str] = str
    elif how == "none" or not digits:
        write = (lambda value: f"{value:.{digits}g}") if digits else repr
    else:
        finite = shown.double().abs().flatten()
        finite = finite[torch.isfinite(finite) & (finite > 0)]
        largest = finite.max().item() if finite.numel() else 1.0
        smallest = finite.min().item() if finite.numel() else 1.0
        if how == "auto":
            how = "scientific" if largest >= 10.0**digits or smallest < 10.0**-digits else "fixed"
        if how == "scientific":
            write = f"{{:.{max(digits - 1, 0)}e}}".format
        else:
            before = max(1, math.floor(math.log10(largest)) + 1)
            write = f"{{:.{max(digits - before, 0)}f}}".format
    if how == "none" or not digits:
        return write
    width = max((len(write(value)) for value in shown.flatten().tolist()), default=0)
    return lambda value: write(value).rjust(width)

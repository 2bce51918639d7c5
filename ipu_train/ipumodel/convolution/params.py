"""A convolution and its two gradient convolutions, in the planner's own terms.

All three passes of a layer are convolutions: the gradient of the input convolves the output's gradient with
the flipped kernel; the gradient of the weights convolves the input (batch and input channels exchanged) with
the output's gradient as a kernel (Graphcore's public poplibs code, ``lib/poplin/ConvUtil.cpp``).
"""

from dataclasses import dataclass
from typing import Any, Dict, Tuple

PASSES = ("forward", "backward", "weights")


@dataclass(frozen=True)
class ConvParams:
    """Channels are per convolution group; ``field`` is the input (y, x); all of y, x order; sizes in
    elements.
    """

    batch: int
    groups: int
    in_channels: int
    out_channels: int
    field: Tuple[int, int]
    kernel: Tuple[int, int]
    stride: Tuple[int, int] = (1, 1)
    padding_lower: Tuple[int, int] = (0, 0)
    padding_upper: Tuple[int, int] = (0, 0)
    dilation: Tuple[int, int] = (1, 1)
    input_dilation: Tuple[int, int] = (1, 1)
    kind: str = "forward"

    @property
    def out_field(self) -> Tuple[int, ...]:
        """Output (y, x): the usual formula on the dilated, padded input."""
        sizes = []
        for i in range(2):
            extent = (self.field[i] - 1) * self.input_dilation[i] + 1
            extent += self.padding_lower[i] + self.padding_upper[i]
            sizes.append((extent - (self.kernel[i] - 1) * self.dilation[i] - 1) // self.stride[i] + 1)
        return tuple(sizes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward convolution, zero padding included."""
        oy, ox = self.out_field
        taps = self.kernel[0] * self.kernel[1]
        return self.batch * self.groups * self.in_channels * self.out_channels * oy * ox * taps

    @property
    def input_elements(self) -> int:
        return self.batch * self.groups * self.in_channels * self.field[0] * self.field[1]

    @property
    def output_elements(self) -> int:
        oy, ox = self.out_field
        return self.batch * self.groups * self.out_channels * oy * ox

    @property
    def weight_elements(self) -> int:
        return self.groups * self.in_channels * self.out_channels * self.kernel[0] * self.kernel[1]

    @property
    def symmetric(self) -> bool:
        """Whether the gradient of the input is the same convolution, of a gradient with other weights."""
        same = self.in_channels == self.out_channels and self.stride == self.input_dilation == (1, 1)
        return same and all(
            self.padding_lower[i] == self.padding_upper[i] == (self.kernel[i] - 1) * self.dilation[i] / 2
            for i in range(2)
        )

    def check(self) -> "ConvParams":
        """Raises ValueError when a size is not positive or the layer has no output."""
        sizes = (self.batch, self.groups, self.in_channels, self.out_channels) + self.field + self.kernel
        if min(sizes + self.stride + self.dilation + self.input_dilation) < 1:
            raise ValueError(
                "convolution: batch, channels, field, kernel, stride and dilation must be at least 1"
            )
        if min(self.out_field) < 1:
            raise ValueError(
                f"convolution: a kernel of {self.kernel} has no output on a field of {self.field}"
            )
        return self


@dataclass(frozen=True)
class Problem:
    """One pass as the planner splits it: sum over ``ky * kx * ci`` for each of ``groups * batch * oy * ox *
    co``.

    ``iy, ix`` bound what a tile can need of the input; ``sy, sx`` output stride; ``dy, dx`` input dilation;
    ``kdy, kdx`` kernel dilation. ``pass_`` is forward, backward or weights; ``rearranged`` names what a
    transform has to move first.
    """

    pass_: str
    groups: int
    batch: int
    oy: int
    ox: int
    ky: int
    kx: int
    ci: int
    co: int
    iy: int
    ix: int
    sy: int = 1
    sx: int = 1
    dy: int = 1
    dx: int = 1
    kdy: int = 1
    kdx: int = 1
    swapped: bool = False
    expanded: bool = False
    combined: int = 1

    def __hash__(self) -> int:
        """Of all fields, worked out once: tables of plans ask for it again and again."""
        known = vars(self).get("_hash")
        if known is None:
            known = hash(tuple(vars(self).values()))
            vars(self)["_hash"] = known
        return int(known)

    def __getstate__(self) -> Dict[str, Any]:
        """Without the hash: another process has others."""
        return {name: value for name, value in vars(self).items() if name != "_hash"}


def changed(problem: Problem, **changes: Any) -> Problem:
    """The problem with other values; many times as fast as ``replace``."""
    found = object.__new__(Problem)
    vars(found).update(vars(problem), **changes)
    vars(found).pop("_hash", None)
    return found


def problem_of(params: ConvParams, pass_: str) -> Problem:
    """The :class:`Problem` of one pass of a layer."""
    oy, ox = params.out_field
    if pass_ == "forward":
        return Problem(
            pass_,
            params.groups,
            params.batch,
            oy,
            ox,
            params.kernel[0],
            params.kernel[1],
            params.in_channels,
            params.out_channels,
            params.field[0],
            params.field[1],
            params.stride[0],
            params.stride[1],
            params.input_dilation[0],
            params.input_dilation[1],
            params.dilation[0],
            params.dilation[1],
        )
    if pass_ == "backward":
        out, stride, inside = list(params.field), list(params.stride), [oy, ox]
        for i in range(2):
            # A one-tap kernel leaves gaps that are filled with zeros afterwards: no dilated input is ever
            # made.
            if params.kernel[i] == 1 and stride[i] > 1:
                out[i], stride[i] = inside[i], 1
        return Problem(
            pass_,
            params.groups,
            params.batch,
            out[0],
            out[1],
            params.kernel[0],
            params.kernel[1],
            params.out_channels,
            params.in_channels,
            oy,
            ox,
            1,
            1,
            stride[0],
            stride[1],
            params.dilation[0],
            params.dilation[1],
        )
    if pass_ == "weights":
        field = list(params.field)
        stride = list(params.stride)
        for i in range(2):
            if (
                params.kernel[i] == 1 and stride[i] > 1
            ):  # only the positions that the forward pass read matter
                field[i], stride[i] = params.out_field[i], 1
        return Problem(
            pass_,
            params.groups,
            params.in_channels,
            params.kernel[0],
            params.kernel[1],
            oy,
            ox,
            params.batch,
            params.out_channels,
            field[0],
            field[1],
            params.dilation[0],
            params.dilation[1],
            1,
            1,
            stride[0],
            stride[1],
        )
    raise ValueError(f"convolution pass {pass_!r} is none of {', '.join(PASSES)}")


def expand(problem: Problem, y: bool, x: bool) -> Problem:
    """Turns kernel rows and/or columns into input channels; then merges what has become one long field."""
    p = problem
    if y:
        p = changed(p, ci=p.ci * p.ky, ky=1, iy=p.oy, sy=1, dy=1, kdy=1, expanded=True)
    if x:
        p = changed(p, ci=p.ci * p.kx, kx=1, ix=p.ox, sx=1, dx=1, kdx=1, expanded=True)
    return p


def flatten(problem: Problem) -> Problem:
    """Merges batch and every field dimension that a one-tap, stride-one kernel leaves alone into the
    innermost.
    """
    p = problem
    free_y = p.ky == 1 and p.sy == 1 and p.dy == 1 and p.iy == p.oy
    free_x = p.kx == 1 and p.sx == 1 and p.dx == 1 and p.ix == p.ox
    if free_x:
        wide = p.ox * p.batch * (p.oy if free_y else 1)
        p = changed(p, batch=1, ox=wide, ix=wide)
        if free_y:
            p = changed(p, oy=1, iy=1)
    elif free_y:
        tall = p.oy * p.batch
        p = changed(p, batch=1, oy=tall, iy=tall)
    return p


def is_matrix_product(problem: Problem) -> bool:
    p = problem
    return p.batch == 1 and p.oy == 1 and p.ky == 1 and p.kx == 1 and p.sx == 1 and p.dx == 1


def swap(problem: Problem) -> Problem:
    """Exchanges the operands of a matrix product: rows become output channels."""
    p = problem
    return changed(p, ox=p.co, ix=p.co, co=p.ox, swapped=not p.swapped)


def combine_groups(problem: Problem, factor: int) -> Problem:
    """Runs ``factor`` convolution groups as one dense convolution whose other blocks are zero."""
    p = problem
    groups = -(-p.groups // factor)
    return changed(p, groups=groups, ci=p.ci * factor, co=p.co * factor, combined=factor)

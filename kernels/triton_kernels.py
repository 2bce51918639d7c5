"""The kernels of ``gpu.py``: each program has ROWS rows, and goes over their pixels COLUMNS at a time.

Imported only where Triton is there. The arithmetic is that of ``proxy_norm/proxy_norm_math.hpp``.
"""

import triton
import triton.language as tl


@triton.jit
def _moments(x, out, rows, size, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Of each row a shift (its first element), the mean less that, and the squared deviations' sum: out [3, rows]."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    base = row.to(tl.int64) * size
    shift = tl.load(x + base, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, size, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        mask = inside[:, None] & (column < size)[None, :]
        value = tl.load(x + base[:, None] + column[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(tl.where(mask, value - shift[:, None], 0.0), axis=1)
    mean = total / size
    deviations = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, size, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        mask = inside[:, None] & (column < size)[None, :]
        value = tl.load(x + base[:, None] + column[None, :], mask=mask, other=0.0).to(tl.float32)
        u = tl.where(mask, value - shift[:, None] - mean[:, None], 0.0)
        deviations += tl.sum(u * u, axis=1)
    tl.store(out + row, shift, mask=inside)
    tl.store(out + rows + row, mean, mask=inside)
    tl.store(out + 2 * rows + row, deviations, mask=inside)


@triton.jit
def _forward(
    x, y, center, slope, offset, scale, mean, rows, size,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """y = (phi((x - center) slope + offset) - mean) scale."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    base = row.to(tl.int64) * size
    a = tl.load(center + row, mask=inside, other=0.0)[:, None]
    b = tl.load(slope + row, mask=inside, other=0.0)[:, None]
    c = tl.load(offset + row, mask=inside, other=0.0)[:, None]
    s = tl.load(scale + row, mask=inside, other=0.0)[:, None]
    m = tl.load(mean + row, mask=inside, other=0.0)[:, None]
    for start in range(0, size, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        mask = inside[:, None] & (column < size)[None, :]
        at = base[:, None] + column[None, :]
        z = (tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - a) * b + c
        if SILU:
            phi = z * tl.sigmoid(z)
        else:
            phi = tl.where(z < 0.0, 0.0, z)  # a NaN stays
        tl.store(y + at, ((phi - m) * s).to(y.dtype.element_ty), mask=mask)


@triton.jit
def _sums(
    x, d, out, center, slope, offset, rows, size,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Of each row the sums of d, d phi(z), d phi'(z) and d phi'(z) (x - center): out [4, rows]."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    base = row.to(tl.int64) * size
    a = tl.load(center + row, mask=inside, other=0.0)[:, None]
    b = tl.load(slope + row, mask=inside, other=0.0)[:, None]
    c = tl.load(offset + row, mask=inside, other=0.0)[:, None]
    of_d = tl.zeros([ROWS], dtype=tl.float32)
    of_phi = tl.zeros([ROWS], dtype=tl.float32)
    of_slope = tl.zeros([ROWS], dtype=tl.float32)
    of_u = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, size, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        mask = inside[:, None] & (column < size)[None, :]
        at = base[:, None] + column[None, :]
        u = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - a
        grad = tl.load(d + at, mask=mask, other=0.0).to(tl.float32)
        z = u * b + c
        if SILU:
            gate = tl.sigmoid(z)
            phi = z * gate
            by_z = grad * (gate + phi * (1.0 - gate))
        else:
            phi = tl.where(z < 0.0, 0.0, z)
            by_z = tl.where(z > 0.0, grad, 0.0)
        of_d += tl.sum(grad, axis=1)
        of_phi += tl.sum(tl.where(mask, grad * phi, 0.0), axis=1)
        of_slope += tl.sum(by_z, axis=1)
        of_u += tl.sum(tl.where(mask, by_z * u, 0.0), axis=1)
    tl.store(out + row, of_d, mask=inside)
    tl.store(out + rows + row, of_phi, mask=inside)
    tl.store(out + 2 * rows + row, of_slope, mask=inside)
    tl.store(out + 3 * rows + row, of_u, mask=inside)


@triton.jit
def _input(
    x, d, dx, center, slope, offset, direct, by_u, constant, rows, size,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """dx = d phi'(z) direct + (x - center) by_u + constant."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    base = row.to(tl.int64) * size
    a = tl.load(center + row, mask=inside, other=0.0)[:, None]
    b = tl.load(slope + row, mask=inside, other=0.0)[:, None]
    c = tl.load(offset + row, mask=inside, other=0.0)[:, None]
    e = tl.load(direct + row, mask=inside, other=0.0)[:, None]
    f = tl.load(by_u + row, mask=inside, other=0.0)[:, None]
    g = tl.load(constant + row, mask=inside, other=0.0)[:, None]
    for start in range(0, size, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        mask = inside[:, None] & (column < size)[None, :]
        at = base[:, None] + column[None, :]
        u = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - a
        grad = tl.load(d + at, mask=mask, other=0.0).to(tl.float32)
        z = u * b + c
        if SILU:
            gate = tl.sigmoid(z)
            by_z = grad * (gate + z * gate * (1.0 - gate))
        else:
            by_z = tl.where(z > 0.0, grad, 0.0)
        tl.store(dx + at, (by_z * e + (u * f + g)).to(dx.dtype.element_ty), mask=mask)


KERNELS = {"moments": _moments, "forward": _forward, "sums": _sums, "input": _input}

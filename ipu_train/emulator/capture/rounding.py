"""Rounding of float32 storage to the values that float16 has.

To nearest, ties to even; or stochastically, where the direction is drawn with the probability that makes the result
unbiased (Graphcore, "AI float: mixed precision arithmetic"). Rounding is most of what emulated float16 costs beyond
float32, so it works in place wherever nobody else needs the unrounded values, and on a CPU with a C++ compiler in one
pass over memory, with the same bits as by torch's operations.
"""

import functools
import math
import time
from typing import Any, Callable, Optional

import torch

from ...kernels import rounding as kernel

HALF_MAX = 65504.0  # largest finite float16
_MANTISSA_DROPPED = 13  # float32 has 23 mantissa bits, float16 has 10
_DROPPED_MASK = (1 << _MANTISSA_DROPPED) - 1
_SMALLEST_NORMAL = 2.0**-14  # below it float16 has a fixed spacing of 2**-24
_SMALLEST_NORMAL_BITS = 0x38800000  # as float32
_SIGN_BIT = -0x80000000
_PIECE = 1 << 18  # elements worked on at once where temporary arrays are needed
_SHIFTS = 1 << 16  # windows into the pool of noise begin anywhere in this many elements


def round_nearest(x: torch.Tensor) -> torch.Tensor:
    """``x`` (float32, any shape) rounded to the nearest float16 value, ties to even; beyond 65504 it is inf."""
    if kernel.serves(x):
        return kernel.round_to_half(x, torch.empty_like(x))
    return x.to(torch.float16).to(torch.float32)


def round_in_place(x: torch.Tensor) -> None:
    """Round a buffer or optimizer state that the device stores as float16 to nearest, where it lies."""
    with torch.no_grad():
        if kernel.serves(x):
            kernel.round_to_half(x, x)
        else:
            x.copy_(x.to(torch.float16))


class Noise:
    """Random bits for stochastic rounding: the lowest 13 of int16, or 0..8191 in int32.

    One pool is drawn for each stream (a micro-batch of a replica); each rounding reads a window of it that begins
    elsewhere. Every single rounding is unbiased; only roundings of the same stream share bits, at shifted places.
    """

    def __init__(self, device: torch.device = torch.device("cpu")) -> None:  # noqa: B008
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.manual_seed(0)
        self._words = torch.empty(0, dtype=torch.int64, device=self.device)
        self._bits = self._words.view(torch.int16)
        self._pool: Optional[torch.Tensor] = None  # the same in int32, where somebody asks for them

    def manual_seed(self, seed: int) -> None:
        """Begin another stream."""
        self.go_on_with(seed)
        self._calls = 0

    def go_on_with(self, seed: int) -> None:
        """Go on with another stream at the place that this one has come to."""
        self._seed = seed
        self._stale = True

    def window(self, count: int) -> torch.Tensor:
        """``[count]`` int32 in 0..8191, to be read only."""
        start = self._start(count)
        if self._pool is None:
            self._pool = self._bits.to(torch.int32).bitwise_and_(_DROPPED_MASK)
        return self._pool[start : start + count]

    def bits(self, count: int) -> torch.Tensor:
        """``[count]`` int16 of which the lowest 13 bits are those of :meth:`window`, to be read only."""
        start = self._start(count)
        return self._bits[start : start + count]

    def _start(self, count: int) -> int:
        """Where the next window begins, with the pool filled."""
        if self._stale or self._bits.numel() < count + _SHIFTS:
            self._fill(max(self._bits.numel(), count + _SHIFTS))
        self._calls += 1
        # 40503: odd, close to the golden section of 2**16
        return (self._calls * 40503 % (_SHIFTS // 16)) * 16

    def _fill(self, size: int) -> None:
        # A longer pool begins with what a shorter one holds, so that its length changes no rounding. One draw fills
        # 8 bytes, which is several times faster than drawing 13 bits at a time.
        if self._bits.numel() < size:
            self._words = torch.empty((size + 3) // 4, dtype=torch.int64, device=self.device)
            self._bits = self._words.view(torch.int16)
        self.generator.manual_seed(self._seed)
        self._words.random_(generator=self.generator)
        self._pool = None
        self._stale = False


def round_stochastic_(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Round ``x`` (float32, contiguous) up or down to float16 in place, unbiased; finite values saturate at +-65504.

    Adding uniform bits below the float16 mantissa and truncating rounds away from zero with probability equal to the
    distance to the neighbour nearer zero. Two ways to treat subnormal float16, whose spacing is that of the smallest
    normals, give the same bits; which is faster depends on the processor.

    Args:
        noise: int32 of as many elements, uniform in 0..8191.
    """
    flat = x.view(-1)
    infinite = None
    if x.device.type != "cpu" or not bool(torch.isfinite(flat.sum())):  # a sum is much faster than isfinite
        infinite = (~torch.isfinite(flat), flat.clone())
    if _denormals_are_fast(x.device):
        _truncate_scaled(flat, noise)
    else:
        for start in range(0, flat.numel(), _PIECE):
            _truncate_shifted(flat[start : start + _PIECE], noise[start : start + _PIECE])
    flat.clamp_(-HALF_MAX, HALF_MAX)
    if infinite is not None:
        flat.copy_(torch.where(infinite[0], infinite[1], flat))
    return x


def _truncate_scaled(x: torch.Tensor, noise: torch.Tensor) -> None:
    """Add noise and truncate where 2**-112 makes float32 subnormal exactly what float16 has subnormal."""
    x.mul_(2.0**-112)
    x.view(torch.int32).add_(noise).bitwise_and_(~_DROPPED_MASK)
    x.mul_(2.0**112)


def _truncate_shifted(x: torch.Tensor, noise: torch.Tensor) -> None:
    """The same without float32 subnormals: small values are shifted up by 2**-14 for the rounding and back again."""
    bits = x.view(torch.int32)
    small = bits & 0x7FFFFFFF
    small.sub_(_SMALLEST_NORMAL_BITS).bitwise_right_shift_(31)  # all ones where |x| < 2**-14, else zero
    shift = small.bitwise_and_(_SMALLEST_NORMAL_BITS).bitwise_or_(bits & _SIGN_BIT).view(torch.float32)
    x.add_(shift)
    bits.add_(noise).bitwise_and_(~_DROPPED_MASK)
    x.sub_(shift)


@functools.lru_cache(maxsize=None)
def _denormals_are_fast(device: torch.device) -> bool:
    """Whether arithmetic on float32 subnormals is about as fast as on others; on some processors it is not by far.

    It must be exact, too: ``torch.set_flush_denormal(True)`` makes them zero.
    """
    if device.type != "cpu":
        return True
    seconds = []
    for scale in (1.0, 2.0**-14):
        x = torch.full((1 << 14,), 1.5 * scale)
        best = math.inf
        for _ in range(4):
            started = time.perf_counter()
            x.mul_(2.0**-112)
            flushed = not bool(x[0])
            x.mul_(2.0**112)
            best = min(best, time.perf_counter() - started)
        seconds.append(best)
    return seconds[1] < 3 * seconds[0] and not flushed


def round_stochastic(x: torch.Tensor, generator: Optional[torch.Generator] = None) -> torch.Tensor:
    """A copy of ``x`` (float32, any shape), rounded as by :func:`round_stochastic_` with noise of its own."""
    noise = torch.randint(0, _DROPPED_MASK + 1, (x.numel(),), generator=generator, device=x.device)
    return round_stochastic_(x.clone(memory_format=torch.contiguous_format), noise.to(torch.int32))


class Rounding:
    """How one executor rounds.

    Calling it rounds a tensor into a new one and, on the way back, the gradient. ``in_place`` does the same in the
    tensor's own memory, for results that nobody has seen yet and that no backward formula reads.

    Attributes:
        noise: None for rounding to nearest.
        own_gradients: whether gradients may be rounded in place: where all floating tensors are float16, everybody
            who shares a gradient would round it to the same values.
    """

    __name__ = "round_to_half"

    def __init__(self, noise: Optional[Noise] = None) -> None:
        self.noise = noise
        self.own_gradients = False
        self._buffer = torch.empty(0, dtype=torch.float16)
        rounding = self

        class RoundToHalf(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
                return rounding.values(x)

            @staticmethod
            def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
                return rounding.gradient(gradient)

        class RoundInPlace(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
                ctx.mark_dirty(x)
                return rounding.values_(x)

            @staticmethod
            def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
                return rounding.gradient(gradient)

        self._new: Callable[[torch.Tensor], torch.Tensor] = RoundToHalf.apply
        self.in_place: Callable[[torch.Tensor], torch.Tensor] = RoundInPlace.apply

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._new(x)

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """A rounded copy."""
        if self.noise is None:
            return round_nearest(x)
        if kernel.serves(x):
            return kernel.round_to_half(x, torch.empty_like(x), self.noise.bits(x.numel()))
        return round_stochastic_(x.clone(memory_format=torch.contiguous_format), self.noise.window(x.numel()))

    def values_(self, x: torch.Tensor) -> torch.Tensor:
        """Rounded where it lies."""
        if not x.is_contiguous():
            return x.copy_(self.values(x))
        if kernel.serves(x):
            return kernel.round_to_half(x, x, None if self.noise is None else self.noise.bits(x.numel()))
        if self.noise is not None:
            return round_stochastic_(x, self.noise.window(x.numel()))
        if self._buffer.numel() < x.numel() or self._buffer.device != x.device:
            self._buffer = torch.empty(x.numel(), dtype=torch.float16, device=x.device)
        half = self._buffer[: x.numel()].view(x.shape)
        half.copy_(x)
        return x.copy_(half)

    def unnoticed_(self, x: torch.Tensor) -> torch.Tensor:
        """Rounded where it lies, for what autograd keeps but does not read."""
        self.values_(x.data)
        return x

    def gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """A gradient of a float16 tensor as the device stores it."""
        if torch.is_grad_enabled():  # forward differentiates, and the result is differentiated again
            return self._new(gradient)
        if self.own_gradients and gradient.is_contiguous():
            return self.values_(gradient)
        return self.values(gradient)


def make_rounding(stochastic: bool, noise: Optional[Noise] = None) -> Rounding:
    """Rounding to nearest, or stochastically with the bits of ``noise``."""
    return Rounding((noise or Noise()) if stochastic else None)

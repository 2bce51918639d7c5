"""Rounding of float32 storage to the values that float16 has.

To nearest, ties to even; or stochastically, where the direction is drawn with the probability that makes the result
unbiased (Graphcore, "AI float: mixed precision arithmetic"). Rounding is most of what emulated float16 costs beyond
float32, so it works in place wherever nobody else needs the unrounded values, and in pieces that stay in the cache.
"""

from typing import Any, Callable, Dict, Optional

import torch

HALF_MAX = 65504.0  # largest finite float16
_MANTISSA_DROPPED = 13  # float32 has 23 mantissa bits, float16 has 10
_DROPPED_MASK = (1 << _MANTISSA_DROPPED) - 1
_SMALLEST_NORMAL = 2.0**-14  # below it float16 has a fixed spacing of 2**-24
_SMALLEST_NORMAL_BITS = 0x38800000  # as float32
_SIGN_BIT = -0x80000000
_PIECE = 1 << 17  # elements worked on at once: a few arrays of them fit into a second-level cache
_SHIFTS = 1 << 16  # windows into the pool of noise begin anywhere in this many elements


def round_nearest(x: torch.Tensor) -> torch.Tensor:
    """``x`` (float32, any shape) rounded to the nearest float16 value, ties to even; beyond 65504 it is inf."""
    return x.to(torch.float16).to(torch.float32)


def round_in_place(x: torch.Tensor) -> None:
    """Round a buffer or optimizer state that the device stores as float16 to nearest, where it lies."""
    with torch.no_grad():
        x.copy_(x.to(torch.float16))


class Noise:
    """Random bits for stochastic rounding, 0..8191 in int32.

    One pool is drawn for each stream (a micro-batch of a replica); each rounding reads a window of it that begins
    elsewhere. Every single rounding is unbiased; only roundings of the same stream share bits, at shifted places.
    """

    def __init__(self, device: torch.device = torch.device("cpu")) -> None:  # noqa: B008
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.manual_seed(0)
        self._pool = torch.empty(0, dtype=torch.int32, device=self.device)
        self._words = torch.empty(0, dtype=torch.int64, device=self.device)

    def manual_seed(self, seed: int) -> None:
        """Begin another stream."""
        self._seed = seed
        self._calls = 0
        self._stale = True

    def window(self, count: int) -> torch.Tensor:
        """``[count]`` int32, to be read only."""
        if self._stale or self._pool.numel() < count + _SHIFTS:
            self._fill(max(self._pool.numel(), count + _SHIFTS))
        self._calls += 1
        start = (
            self._calls * 40503 % (_SHIFTS // 16)
        ) * 16  # 40503: odd, close to the golden section of 2**16
        return self._pool[start : start + count]

    def _fill(self, size: int) -> None:
        # A longer pool begins with what a shorter one holds, so that its length changes no rounding. One draw fills
        # 8 bytes, which is several times faster than drawing 13 bits at a time.
        if self._pool.numel() < size:
            self._words = torch.empty((size + 3) // 4, dtype=torch.int64, device=self.device)
            self._pool = torch.empty(size, dtype=torch.int32, device=self.device)
        self.generator.manual_seed(self._seed)
        self._words.random_(generator=self.generator)
        self._pool.copy_(self._words.view(torch.int16)[: self._pool.numel()])
        self._pool.bitwise_and_(_DROPPED_MASK)
        self._stale = False


_scratch: Dict[torch.device, Any] = {}


def round_stochastic_(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Round ``x`` (float32, contiguous) up or down to float16 in place, unbiased; finite values saturate at +-65504.

    Adding uniform bits below the float16 mantissa and truncating rounds away from zero with probability equal to the
    distance to the neighbour nearer zero. Where float16 is subnormal its spacing is that of the smallest normals, so
    such values are shifted up by 2**-14 for the rounding and back again.

    Args:
        noise: int32 of as many elements, uniform in 0..8191.
    """
    flat = x.view(-1)
    piece = _PIECE if x.device.type == "cpu" else max(1, flat.numel())
    if x.device not in _scratch or _scratch[x.device][0].numel() < min(piece, flat.numel()):
        _scratch[x.device] = [torch.empty(piece, dtype=torch.int32, device=x.device) for _ in range(2)]
    for start in range(0, flat.numel(), piece):
        part = flat[start : start + piece]
        small, sign = (buffer[: part.numel()] for buffer in _scratch[x.device])
        bits = part.view(torch.int32)
        finite = _all_finite(part)
        infinite = None if finite else (part, ~torch.isfinite(part), part.clone())
        torch.bitwise_and(bits, 0x7FFFFFFF, out=small)
        small.sub_(_SMALLEST_NORMAL_BITS).bitwise_right_shift_(31)  # all ones where |x| < 2**-14, else zero
        torch.bitwise_and(bits, _SIGN_BIT, out=sign)
        shift = small.bitwise_and_(_SMALLEST_NORMAL_BITS).bitwise_or_(sign).view(torch.float32)
        part.add_(shift)
        bits.add_(noise[start : start + piece]).bitwise_and_(~_DROPPED_MASK)
        part.sub_(shift).clamp_(-HALF_MAX, HALF_MAX)
        if infinite is not None:
            part.copy_(torch.where(infinite[1], infinite[2], part))
    return x


def _all_finite(x: torch.Tensor) -> bool:
    # a sum is several times faster than isfinite; when it overflows the slow way is taken for nothing
    total = x.sum()
    return x.device.type == "cpu" and bool(torch.isfinite(total))


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
        return round_stochastic_(x.clone(memory_format=torch.contiguous_format), self.noise.window(x.numel()))

    def values_(self, x: torch.Tensor) -> torch.Tensor:
        """Rounded where it lies."""
        if not x.is_contiguous():
            return x.copy_(self.values(x))
        if self.noise is not None:
            return round_stochastic_(x, self.noise.window(x.numel()))
        if self._buffer.numel() < x.numel() or self._buffer.device != x.device:
            self._buffer = torch.empty(x.numel(), dtype=torch.float16, device=x.device)
        half = self._buffer[: x.numel()].view(x.shape)
        half.copy_(x)
        return x.copy_(half)

    def gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """A gradient of a float16 tensor as the device stores it."""
        if self.own_gradients and gradient.is_contiguous():
            return self.values_(gradient)
        return self.values(gradient)


def make_rounding(stochastic: bool, noise: Optional[Noise] = None) -> Rounding:
    """Rounding to nearest, or stochastically with the bits of ``noise``."""
    return Rounding((noise or Noise()) if stochastic else None)

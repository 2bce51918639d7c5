"""Random numbers as a pure function of (seed, stream, epoch, index).

Nothing is drawn from a generator with a state, so the order and the augmentation of the images depend neither
on the number of worker processes nor on where a run was interrupted. The function is the finaliser of
SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), applied once for each
part of the key.
"""

from typing import Union

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)

Numbers = Union[int, np.ndarray]


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def bits(seed: int, stream: int, epoch: Numbers, index: Numbers, count: int = 1) -> np.ndarray:
    """Uniform 64-bit numbers.

    Args:
        seed: seed of the run, 0 or more.
        stream: what the numbers are for; different streams are independent.
        epoch, index: integers or integer arrays of shape ``[N]``.
        count: how many numbers for each key.

    Returns:
        uint64 array of shape ``[N, count]``.
    """
    epoch, index = np.broadcast_arrays(np.atleast_1d(epoch), np.atleast_1d(index))
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2^64
        key = _mix(np.array([seed], dtype=np.uint64))
        key = _mix(key ^ np.uint64(stream))
        key = _mix(key ^ epoch.astype(np.uint64))
        key = _mix(key ^ index.astype(np.uint64))
        return _mix(key[:, None] ^ np.arange(count, dtype=np.uint64)[None, :])


def uniform(seed: int, stream: int, epoch: Numbers, index: Numbers, count: int = 1) -> np.ndarray:
    """Uniform float64 numbers in [0, 1), of shape ``[N, count]``; arguments as :func:`bits`."""
    return (bits(seed, stream, epoch, index, count) >> np.uint64(11)) * 2.0**-53


def permutation(seed: int, stream: int, epoch: int, length: int) -> np.ndarray:
    """A random order of ``0 .. length - 1`` (int64), the same on every machine and with every numpy."""
    return np.argsort(bits(seed, stream, epoch, np.arange(length))[:, 0], kind="stable")


# Streams: one for each use.
ORDER, AUGMENT, SPLIT, TEMPLATES, GENERATED_TRAIN, GENERATED_VALIDATION, SYNTHETIC, MIXUP, CUTMIX = range(
    1, 10
)
POLICY, JITTER, ERASING, BOXES = range(10, 14)

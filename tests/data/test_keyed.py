"""Random numbers by their keys, against SplitMix64 in Python's own integers and its published first numbers."""

import numpy as np
import pytest

from ipu_train.data import keyed

MASK = 2**64 - 1
# of a generator that starts at 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64")
PUBLISHED = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def mix(x):
    """One step of SplitMix64 from state ``x``, as its authors write it."""
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_step_in_pythons_integers_is_that_of_splitmix64():
    """By which the numbers of the package are judged below."""
    states = [(1234567 + i * 0x9E3779B97F4A7C15) & MASK for i in range(5)]
    assert [mix(state) for state in states] == PUBLISHED


def test_each_part_of_the_key_is_mixed_in_by_itself():
    def by_hand(seed, stream, epoch, index, place):
        key = mix(seed)
        for part in (stream, epoch, index, place):
            key = mix(key ^ part)
        return key

    found = keyed.bits(7, 3, np.array([0, 5]), np.array([11, 2**40]), 4)
    assert found.dtype == np.uint64 and found.shape == (2, 4)
    for row, (epoch, index) in enumerate([(0, 11), (5, 2**40)]):
        assert found[row].tolist() == [by_hand(7, 3, epoch, index, place) for place in range(4)]


def test_numbers_and_arrays_mean_the_same():
    alone = keyed.bits(1, 2, 3, 4)
    assert alone.shape == (1, 1)
    assert keyed.bits(1, 2, 3, np.array([4, 9]))[0] == alone[0]
    assert keyed.bits(1, 2, np.array([3, 8]), 4)[0] == alone[0]


def test_uniform_numbers_are_the_upper_53_bits_of_a_unit_interval():
    bits, found = keyed.bits(5, 6, 7, np.arange(50), 3), keyed.uniform(5, 6, 7, np.arange(50), 3)
    assert found.dtype == np.float64 and found.shape == (50, 3)
    expected = [[int(b) // 2**11 / 2**53 for b in row] for row in bits]
    assert found.tolist() == expected
    assert found.min() >= 0 and found.max() < 1
    assert keyed.uniform(5, 6, 7, 0).shape == (1, 1)


@pytest.mark.parametrize("key", [(1, 2, 3), (0, 1, 0)])
def test_an_order_sorts_the_numbers_of_its_places(key):
    order = keyed.permutation(*key, 40)
    numbers = [int(keyed.bits(*key, place)[0, 0]) for place in range(40)]
    assert order.tolist() == sorted(range(40), key=numbers.__getitem__)


def test_streams_are_numbered_once():
    names = (
        "ORDER AUGMENT SPLIT TEMPLATES GENERATED_TRAIN GENERATED_VALIDATION SYNTHETIC MIXUP CUTMIX POLICY JITTER "
        "ERASING BOXES"
    )
    assert [getattr(keyed, name) for name in names.split()] == list(range(1, 14))

"""Augmentation moves, flips and crops as said, and is a pure function of (seed, epoch, index)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipu_train.data import keyed
from ipu_train.data.augment import AREA, RATIO, Shift, centre_crop, random_resized_crop, shift
from ipu_train.data.datasets import ArrayImages


def images(n=6, size=8, channels=3):
    return np.random.default_rng(0).integers(1, 256, (n, channels, size, size), dtype=np.uint8)


def test_keyed_numbers_are_uniform_and_uncorrelated_along_every_part_of_the_key():
    u = keyed.uniform(
        3, keyed.AUGMENT, np.arange(200)[:, None].repeat(200, 1).ravel(), np.tile(np.arange(200), 200), 2
    )
    n = u.size
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * n)
    counts = np.histogram(u, 64, (0, 1))[0]
    assert ((counts - n / 64) ** 2 / (n / 64)).sum() < 63 + 5 * np.sqrt(2 * 63)  # chi square
    grid = u.reshape(200, 200, 2) - 0.5
    for a, b in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1]), (grid[..., 0], grid[..., 1])):
        assert abs((a * b).mean()) < 5 * (1 / 12) / np.sqrt(a.size)
    other = keyed.uniform(4, keyed.AUGMENT, 0, np.arange(40000))[:, 0]
    assert abs(np.corrcoef(other, keyed.uniform(3, keyed.AUGMENT, 0, np.arange(40000))[:, 0])[0, 1]) < 0.025


def test_permutations_are_permutations_and_differ_between_epochs():
    first, second = (keyed.permutation(0, keyed.ORDER, epoch, 1000) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(1000))
    assert (first == second).sum() < 10


@given(y=st.integers(-9, 9), x=st.integers(-9, 9), flip=st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_shift_is_a_crop_of_the_padded_image(y, x, flip):
    source = images(2)
    padded = np.pad(source[..., ::-1] if flip else source, ((0, 0), (0, 0), (9, 9), (9, 9)))
    expected = padded[:, :, 9 - y : 17 - y, 9 - x : 17 - x]
    got = shift(source, np.array([y, y]), np.array([x, x]), np.array([flip, flip]))
    assert np.array_equal(got, expected)


def test_flip_crop_reaches_every_displacement_and_flips_half():
    source = np.zeros((4000, 1, 9, 9), dtype=np.uint8)
    source[:, 0, 4, 3] = 1  # off centre, so that a flip shows
    indices = np.arange(4000)
    changed = Shift(2, True, seed=1)(source, np.zeros(4000, dtype=np.int64), indices)
    places = [tuple(np.argwhere(image[0])[0]) for image in changed]
    rows, columns = {y for y, _ in places}, {x for _, x in places}
    assert rows == {2, 3, 4, 5, 6}
    assert columns == {1, 2, 3, 4, 5} | {3, 4, 5, 6, 7}
    flipped = sum(x > 5 for _, x in places) / sum(x > 5 or x < 3 for _, x in places)
    assert abs(flipped - 0.5) < 0.06


def test_shift_without_flip_never_flips():
    source = np.zeros((500, 1, 9, 9), dtype=np.uint8)
    source[:, 0, 4, 1] = 1
    changed = Shift(1, False, seed=1)(source, np.zeros(500, dtype=np.int64), np.arange(500))
    assert {int(np.argwhere(image[0])[0][1]) for image in changed} == {0, 1, 2}


def test_augmentation_depends_on_seed_epoch_and_index_and_on_nothing_else():
    source = images(40)
    dataset = ArrayImages(source, np.arange(40), Shift(3, True, seed=5))
    keys = [(2, index) for index in range(40)]
    whole, _ = dataset.batch(keys)
    # alone, in another order, and beside other images
    for key in (keys[7], keys[31]):
        assert torch.equal(dataset[key][0], whole[key[1]])
    backwards, _ = dataset.batch(keys[::-1])
    assert torch.equal(backwards.flip(0), whole)
    assert not torch.equal(dataset.batch([(3, index) for index in range(40)])[0], whole)
    other = ArrayImages(source, np.arange(40), Shift(3, True, seed=6))
    assert not torch.equal(other.batch(keys)[0], whole)
    assert np.array_equal(dataset.tensor.numpy(), source), "the stored images must stay as they are"


@pytest.mark.parametrize("width, height", [(500, 375), (32, 32), (3, 900), (900, 3), (1, 1)])
def test_random_resized_crops_lie_inside_the_image(width, height):
    crops = [random_resized_crop(width, height, 0, 0, index) for index in range(300)]
    for crop in crops:
        assert 0 <= crop.left < crop.right <= width and 0 <= crop.top < crop.bottom <= height
    assert abs(sum(crop.flip for crop in crops) / 300 - 0.5) < 0.15


def test_random_resized_crops_have_the_areas_and_ratios_of_the_recipe():
    crops = [random_resized_crop(1000, 1000, 0, 1, index) for index in range(2000)]
    areas = np.array([(c.right - c.left) * (c.bottom - c.top) / 1e6 for c in crops])
    ratios = np.array([(c.right - c.left) / (c.bottom - c.top) for c in crops])
    assert AREA[0] - 0.002 <= areas.min() < 0.1 and 0.95 < areas.max() <= 1
    assert RATIO[0] - 0.01 <= ratios.min() and ratios.max() <= RATIO[1] + 0.01
    assert abs(np.log(ratios).mean()) < 0.02  # as often wide as tall


def test_a_centre_crop_is_the_middle_square():
    assert centre_crop(300, 200).box == (50, 0, 250, 200)
    assert centre_crop(256, 512, 224 / 256).box == (16, 144, 240, 368)

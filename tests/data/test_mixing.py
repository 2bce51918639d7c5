"""Coefficients of mixup and CutMix: their laws, and that position and seed alone decide them."""

import math

import numpy as np
import pytest
import torch

from ipu_train.data.mixing import BOTTOM, KEPT, LEFT, MIXUP, RIGHT, TOP, MixingDraws, beta_variates, kept_area


def keys(count, epoch=0):
    return [(epoch, index) for index in range(count)]


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0])
def test_beta_variates_have_the_moments_and_tails_of_beta(alpha):
    generator = np.random.default_rng(0)
    x = beta_variates(alpha, generator.random((200_000, 32)), generator.random((200_000, 32)))
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)), fourth central moment from its kurtosis
    variance = 1 / (4 * (2 * alpha + 1))
    excess = -6 / (2 * alpha + 3)
    assert x.mean() == pytest.approx(0.5, abs=0.005)
    assert x.var() == pytest.approx(variance, rel=0.01)
    assert ((x - x.mean()) ** 4).mean() == pytest.approx((3 + excess) * variance**2, rel=0.02)


def test_mixup_keeps_at_least_half_of_the_image_itself():
    drawn = MixingDraws(1, 8, 32, mixup_alpha=0.2, cutmix_lambda=1)(keys(4096))
    share = drawn[:, MIXUP]
    assert share.min() >= 0.5
    assert share.max() <= 1
    # E max(b, 1 - b) = 1/2 + E|b - 1/2|; for Beta(a, a) the latter is 4^-a / (a B(a, a))
    beta = math.gamma(0.2) ** 2 / math.gamma(0.4)
    assert share.mean().item() == pytest.approx(0.5 + 4**-0.2 / (0.2 * beta), abs=0.01)
    assert torch.equal(drawn[:, KEPT], torch.ones(4096))


def test_cutmix_leaves_micro_batches_alone_as_often_as_the_public_code_says():
    generator = np.random.default_rng(0)
    u, v = generator.random(100_000), generator.random(100_000)
    for given in (0.95, 0.9, 0.8):
        kept = kept_area(given, u, v)
        assert (kept == 1).mean() == pytest.approx(min(1, 1.55 * given - 0.96), abs=0.01)
        cut = kept[kept < 1]
        # 1 + ln(U) / 4 with U uniform in [e^-4, 1]: mean 1 + (4 e^-4 / (1 - e^-4) - 1) / 4
        low = math.exp(-4)
        assert cut.mean() == pytest.approx(1 + (4 * low / (1 - low) - 1) / 4, abs=0.005)


def test_one_box_for_a_micro_batch_inside_the_image_and_of_the_area_it_says():
    side, size = 32, 8
    drawn = MixingDraws(1, size, side, mixup_alpha=0, cutmix_lambda=0.7)(keys(400 * size))
    by_micro_batch = drawn.reshape(400, size, -1)
    assert torch.equal(by_micro_batch, by_micro_batch[:, :1].expand_as(by_micro_batch))
    rows = by_micro_batch[:, 0].double()
    assert rows[:, [TOP, LEFT]].min() >= 0
    assert rows[:, [BOTTOM, RIGHT]].max() <= side
    area = (rows[:, BOTTOM] - rows[:, TOP]) * (rows[:, RIGHT] - rows[:, LEFT])
    torch.testing.assert_close(1 - area / side**2, rows[:, KEPT], rtol=0, atol=1e-6)
    assert len(rows[:, TOP].unique()) > 10


def test_draws_are_a_function_of_seed_epoch_and_position():
    draws = MixingDraws(5, 4, 16, mixup_alpha=0.3, cutmix_lambda=0.8)
    whole = draws(keys(64))
    assert torch.equal(torch.cat([draws(keys(64)[at : at + 16]) for at in range(0, 64, 16)]), whole)
    assert not torch.equal(draws(keys(64, epoch=1)), whole)
    assert not torch.equal(MixingDraws(6, 4, 16, 0.3, 0.8)(keys(64)), whole)

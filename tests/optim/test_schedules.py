"""Schedules against torch's own schedulers and against values worked out by hand."""

import pytest
import torch

from ipu_train.config import section
from ipu_train.optim import base_learning_rate, learning_rate, loss_scaling

STEPS, EPOCHS = 7, 6


def rates(base=0.8, **keys):
    schedule = section("schedule", **keys)
    return [learning_rate(schedule, base, step, STEPS, EPOCHS) for step in range(STEPS * EPOCHS)]


def torchs(scheduler, base=0.8, steps=STEPS * EPOCHS, **keys):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    schedule = scheduler(optimizer, **keys)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return result


@pytest.mark.parametrize("final", [0.0, 0.05])
def test_cosine_is_torchs_cosine_annealing(final):
    expected = torchs(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=STEPS * EPOCHS, eta_min=final)
    assert rates(name="cosine", final_learning_rate=final) == pytest.approx(expected, rel=1e-12)


def test_cosine_begins_after_the_warm_up():
    got = rates(name="cosine", warmup_epochs=2)
    assert got[:14] == pytest.approx([0.8 * (i + 1) / 14 for i in range(14)])
    expected = torchs(torch.optim.lr_scheduler.CosineAnnealingLR, steps=28, T_max=28)
    assert got[14:] == pytest.approx(expected, rel=1e-12)


def test_smooth_exponential_is_torchs():
    gamma = 0.5 ** (1 / (1.5 * STEPS))
    expected = torchs(torch.optim.lr_scheduler.ExponentialLR, gamma=gamma)
    got = rates(name="exponential", factor=0.5, decay_epochs=1.5, staircase=False)
    assert got == pytest.approx(expected, rel=1e-12)


def test_exponential_drops_in_steps():
    expected = torchs(torch.optim.lr_scheduler.StepLR, step_size=2 * STEPS, gamma=0.9)
    assert rates(name="exponential", factor=0.9, decay_epochs=2) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("milestones", [[3, 5], [0.5, 5 / 6]])
def test_milestones_are_epochs_or_fractions_of_the_run(milestones):
    expected = torchs(torch.optim.lr_scheduler.MultiStepLR, milestones=[21, 35], gamma=0.1)
    assert rates(name="step", milestones=milestones, factor=0.1) == pytest.approx(expected, rel=1e-12)


def test_graphcores_efficientnet_drops_146_times_in_350_epochs():
    """Masters et al. 2021: x 0.97 every 2.397 epochs; the 146th drop would fall on the end of the run."""
    schedule = section("schedule", name="exponential", factor=0.97, decay_epochs=350 / 146, warmup_epochs=5)
    last = learning_rate(schedule, 1.0, 1668 * 350 - 1, 1668, 350)
    assert last == pytest.approx(0.97**145)
    assert len({learning_rate(schedule, 1.0, s, 100, 350) for s in range(500, 35000)}) == 146 - 2


def test_warm_up_multiplies_every_schedule():
    assert rates(name="constant", warmup_epochs=1)[:8] == pytest.approx(
        [0.8 * i / 7 for i in range(1, 8)] + [0.8]
    )
    got, plain = rates(name="step", warmup_epochs=4), rates(name="step")
    assert got[20] == pytest.approx(plain[20] * 21 / 28)
    assert got[28:] == plain[28:]


def test_constant_is_constant():
    assert set(rates(name="constant")) == {0.8}


def test_the_learning_rate_scales_linearly_with_the_batch():
    config = section("optimizer", learning_rate=0.1, learning_rate_batch_size=256)
    assert base_learning_rate(config, 1024) == pytest.approx(0.4)
    assert base_learning_rate(config, 64) == pytest.approx(0.025)
    assert base_learning_rate(section("optimizer", learning_rate=0.1), 1024) == 0.1


def test_loss_scaling_is_multiplied_after_its_epochs():
    config = section("optimizer", loss_scaling=128.0, loss_scaling_epochs=[1, 2.5], loss_scaling_factor=2.0)
    found = [loss_scaling(config, step, steps_per_epoch=4) for step in range(12)]
    assert found == [128.0] * 4 + [256.0] * 6 + [512.0] * 2
    assert loss_scaling(section("optimizer", loss_scaling=8.0), 10**6, 4) == 8.0

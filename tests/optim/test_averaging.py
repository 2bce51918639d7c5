"""Averages of weights against float64 sums."""

import pytest
import torch

from ipu_train.config import section
from ipu_train.optim import WeightAverage, average_states, build_average


def states(n=7, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [
        {"w": torch.randn(4, 3, generator=generator).to(dtype), "norm.count": torch.tensor(10 * i)}
        for i in range(n)
    ]


def test_the_mean_is_the_mean():
    given = states()
    expected = torch.stack([s["w"].double() for s in given]).mean(0)
    assert torch.allclose(average_states(given, "mean")["w"].double(), expected, atol=1e-6)


@pytest.mark.parametrize("decay", [0.5, 0.97])
def test_the_exponential_average_weighs_the_past_by_powers_of_the_decay(decay):
    given = states()
    n = len(given)
    shares = [decay ** (n - 1)] + [(1 - decay) * decay ** (n - 1 - i) for i in range(1, n)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * s["w"].double() for share, s in zip(shares, given))
    assert torch.allclose(average_states(given, "exponential", decay)["w"].double(), expected, atol=1e-6)


def test_one_state_is_its_own_average():
    given = states(1)
    assert torch.equal(average_states(given, "exponential", 0.9)["w"], given[0]["w"])


def test_counters_come_from_the_newest_state():
    assert average_states(states(), "mean")["norm.count"] == 60


def test_half_precision_weights_are_averaged_in_single_precision():
    given = [{"w": torch.full((1,), 1.0 + (i % 2) * 2**-10, dtype=torch.float16)} for i in range(2000)]
    average = WeightAverage("mean")
    for state in given:
        average.update(state)
    assert average.weights()["w"].dtype == torch.float16
    assert float(average.average["w"]) == pytest.approx(1 + 2**-11, abs=2e-6)


def test_the_average_keeps_no_hold_on_the_weights():
    state = {"w": torch.ones(2)}
    average = WeightAverage("mean")
    average.update(state)
    state["w"].zero_()
    assert average.weights()["w"].tolist() == [1, 1]


@pytest.mark.parametrize("kind, decay", [("mean", None), ("exponential", 0.8)])
def test_an_average_goes_on_from_its_saved_state_bit_for_bit(kind, decay):
    given = states()
    whole, first, second = (WeightAverage(kind, decay) for _ in range(3))
    for state in given:
        whole.update(state)
    for state in given[:3]:
        first.update(state)
    second.load_state_dict(first.state_dict())
    for state in given[3:]:
        second.update(state)
    assert second.count == 7
    assert torch.equal(second.weights()["w"], whole.weights()["w"])


def test_states_must_fit_each_other():
    average = WeightAverage("mean")
    average.update({"a": torch.zeros(2)})
    with pytest.raises(ValueError, match="different names, such as"):
        average.update({"b": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"a has shape \(3,\) in one state and \(2,\)"):
        average.update({"a": torch.zeros(3)})


def test_wrong_kinds_and_decays_are_refused():
    with pytest.raises(ValueError, match="exponential or mean"):
        WeightAverage("median")
    with pytest.raises(ValueError, match="decay between 0 and 1"):
        WeightAverage("exponential")
    with pytest.raises(ValueError, match="nothing has entered"):
        WeightAverage("mean").weights()


def test_the_configuration_chooses():
    assert build_average(section("averaging")) is None
    chosen = build_average(section("averaging", name="exponential"))
    assert (chosen.kind, chosen.decay) == ("exponential", 0.97)

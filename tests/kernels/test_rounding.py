"""Rounding to float16's values in one pass, against numpy's float16, against torch's operations, and unbiased."""

import numpy
import pytest
import torch

from ipu_train.emulator.capture import rounding as emulated
from ipu_train.kernels import rounding

pytestmark = pytest.mark.skipif(not rounding.serves(torch.zeros(1)), reason="no C++ compiler")


def every_half_and_between():
    """All float16 values as float32, the middles of neighbours, what is next to the middles, and beyond."""
    halves = numpy.arange(65536, dtype=numpy.uint16).view(numpy.float16).astype(numpy.float32)
    with numpy.errstate(all="ignore"):
        middles = (halves[:-1] + halves[1:]) / 2
        found = [
            halves,
            middles,
            numpy.nextafter(middles, numpy.float32(1e9)),
            numpy.nextafter(middles, -halves[1]),
        ]
    found.append(
        numpy.float32([1e-30, -1e-30, 65519.996, 65520.0, -65520.0, 1e30, 2.0**-25, -(2.0**-25), 1e-45])
    )
    return torch.from_numpy(numpy.concatenate(found).astype(numpy.float32))


def noise_for(x, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**15), 2**15, (x.numel(),), generator=generator, dtype=torch.int16)


def same_bits(a, b):
    known = ~torch.isnan(b)
    return torch.equal(torch.isnan(a), ~known) and torch.equal(
        a.view(torch.int32)[known], b.view(torch.int32)[known]
    )


def test_to_nearest_is_numpys_float16():
    x = every_half_and_between()
    with numpy.errstate(over="ignore"):
        expected = torch.from_numpy(x.numpy().astype(numpy.float16).astype(numpy.float32))
    assert same_bits(rounding.round_to_half(x, torch.empty_like(x)), expected)
    assert same_bits(rounding.round_to_half(x, x), expected)  # where it lies


@pytest.mark.parametrize("denormals_are_fast", [True, False])
def test_stochastically_is_what_torchs_operations_give(denormals_are_fast, monkeypatch):
    monkeypatch.setattr(emulated, "_denormals_are_fast", lambda device: denormals_are_fast)
    x = every_half_and_between()
    noise = noise_for(x)
    expected = emulated.round_stochastic_(x.clone(), noise.to(torch.int32) & 8191)
    found = rounding.round_to_half(x, torch.empty_like(x), noise)
    assert torch.equal(torch.isnan(found), torch.isnan(expected))
    assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))


@pytest.mark.parametrize("value", [1.0003, -2.3456789, 1e-5 / 3, -3.3e-8, 1000.3])
def test_stochastically_is_unbiased_over_all_noise(value):
    """The mean over each of the 8,192 noises is the value, up to what the noise's own step leaves."""
    x = torch.full((8192,), value)
    rounded = rounding.round_to_half(x, torch.empty_like(x), torch.arange(8192, dtype=torch.int16)).double()
    spacing = (rounded.max() - rounded.min()).item()
    assert spacing > 0
    assert abs(rounded.mean().item() - x[0].double().item()) <= spacing / 8192 * 1.001


def test_any_length_and_any_number_of_threads_give_the_same():
    threads = torch.get_num_threads()
    x = torch.randn(100_003, generator=torch.Generator().manual_seed(1))
    try:
        torch.set_num_threads(1)
        expected = rounding.round_to_half(x, torch.empty_like(x), noise_for(x))
        torch.set_num_threads(3)
        assert torch.equal(rounding.round_to_half(x, torch.empty_like(x), noise_for(x)), expected)
    finally:
        torch.set_num_threads(threads)
    for length in (0, 1, 7, 9):
        part = x[:length].clone()
        assert torch.equal(rounding.round_to_half(part, part, noise_for(x)[:length]), expected[:length])


def test_autograd_notices_that_a_value_was_rounded_where_it_lies():
    weight = torch.randn(4, requires_grad=True)
    squared = (weight * 1.0).square()
    kept = weight * 1.0
    product = kept * kept
    rounding.round_to_half(kept, kept)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()
    squared.sum().backward()


def test_what_is_not_plain_memory_is_left_to_torch():
    x = torch.randn(4, 4)
    assert rounding.serves(x) and rounding.serves(torch.nn.Parameter(x))
    for other in (x.t(), x.double(), x.half(), x.to("meta"), x[:, 1]):
        assert not rounding.serves(other)
    assert torch.equal(emulated.round_nearest(x.t()), x.t().half().float())


def test_without_a_compiler_the_same_is_done_more_slowly(monkeypatch):
    x = every_half_and_between().nan_to_num(3.0)

    def rounded():
        noise = emulated.Noise()
        noise.manual_seed(3)
        stochastic, nearest = emulated.Rounding(noise), emulated.Rounding()
        return [one(x) for one in (stochastic.values, stochastic.values, nearest.values)] + [
            stochastic.values_(x.clone()), nearest.values_(x.clone())]  # fmt: skip

    with_kernel = rounded()
    monkeypatch.setattr(rounding, "serves", lambda x: False)
    for a, b in zip(with_kernel, rounded()):
        assert torch.equal(a, b)

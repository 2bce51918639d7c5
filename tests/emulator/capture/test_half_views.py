"""Writes into float16 tensors and views of them: every value is what plain torch has in float16.

Results are read as float32, so that a value that was stored without being rounded shows; numbers that are
added or multiplied by are float16's, as torch rounds others to it first. A fresh slice is taken for every write, as
PopTorch carries only the first write to a slice over to what it was cut from.
"""

import pytest
import torch
import torch.nn.functional as F

from ipu_train import emulator as poptorch

ENLARGED = 1000.0


class Program(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def run(function, x):
    return poptorch.inferenceModel(Program(function))(x)


def enlarged(x):
    return x.float() * ENLARGED


def a_view_that_is_written_to_twice(x):
    v = (x * 1)[0]
    v += 1
    v += 1
    v += 0.125
    return enlarged(v)


def what_was_sliced(x):
    y = x * 1
    v = y[0]
    v += 0.125
    return enlarged(y)


def fresh_slices(x):
    y = x * 1
    y[0] += 0.125
    y[0] += 0.125
    y[0:2] *= 3
    y[1].div_(7)
    return enlarged(y)


def slices_of_slices(x):
    y = x * 1
    y[0:3][1][1:3] += 0.125
    y[0:3][1][1:3] *= 1.75
    y[1:].narrow(0, 0, 2).select(1, 2).sub_(0.375)
    return enlarged(y)


def a_chain_of_views(x):
    v = (x * 1).view(2, 8).transpose(0, 1).reshape(8, 2)[2:5]
    v *= 0.75
    v += 0.125
    v.sigmoid_()
    v -= 0.375
    return enlarged(v)


def a_view_of_a_whole(x):
    flat = (x * 1).view(-1)
    flat += 0.125
    flat /= 3
    flat[2:5] += 0.125
    return enlarged(flat)


def two_views_of_one_tensor(x):
    y = x * 1
    first, second = y[0:2], y[2:4]
    first += 0.125
    second *= 1.25
    both = enlarged(y)
    first *= second
    return both, enlarged(first), enlarged(second)


def columns(x):
    y = x * 1
    y[:, 1] += 0.125  # not contiguous
    y[:, 1] *= 3
    return enlarged(y)


def in_a_loop_of_python(x):
    y = x * 1
    for i in range(4):
        for _ in range(3):
            y[i] += 0.125 * (i + 1)
    return enlarged(y)


def by_functions_with_inplace(x):
    y = x * 1
    F.silu(y[0], inplace=True)
    F.leaky_relu(y[1], 0.375, inplace=True)
    torch.exp_(y[2])
    return enlarged(y)


def assigned_numbers(x):
    y = x * 1
    y[0] = 0.1
    y[1:3, 0] = 1 / 3
    return enlarged(y)


def assigned_float32(x):
    y = x * 1
    y[0] = x[1].float() / 3
    y[1:2].copy_(x[2:3].float() / 3)
    return enlarged(y)


def filled(x):
    y = x * 1
    y[0].fill_(0.1)
    y[1].masked_fill_(x[1] > 0, 0.1)
    y[2] = y[2].masked_fill(x[2] > 0, 0.3)
    return enlarged(y), enlarged(F.pad(x * 1, (1, 1), value=0.1))


def a_threshold(x):
    return enlarged(F.threshold(x * 1, 0.3, 0.1)), enlarged(F.hardtanh(x * 1, -0.1, 0.1))


PROGRAMS = [
    a_view_that_is_written_to_twice,
    what_was_sliced,
    fresh_slices,
    slices_of_slices,
    a_chain_of_views,
    a_view_of_a_whole,
    two_views_of_one_tensor,
    columns,
    in_a_loop_of_python,
    by_functions_with_inplace,
    assigned_numbers,
    assigned_float32,
    filled,
    a_threshold,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_writes_give_what_torch_gives_in_float16(program):
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(3)).half()
    try:
        expected = program(x.clone())
    except RuntimeError as error:
        if "not implemented for 'Half'" not in str(error):
            raise
        pytest.skip(f"this version of torch: {error}")
    found = run(program, x.clone())
    for one, other in zip(*[r if isinstance(r, tuple) else (r,) for r in (found, expected)]):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(
    "second", [lambda v: v.add_(1), lambda v: v[0:2].add_(1)], ids=["itself", "a slice of it"]
)
def test_a_second_write_to_a_slice_reaches_it_alone(dtype, second):
    def reads_the_slice(x):
        y = x * 1
        v = y[0]
        v += 1
        second(v)
        return v

    def reads_what_was_sliced(x):
        y = x * 1
        v = y[0]
        v += 1
        second(v)
        return y

    x = torch.zeros(4, 4, dtype=dtype)
    assert torch.equal(run(reads_the_slice, x.clone()), reads_the_slice(x.clone()))
    with pytest.raises(poptorch.Error, match="of a slice only the first one"):
        run(reads_what_was_sliced, x)


def test_writes_inside_a_loop_on_the_device():
    def body(x):
        x[0] += 0.125
        v = x[1:3]
        v *= 0.75
        x[3:4] = 0.1
        return x

    x = torch.rand(4, 4).half()
    found = run(lambda x: enlarged(poptorch.for_loop(5, body, [x])[0]), x.clone())
    expected = x.clone()
    for _ in range(5):
        expected = body(expected)
    assert torch.equal(found, enlarged(expected))


def test_what_a_write_rounds_is_kept_where_only_the_whole_is_read():
    """The rounding of a slice is no dead code, though nothing reads the slice."""

    def program(x):
        y = x * 1
        y[0].mul_(0.875)
        return enlarged(y[0:2] + y[0:2])

    x = torch.rand(4, 4).half()
    assert torch.equal(run(program, x.clone()), program(x.clone()))


class Buffer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.ones(2, 3).half())

    def forward(self, x):
        self.total[0] += 0.375
        self.total[0] *= 3 / 128
        return self.total.float() * x


def test_slices_of_a_float16_buffer():
    model, plain = Buffer(), Buffer()
    executor = poptorch.inferenceModel(model)
    for _ in range(3):
        found, expected = executor(torch.tensor(ENLARGED)), plain(torch.tensor(ENLARGED))
        assert torch.equal(found, expected)
    executor.copyWeightsToHost()
    assert torch.equal(model.total, plain.total)


class Written(torch.nn.Module):
    def __init__(self, write):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.linspace(0.5, 1.5, 4))
        self.write = write

    def forward(self, x):
        y = x * self.scale.to(x.dtype)
        self.write(y)
        return y, poptorch.identity_loss((y.float() ** 2).sum(), "none")


@pytest.mark.parametrize(
    "write",
    [
        lambda y: y[0].mul_(0.7),
        lambda y: y[0].sigmoid_(),
        lambda y: y[0:2][1].exp_(),
        lambda y: y[0].add_(y[1]),
        lambda y: (y[0:1].add_(y[1:2]), y[0].mul_(1.25)),
        lambda y: F.silu(y[1], inplace=True),
    ],
    ids=["mul", "sigmoid", "exp", "add", "add and mul", "silu"],
)
def test_gradients_through_writes_are_those_of_float64(write):
    torch.manual_seed(0)
    x = torch.randn(3, 4).half()
    model = Written(write)
    truth = Written(write).double()
    before = model.scale.detach().clone()
    executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=1.0))
    y, _ = executor(x)
    truth(x.double())[1].sum().backward()
    gradient = before - model.scale.detach()
    assert y.dtype == torch.float16
    torch.testing.assert_close(gradient.double(), truth.scale.grad, rtol=5e-3, atol=5e-3)

"""What public PopTorch programs write, and what came to nothing here: values are those of plain torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch


class Program(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


def run(function, *tensors):
    return poptorch.inferenceModel(Program(function))(*tensors)


class Settings(dict):
    """The dict with attributes of many public programs: asked for any attribute, it has one."""

    __getattr__ = dict.get


class ReadOnly(dict):
    def __setitem__(self, key, value):
        raise TypeError("read-only")


@pytest.mark.parametrize("kind", [Settings, ReadOnly])
def test_a_module_may_hold_dicts_that_cannot_be_copied(kind):
    class Configured(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = kind(scale=torch.full((2,), 3.0), depth=2)

        def forward(self, x):
            return x * self.config["scale"] * self.config["depth"]

    assert poptorch.inferenceModel(Configured())(torch.ones(2)).tolist() == [6.0, 6.0]


def in_a_view(x):
    y = x.view(3, 4)
    y.transpose_(0, 1)
    return y * 2


def in_a_result(x):
    y = x.view(3, 4) * 1
    y.t_()
    return y @ y.t()


def without_a_dimension(x):
    y = x.view(1, 12)
    y.squeeze_(0)
    return y * 2


def with_one_more(x):
    y = x.view(1, 12)
    y.unsqueeze_(0)
    return y * 2


IN_PLACE = [in_a_view, in_a_result, without_a_dimension, with_one_more]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("change", IN_PLACE)
def test_shapes_changed_in_place(change, dtype):
    class Trained(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=dtype))

        def forward(self, x):
            result = change(x * self.scale)
            return result, poptorch.identity_loss(result.float().mean(), "none")

    x = torch.arange(12.0).to(dtype)
    expected = change(x.float().clone())
    assert torch.equal(run(change, x).float(), expected)
    model = Trained()
    out, _ = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=0.0))(x)
    assert out.dtype == dtype and torch.equal(out.float(), expected)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x.reshape(2, torch.div(12, 2, rounding_mode="trunc")),
        lambda x: x.view(int(torch.div(12, 4, rounding_mode="floor")), -1),
        lambda x: x[: torch.div(4, 2, rounding_mode="floor") + 1],
        lambda x: x.repeat(torch.div(x.shape[0], 6, rounding_mode="floor") * 2, 1),
        lambda x: torch.zeros(torch.add(10, 2)) + x,
        lambda x: x * torch.tensor(3, device="cpu").repeat(2).sum().item(),
        lambda x: x * (torch.full((2,), torch.tensor(True, device="cpu")).dtype == torch.bool),
        lambda x: x * x.new_full((12,), torch.tensor(2, device="cpu")),
    ],
    ids=["size", "int", "slice", "repeat", "zeros", "on the CPU", "flag", "fill"],
)
def test_sizes_that_torch_computes_from_numbers(program):
    x = torch.arange(12.0)
    assert torch.equal(run(program, x), program(x))


class Activated(nn.Module):
    """In place after an activation whose gradient needs its result, as plain torch refuses and PopTorch does not."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1.0, 1.0, 12).reshape(3, 4))
        self.function = function

    def forward(self, x):
        return poptorch.identity_loss(self.function(x * self.weight.to(x.dtype)).float().sum(), "none")


def added(x):
    y = torch.relu(x)
    y += 1.0
    return y * y


def scaled(x):
    y = torch.sigmoid(x)
    y[1:].mul_(2.0)
    return y


def dropped(x):
    return F.dropout(torch.tanh(x), 0.5, True, True)


def selected(x):
    y = torch.exp(x)
    y *= (x > 0).int()
    return y * y


def nothing_dropped(x):
    return F.dropout(torch.relu(x).view(12), 0.0, True) * 2


OUT_OF_PLACE = {
    added: lambda x: (torch.relu(x) + 1.0) ** 2,
    scaled: lambda x: torch.sigmoid(x) * torch.tensor([[1.0], [2.0], [2.0]]),
    selected: lambda x: (torch.exp(x) * (x > 0)) ** 2,
    nothing_dropped: lambda x: torch.relu(x) * 2,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("function", OUT_OF_PLACE)
def test_a_gradient_needs_what_was_changed_in_place(function, dtype):
    x = torch.linspace(-2.0, 2.0, 12).reshape(3, 4).to(dtype)
    model = Activated(function)
    before = model.weight.detach().double().requires_grad_()
    OUT_OF_PLACE[function](x.double() * before).sum().backward()
    executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=1.0))
    executor(x)
    gradient = before.detach() - model.weight.detach().double()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(gradient, before.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_dropout_in_place_after_an_activation(dtype):
    model = Activated(dropped)
    before = model.weight.detach().clone()
    x = torch.ones(3, 4, dtype=dtype)
    executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=1.0))
    executor(x)
    gradient = before - model.weight.detach()
    whole = 2.0 * (1 - torch.tanh(before) ** 2)  # of the half that is kept
    kept = gradient.abs() > 1e-3
    assert 0 < kept.sum() < 12
    torch.testing.assert_close(gradient[kept], whole[kept], rtol=1e-2, atol=1e-2)


ORDER = torch.tensor([2, 0, 1, 3])


@pytest.mark.parametrize(
    "program",
    [
        lambda i: torch.gather(i, 0, torch.arange(4, dtype=i.dtype)),
        lambda i: torch.zeros(4, dtype=i.dtype).scatter_(0, i, i),
        lambda i: torch.zeros(4, dtype=torch.long).scatter_add_(0, i, torch.ones(4, dtype=i.dtype)),
        lambda i: torch.zeros(4, dtype=i.dtype).index_put_((i,), i),
        lambda i: F.one_hot(torch.arange(4, dtype=i.dtype), 4),
        lambda i: torch.gather(i, 0, (i.float() / 2).round().to(i.dtype)),
    ],
    ids=["gather", "scatter", "scatter_add", "index_put", "one_hot", "cast"],
)
def test_integers_of_the_dtype_of_an_input_are_indices(program):
    """Whatever integers a program asks for, the device has int32."""
    expected = program(ORDER)
    for dtype in (torch.int64, torch.int32):
        found = run(program, ORDER.to(dtype))
        assert found.dtype == torch.int32
        assert torch.equal(found.long(), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_long_is_a_cast_on_the_device_and_int_is_none(dtype):
    def program(i):
        long, named = i.long(), i.to(torch.int64)
        long += 1
        named += 2
        return i, long, named

    unchanged, long, named = run(program, ORDER.to(dtype))
    assert torch.equal(unchanged.long(), ORDER)
    assert torch.equal(long.long(), ORDER + 1) and torch.equal(named.long(), ORDER + 2)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_buckets_can_be_written_into_a_tensor_of_the_program(dtype):
    def function(x, out):
        boundaries = torch.tensor([1.0, 5.0, 7.0])
        return torch.bucketize(x, boundaries, out_int32=dtype == torch.int32, out=out)

    found = run(function, torch.tensor([2.0, 5.0, 10.0]), torch.zeros(3, dtype=dtype))
    assert found.tolist() == [1, 1, 3]


def test_flags_of_a_custom_operator_are_integers():
    seen = []

    def implementation(inputs, attributes):
        seen.append(attributes)
        return inputs

    poptorch.registerCustomOp("test.domain", "Flagged", implementation)
    try:
        run(
            lambda x: poptorch.custom_op(
                [x], "Flagged", "test.domain", 1, [x], attributes={"on": True, "off": [False]}
            )[0],
            torch.ones(2),
        )
    finally:
        poptorch.registerCustomOp("test.domain", "Flagged", None)
    assert seen[-1] == {"on": 1, "off": [0]}


def stacked_numbers(x):
    rates = torch.linspace(0.0, 1.0, 3)
    return x * torch.tensor([rates[1], rates[2]])


def test_numbers_become_a_tensor_in_a_forward_and_after_it():
    """Indexing is recorded by methods of Tensor's own up to torch 2.0, for which Python took tensors for sequences."""
    x = torch.tensor([2.0, 3.0])
    assert run(stacked_numbers, x).tolist() == [1.0, 3.0]
    assert torch.tensor([x.sum(), nn.Parameter(x[1])]).tolist() == [5.0, 3.0]


@pytest.mark.parametrize(
    "padding",
    [
        lambda x: torch.as_tensor(2.0, device=x.device),
        lambda x: torch.as_tensor(2, dtype=x.dtype, device=x.device).repeat([2, 3]),
        lambda x: torch.as_tensor([1.0, 2.0, 3.0], dtype=x.dtype, device=x.device),
        lambda x: torch.as_tensor(True, device=x.device),
        lambda x: torch.asarray([1.0, 2.0, 3.0], device=x.device),
        lambda x: torch.asarray(obj=2, dtype=x.dtype, device=x.device),
    ],
    ids=["number", "repeated", "list", "bool", "another function", "keywords"],
)
def test_numbers_become_a_tensor_where_the_input_is(padding):
    """As PyTorch Geometric's to_dense_batch pads."""
    x = torch.rand(2, 3)
    assert torch.equal(run(lambda x: padding(x) + x, x), padding(x) + x)
    half = run(lambda x: torch.as_tensor([1.0, 2.0], dtype=torch.half, device=x.device), x)
    assert half.dtype == torch.half and half.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("function", [torch.as_tensor, torch.asarray])
def test_numbers_stay_on_the_host_where_no_device_is_named(function):
    with pytest.raises(poptorch.Error, match="Expected an IPU tensor"):
        run(lambda x: function([1.0, 2.0, 3.0]) + x, torch.rand(3))

"""Containers that forward returns come back with the tensors of the call, not with those of compilation."""

import dataclasses

import pytest
import torch

from ipu_train import emulator as poptorch

from ..networks import FromFunction


class Pair:
    def __init__(self, first, second):
        self.first, self.second = first, second


class PairParser(poptorch.ICustomArgParser):
    def yieldTensors(self, struct):
        yield struct.first
        yield struct.second

    def reconstruct(self, original_structure, tensor_iterator):
        return Pair(next(tensor_iterator), next(tensor_iterator))


class Slotted:
    __slots__ = ("first",)

    def __init__(self, first):
        self.first = first


class SlottedFurther(Slotted):
    __slots__ = ("note",)


@dataclasses.dataclass
class Deep:
    parts: dict


class Boxes(list):
    pass


class Row(tuple):
    pass


@pytest.fixture
def registered():
    poptorch.registerCustomArgParser(Pair, PairParser())
    yield
    poptorch.registerCustomArgParser(Pair, None)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("iterations", [1, 2])
def test_registered_containers_are_rebuilt_in_each_call(iterations):
    opts = poptorch.Options().deviceIterations(iterations)
    model = poptorch.inferenceModel(FromFunction(lambda x: [Pair(x + 1, x * 2), x]), opts)
    for start in (0.0, 10.0):
        x = torch.arange(start, start + iterations)
        pair, same = model(x)
        assert type(pair) is Pair
        assert torch.equal(pair.first, x + 1) and torch.equal(pair.second, x * 2) and torch.equal(same, x)


def test_other_containers_are_refused():
    with pytest.raises(poptorch.Error, match="Pair.*registerCustomArgParser"):
        poptorch.inferenceModel(FromFunction(lambda x: Pair(x, x)))(torch.ones(1))


@pytest.mark.parametrize(
    "make",
    [
        Slotted, SlottedFurther, lambda x: Deep({"a": [1, (x, 2)]}), lambda x: Pair(None, Pair({"b": Slotted(x)}, 1)),
        lambda x: {x}, lambda x: [1, {"a": Deep({"a": x})}],
    ],
)  # fmt: skip
def test_containers_that_hold_tensors_deep_inside_are_refused(make):
    with pytest.raises(poptorch.Error, match="holds tensors that cannot be found.*registerCustomArgParser"):
        poptorch.inferenceModel(FromFunction(lambda x: (x, make(x))))(torch.ones(1))


def test_objects_without_tensors_come_back_as_they_are():
    ring = Pair("text", 3)
    ring.second = ring
    _, same = poptorch.inferenceModel(FromFunction(lambda x: (x, ring)))(torch.ones(1))
    assert same is ring


@pytest.mark.parametrize("kind", [Boxes, Row])
def test_kinds_of_lists_and_tuples_stay_what_they_are(kind):
    model = poptorch.inferenceModel(FromFunction(lambda x: kind([x + 1, kind([x]), {"a": kind([x])}])))
    for value in (1.0, 2.0):
        result = model(torch.tensor([value]))
        assert type(result) is kind and type(result[1]) is kind and type(result[2]["a"]) is kind
        assert [result[0].item(), result[1][0].item(), result[2]["a"][0].item()] == [value + 1, value, value]


def test_integers_that_int32_cannot_hold_are_others_on_the_device():
    """PopTorch takes int64 arguments as int32, which leaves their lower 32 bits."""
    x = torch.tensor([2**31, 2**40 + 3, -(2**31) - 1])
    same, positive = poptorch.inferenceModel(FromFunction(lambda t: (t * 1, t > 0)))(x)
    expected = x.to(torch.int32)
    assert torch.equal(same, expected)
    assert torch.equal(positive, expected > 0)

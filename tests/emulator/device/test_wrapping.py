"""Wrapper classes of a module in training, of its parameters and its buffers: who has them, and until when.

Each sequence was run over PopTorch 3.4's own Python sources (``_poplar_executor.py``, ``_impl.py``) with a stand-in for
its compiled core.
"""

import copy
import gc
import pickle

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import Convolutional, WithLoss, images
from .test_weights import count_copies


def test_the_wrapped_class_keeps_its_kind_and_its_name(trained):
    model, executor, _ = trained
    assert isinstance(model, Convolutional)
    assert type(model).__name__ == "PoptorchConvolutional"
    executor.destroy()
    assert type(model) is Convolutional


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copies_of_a_wrapped_module_are_plain_modules(trained, clone):
    model, _, _ = trained
    other = clone(model)
    assert type(other) is Convolutional
    assert type(other.conv.weight) is nn.Parameter
    assert list(other.state_dict()) == list(model.state_dict())
    for a, b in zip(other.state_dict().values(), model.state_dict().values()):
        assert type(b) is torch.Tensor
        assert torch.equal(a, b)


def test_buffers_must_be_plain_tensors():
    class Strange(torch.Tensor):
        pass

    model = nn.Linear(1, 1)
    model.register_buffer("odd", torch.zeros(1).as_subclass(Strange))
    with pytest.raises(poptorch.Error, match=r"All buffers must be an instance of torch\.Tensor"):
        poptorch.trainingModel(model)


class TestModulesLeftByTheirExecutor:
    """PopTorch tells by its class that a module is wrapped, and has no ``__del__`` that would take the class off."""

    def test_one_that_was_never_compiled_stays_wrapped(self):
        model = Convolutional()
        executor = poptorch.trainingModel(model)
        del executor
        model.destroy()  # does nothing before compilation
        with pytest.raises(RuntimeError, match=r"already been wrapped.*Call model\.destroy\(\).*was dropped"):
            poptorch.trainingModel(model)
        twin = copy.deepcopy(model)
        executor = poptorch.trainingModel(twin)
        executor(*images(4))
        assert not torch.equal(twin.conv.weight, model.conv.weight)

    def test_one_trained_by_an_optimizer_of_torch_loses_what_was_not_fetched(self, caplog):
        model = Convolutional()
        executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
        executor(*images(4))
        fetched = model.conv.weight.detach().clone()
        executor(*images(4))
        assert "was dropped" not in caplog.text
        del executor
        assert caplog.text.count("was dropped") == 1
        assert torch.equal(model.conv.weight, fetched)
        model.destroy()  # there is nobody left to ask
        with pytest.raises(RuntimeError, match="already been wrapped"):
            poptorch.trainingModel(model)

    def test_an_optimizer_of_poptorch_keeps_the_executor(self, caplog):
        """Its ``state_dict`` is a method of the executor (``PoplarExecutor.setOptimizer``)."""
        model = Convolutional()
        before = model.conv.weight.detach().clone()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=0.1)
        poptorch.trainingModel(model, None, optimizer)(*images(4))
        gc.collect()
        after = model.conv.weight.detach().clone()
        assert not torch.equal(after, before)
        assert optimizer.state_dict()["ipu_param"]
        model.destroy()
        assert type(model) is Convolutional and type(model.conv.weight) is nn.Parameter
        poptorch.trainingModel(model, None, optimizer)(*images(4))
        del optimizer
        gc.collect()
        assert torch.equal(model.conv.weight, after)
        assert caplog.text.count("was dropped") == 1

    def test_fetched_weights_are_kept_without_a_word(self, caplog):
        model = Convolutional()
        executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
        executor(*images(4))
        after = executor.state_dict()
        del executor
        assert torch.equal(model.conv.weight, after["conv.weight"])
        assert not caplog.text

    def test_another_module_may_train_its_weights(self):
        model = Convolutional()
        executor = poptorch.trainingModel(model)
        del executor
        other = Convolutional()
        other.conv = model.conv
        before = model.conv.weight.detach().clone()
        executor = poptorch.trainingModel(other)
        executor(*images(4))
        assert not torch.equal(other.conv.weight, before)


def test_a_module_with_buffers_is_part_of_one_model_in_training_at_a_time():
    # PopTorch: PoplarExecutor._install_state_hooks takes no buffer that has another executor's class
    network = nn.BatchNorm1d(2)
    x, labels = torch.randn(4, 2), torch.randn(4, 2)
    first = poptorch.trainingModel(WithLoss(network))
    first(x, labels)
    with pytest.raises(
        poptorch.Error, match=r"All buffers must be an instance of torch\.Tensor.*destroy\(\)"
    ):
        poptorch.trainingModel(WithLoss(network))
    first.destroy()
    poptorch.trainingModel(WithLoss(network))(x, labels)


@pytest.mark.parametrize("validated", ["before", "after", "both"])
def test_buffers_of_a_destroyed_model_are_wrapped_again_when_it_is_compiled(validated):
    """PopTorch: ``rewrapModelIfNecessary`` of every compilation, and only ``destroy()`` unwraps."""
    model = WithLoss(nn.BatchNorm1d(2))
    x, labels = torch.randn(4, 2), torch.randn(4, 2)
    executor = poptorch.trainingModel(model)
    executor(x, labels)
    inference = poptorch.inferenceModel(model.eval())
    if validated != "after":
        inference(x, labels)
    executor.destroy()
    assert type(model.network.running_mean) is torch.Tensor
    if validated != "before":
        inference(x, labels)
    if validated == "after":
        with pytest.raises(
            poptorch.Error, match="Got PoptorchBuffer for network.running_mean.*before destroy"
        ):
            poptorch.trainingModel(model)
        fresh = WithLoss(nn.BatchNorm1d(2))
        fresh.load_state_dict(model.state_dict())
        model = fresh
    poptorch.trainingModel(model.train())(x, labels)


def test_wrapped_buffers_and_executors_cannot_be_copied():
    """Tensor.__deepcopy__ of torch 2.0 and the executor's ``__getattr__`` end both in a RuntimeError in PopTorch."""
    model = WithLoss(nn.BatchNorm1d(2))
    executor = poptorch.trainingModel(model)
    with pytest.raises(RuntimeError, match="copies no buffer"):
        copy.deepcopy(model)
    torch.testing.assert_close(pickle.loads(pickle.dumps(model)).state_dict(), model.state_dict())
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match="state_dict"):
            copied(executor)
    executor(torch.randn(4, 2), torch.randn(4, 2))
    model.destroy()
    torch.testing.assert_close(copy.deepcopy(model).state_dict(), model.state_dict())


class TestWeightsOfTwoTrainingModels:
    """The one that was made last answers for what both train: its class is the last that parameters got."""

    @pytest.fixture()
    def both(self):
        torch.manual_seed(0)
        network = WithLoss(nn.Linear(2, 2))
        x, labels = torch.randn(4, 2), torch.randn(4, 2)

        class Outer(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = network

            def forward(self, x, labels):
                return self.inner(x, labels)

        def make(model):
            executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
            executor(x, labels)
            return executor

        return network, Outer(), make

    @pytest.mark.parametrize("outer_first", [False, True])
    def test_a_parameter_asks_the_later_one(self, both, outer_first):
        network, outer, make = both
        first, last = [make(m) for m in ((outer, network) if outer_first else (network, outer))]
        calls = count_copies(first), count_copies(last)
        inputs = torch.ones(4, 2), torch.ones(4, 2)
        first(*inputs)
        last(*inputs)
        torch.equal(network.network.weight.clone(), torch.zeros(2, 2))
        assert len(calls[1]) == 1
        assert len(calls[0]) == (
            not outer_first
        )  # the way there leads through the module that it has wrapped

    def test_destroying_one_unwraps_what_both_have(self, both):
        network, outer, make = both
        first, last = make(network), make(outer)
        weight = network.network.weight
        first.destroy()
        assert type(weight) is nn.Parameter
        stale = weight.detach().clone()
        last(torch.ones(4, 2), torch.ones(4, 2))
        assert torch.equal(weight, stale)
        outer.state_dict()
        assert not torch.equal(weight, stale)

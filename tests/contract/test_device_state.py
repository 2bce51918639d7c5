"""What is on the device, what is at home, and when it moves."""

import pytest
import torch
from torch import nn

from .networks import ByHand, images, network

RATE = 0.1


@pytest.fixture()
def trained(poptorch, executors):
    """(model, executor, optimizer, the same by hand) after one training call."""
    model = network(poptorch)
    by_hand = ByHand(model, lr=RATE, momentum=0.9)
    optimizer = poptorch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    executor = executors.training(model, poptorch.Options(), optimizer)
    executor(*images(4))
    by_hand.step(*images(4))
    return model, executor, optimizer, by_hand


def test_detaching_brings_the_weights_home_and_a_call_attaches_again(trained):
    model, executor, _, by_hand = trained
    executor.detachFromDevice()
    assert not executor.isAttachedToDevice()
    assert executor.copyWeightsToHostIfNeeded() is False
    by_hand.assert_weights(model)
    executor(*images(4))
    by_hand.step(*images(4))
    assert executor.isAttachedToDevice()
    by_hand.assert_weights(model)  # momentum has survived as well


def test_weights_written_by_the_host_reach_the_device(trained, poptorch):
    model, executor, _, by_hand = trained
    executor.copyWeightsToHost()
    with torch.no_grad():
        for weights in (model, by_hand.model):
            weights.fc.bias.fill_(0.5)
    executor.copyWeightsToDevice()
    executor(*images(4))
    by_hand.step(*images(4))
    by_hand.assert_weights(model)


def test_detaching_twice_and_attaching_twice_are_errors(trained, poptorch):
    _, executor, _, _ = trained
    with pytest.raises(poptorch.Error, match="attached"):
        executor.attachToDevice()
    executor.detachFromDevice()
    with pytest.raises(poptorch.Error, match="not attached"):
        executor.detachFromDevice()


def test_optimizer_state_and_random_state_resume_a_run(trained, poptorch, executors):
    model, executor, optimizer, by_hand = trained
    executor.detachFromDevice()
    state, random_state = optimizer.state_dict(), executor.rng_state
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    executors.destroy()
    again = network(poptorch, seed=1)
    again.load_state_dict(weights)
    resumed = poptorch.optim.SGD(again.parameters(), lr=RATE, momentum=0.9)
    resumed.load_state_dict(state)
    executor = executors.training(again, poptorch.Options(), resumed)
    executor.compile(*images(4))
    executor.rng_state = random_state
    executor(*images(4))
    by_hand.step(*images(4))
    by_hand.assert_weights(again)


def test_training_and_validation_take_turns_over_the_same_weights(trained, poptorch, executors):
    model, executor, _, by_hand = trained
    x, labels = images(4, seed=1)
    executor.detachFromDevice()
    validation = executors.inference(Logits(model), poptorch.Options())
    for _ in range(2):
        got = validation(x)
        expected = by_hand.model.logits(x.double()).detach()
        torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-3)
        validation.detachFromDevice()
        executor(x, labels)
        by_hand.step(x, labels)
        executor.detachFromDevice()


class Logits(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network.logits(x)


class Coins(nn.Module):
    def forward(self, x):
        return torch.bernoulli(x * 0.5)


def test_the_seed_of_the_options_repeats_random_numbers(poptorch, executors):
    def masks(seed):
        options = poptorch.Options().randomSeed(seed)
        executor = executors.inference(Coins(), options)
        found = [executor(torch.ones(256)) for _ in range(2)]
        executors.destroy()
        return found

    first, again = masks(7), masks(7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])

"""A model that has been trained a step."""

import pytest
import torch

import ipu_train.emulator as poptorch

from ..networks import Convolutional, images


@pytest.fixture()
def trained():
    """(module, executor, weight before training) after one training call."""
    torch.manual_seed(0)
    model = Convolutional()
    before = model.conv.weight.detach().clone()
    executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=0.1))
    executor(*images(4))
    return model, executor, before

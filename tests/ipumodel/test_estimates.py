"""Costs that are known are those that would be estimated, whichever operation of the kind came first."""

import itertools

import torch

from ipu_train import models
from ipu_train.ipumodel.convolution.forms import PlanOptions
from ipu_train.ipumodel.estimates import Estimates
from ipu_train.ipumodel.estimators import estimate
from ipu_train.ipumodel.target import Target
from ipu_train.ipumodel.tracer import trace


def test_every_operation_costs_what_its_own_estimate_says():
    network = models.build("resnet8", num_classes=10, norm="group", norm_groups=4)
    target, options = Target.named("mk2"), PlanOptions(0.6)
    known = Estimates(target, options, 2)
    for batch in (1, 3):
        for op in trace(network, [torch.zeros(batch, 3, 16, 16)]).forward():
            for backward, needs_input in itertools.product((False, True), repeat=2):
                found = known.of(op, backward, needs_input)
                assert found == estimate(op, target, options, 2, backward, needs_input)
                assert known.of(op, backward, needs_input) is found

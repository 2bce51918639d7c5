"""The estimates on paper that choose an implementation for IPUs."""

import pytest
import torch

from ipu_train.kernels import build, estimates, host


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_the_fused_operators_estimate_is_about_what_its_graph_adds_up_to(activation):
    try:
        build.compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    shape, groups = (2, 64, 40, 40), 32
    kinds = [(torch.float16, shape)] + [(torch.float16, (64,))] * 4
    attributes = {"groups": groups, "activation": activation}
    report = host.Session(
        "GroupNormProxyNormAct", kinds, attributes, host.Options(1472, "grouped16")
    ).report()
    estimate = estimates.fused(estimates.Layer(2, 64, 1600, groups), activation)
    for found, program in zip(estimate, ("forward", "backward")):
        assert found == pytest.approx(report[program]["cycles"], rel=0.25)


@pytest.mark.parametrize("activation", estimates.FASTER_FUSED)
@pytest.mark.parametrize("instances", [1, 4, 16])
def test_what_is_chosen_for_ipus_is_estimated_the_fastest_of_what_can_be_had(activation, instances):
    for channels, pixels in ((64, 3136), (256, 784), (1024, 196), (2048, 49)):
        layer = estimates.Layer(instances, channels, pixels)
        assert estimates.fused(layer, activation).both < estimates.composed(layer, activation).both


@pytest.mark.parametrize("instances", [1, 2, 4, 8, 16])
def test_with_relu_the_fused_operator_costs_what_group_norm_and_relu_do(instances):
    layers = [
        estimates.Layer(instances, c, s)
        for c, s in ((64, 3136), (256, 3136), (512, 784), (1024, 196), (2048, 49))
    ]
    fused = sum(estimates.fused(layer).both for layer in layers)
    assert fused <= 1.05 * sum(estimates.popnn_group_norm(layer).both for layer in layers)

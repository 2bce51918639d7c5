"""The estimates on paper that choose an implementation for IPUs."""

import pytest
import torch

from ipu_train.kernels import build, estimates, host


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_the_fused_operators_estimate_is_about_what_its_graph_adds_up_to(activation, monkeypatch):
    """On a quarter of an IPU: as much on each tile, and a quarter of the vertices to make."""
    monkeypatch.setattr(estimates, "TILES", 368)
    try:
        build.compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    shape, groups = (2, 64, 20, 20), 32
    kinds = [(torch.float16, shape)] + [(torch.float16, (64,))] * 4
    attributes = {"groups": groups, "activation": activation}
    report = host.Session("GroupNormProxyNormAct", kinds, attributes, host.Options(368, "grouped16")).report()
    estimate = estimates.fused(estimates.Layer(2, 64, 400, groups), activation)
    for found, program in zip(estimate, ("forward", "backward")):
        assert found == pytest.approx(report[program]["cycles"], rel=0.25)


@pytest.mark.parametrize("activation", estimates.FASTER_FUSED)
@pytest.mark.parametrize("instances", [1, 4, 16])
def test_what_is_chosen_for_ipus_is_estimated_the_fastest_of_what_can_be_had(activation, instances):
    for channels, pixels in ((64, 3136), (256, 784), (1024, 196), (2048, 49)):
        layer = estimates.Layer(instances, channels, pixels)
        assert estimates.fused(layer, activation).both < estimates.composed(layer, activation).both


# Channels, pixels and groups of the stages of ResNet-50 and of EfficientNet-B0's expansions at 224 pixels.
STAGES = {
    "relu": [(c, s, 32) for c, s in ((64, 3136), (256, 3136), (512, 784), (1024, 196), (2048, 49))],
    "silu": [
        (c, s, 4) for c, s in ((32, 12544), (144, 3136), (240, 784), (480, 196), (672, 196), (1152, 49))
    ],
}


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("instances", [1, 2, 4, 8, 16])
def test_the_fused_operator_costs_what_group_norm_and_activation_do(instances, activation):
    layers = [estimates.Layer(instances, *stage) for stage in STAGES[activation]]
    fused = sum(estimates.fused(layer, activation).both for layer in layers)
    assert fused <= 1.05 * sum(estimates.popnn_group_norm(layer, activation).both for layer in layers)
    for layer in layers:
        kept = [estimates.kept_bytes(layer, activation, how) for how in ("fused", "popnn")]
        assert kept[0] <= kept[1]

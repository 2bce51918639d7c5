"""What the section model of a configuration makes of a network."""

from pathlib import Path

import pytest
from torch import nn

from ipu_train import config
from ipu_train.models.proxy_norm import ProxyNorm
from ipu_train.network import build_network


def network(*overrides, classes=10):
    text = "model: {name: resnet8v2}\ndata: {name: digits}\n"
    return build_network(config.load_text(text, Path("x.yaml"), overrides), classes, channels=1)


def of_kind(found, kind):
    modules = [module for module in found.modules() if isinstance(module, kind)]
    assert modules
    return modules


def test_settings_of_the_norms_reach_every_one_of_them():
    found = network(
        "model.norm_group_size=8", "model.norm_eps=1e-3", "model.proxy_norm_eps=0.1", "model.proxy_norm_quantiles=50"
    )  # fmt: skip
    assert {norm.num_channels // norm.num_groups for norm in of_kind(found, nn.GroupNorm)} == {8}
    assert {norm.eps for norm in of_kind(found, nn.GroupNorm)} == {1e-3}
    sites = of_kind(found, ProxyNorm)
    assert {(site.eps, site.expectation, site.quantiles) for site in sites} == {(0.1, "quantiles", 50)}
    groups = of_kind(network("model.norm_groups=2"), nn.GroupNorm)
    assert {norm.num_groups for norm in groups} == {2}


def test_the_papers_settings_are_the_defaults_and_the_exact_expectation_can_be_chosen():
    """Labatie et al. 2021 and Graphcore's public code: 200 quantiles, eps 0.03."""
    sites = of_kind(network(), ProxyNorm)
    assert {(site.eps, site.expectation, site.quantiles) for site in sites} == {(0.03, "quantiles", 200)}
    exact = of_kind(network("model.proxy_norm_expectation=exact"), ProxyNorm)
    assert {site.expectation for site in exact} == {"exact"}
    assert not any(isinstance(module, ProxyNorm) for module in network("model.proxy_norm=false").modules())


@pytest.mark.parametrize("override, outputs", [("model.num_classes=null", 10), ("model.num_classes=7", 7)])
def test_classes_are_the_data_sets_unless_the_model_has_its_own(override, outputs):
    assert network(override).fc.out_features == outputs


def test_options_and_the_images_channels_shape_it():
    assert network("model.options.width=0.5").conv1.weight.shape == (8, 1, 3, 3)


def test_what_is_not_trained_has_no_gradients():
    found = network("model.train_only=[layer3, fc]")
    trained = {name.split(".")[0] for name, parameter in found.named_parameters() if parameter.requires_grad}
    assert trained == {"layer3", "fc"}

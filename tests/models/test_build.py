import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

from ipu_train import models


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "resnet_20"}, "Did you mean 'resnet20'.*resnet50"),
        ({"name": "resnet20", "norm": "grop"}, "Did you mean 'group'.*instance"),
        ({"name": "resnet20", "widht": 2}, "option of model 'resnet20': 'widht'. Did you mean 'width'"),
        ({"name": "resnet20", "depth": 26}, "option of model 'resnet20': 'depth'"),
        ({"name": "resnet20", "norm_groups": 5}, "16 channels into 5 groups.*1, 2, 4, 8, 16"),
        ({"name": "resnet20", "norm_group_size": 5}, "16 channels into groups of 5.*1, 2, 4, 8, 16"),
        ({"name": "resnet20", "norm_group_size": 4, "norm_groups": 4}, "not both"),
        (
            {"name": "resnet20", "norm": "layer", "norm_group_size": 4},
            "'layer' has no groups.*norm_group_size",
        ),
        ({"name": "resnet20", "width": 0}, "at least one channel"),
    ],
)
def test_what_no_model_knows_is_refused_with_the_valid_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(**arguments)


@pytest.mark.parametrize(
    "name, option, value, message",
    [
        ("resnet50", "zero_init", "no", "zero_init must be true or false; got 'no'"),
        ("resnet50", "weight_standardisation", 1, "weight_standardisation must be true or false; got 1"),
        ("resnet50", "width", "abc", "width must be a finite number; got 'abc'"),
        ("resnet50", "width", float("inf"), "width must be a finite number; got inf"),
        ("resnet50", "width", True, "width must be a finite number; got True"),
        ("resnet50", "groups", 0, "groups is 0; it must be 1 or more"),
        ("resnet50", "group_width", -4, "group_width is -4; it must be 1 or more"),
        ("resnet18", "groups", 32, "groups is 32; it must be 1: the basic blocks of resnet18 have no groups"),
        ("resnext50_32x4d", "width", 0.1, "group_width is 4, which leaves groups without a channel"),
        ("efficientnet_b0", "expansion", 0, "expansion is 0; it must be 1 or more"),
        ("efficientnet_b0", "expansion", 1.5, "expansion must be a whole number; got 1.5"),
        ("efficientnet_b0", "squeeze_excite", -1, "squeeze_excite is -1; it must be a fraction"),
        ("efficientnet_b0", "dropout", "high", "dropout must be a finite number; got 'high'"),
        ("efficientnet_b0", "delay_scale", "false", "delay_scale must be true or false; got 'false'"),
        ("efficientnet_b0", "activation", 3, "activation must be a name; got 3"),
    ],
)
def test_an_option_of_the_wrong_kind_or_range_is_refused_by_name(name, option, value, message):
    with pytest.raises(models.OptionError, match=message):
        models.build(name, norm="layer", **{option: value})


def test_options_may_be_left_to_the_model_by_none_and_numbers_may_be_whole():
    with torch.device("meta"):
        model = models.build("efficientnet_b0", dropout=None, expansion=None, width=1, stochastic_depth=0)
    assert model.dropout.p == 0.2 and model.stage2[0].expand_conv.out_channels == 16 * 6


def test_importing_the_room_and_listing_models_imports_no_torch():
    code = "import sys, ipu_train.models as m; m.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_same_seed_builds_the_same_network():
    built = []
    for _ in range(2):
        torch.manual_seed(3)
        built.append(models.build("resnet8").state_dict())
    assert all(torch.equal(built[0][k], built[1][k]) for k in built[0])


def test_weight_decay_spares_vectors_but_not_the_proxys():
    model = models.build("resnet8")
    exempt = {n for n, p in model.named_parameters() if models.weight_decay_exempt(n, p)}
    for name, p in model.named_parameters():
        decays = p.dim() > 1 or name.endswith(("proxy_beta", "proxy_gamma"))
        assert (name in exempt) != decays, name
    assert {"norm1.proxy.beta", "norm1.proxy.gamma", "fc.bias", "layer1.0.norm2.weight"} <= exempt


@pytest.mark.parametrize(
    "module, independent",
    [
        (nn.GroupNorm(2, 4), True),
        (nn.Dropout(), True),
        (nn.BatchNorm1d(4), False),
        (nn.SyncBatchNorm(4), False),
        (nn.InstanceNorm2d(4), True),
        (nn.InstanceNorm2d(4, track_running_stats=True), False),
        (torchvision.ops.StochasticDepth(0.1, "row"), True),
        (torchvision.ops.StochasticDepth(0.1, "batch"), False),
        (torchvision.models.squeezenet1_1(), True),
        (torchvision.models.resnet18(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_a_model_is_batch_independent_unless_a_module_mixes_images(module, independent):
    assert models.is_batch_independent(nn.Sequential(nn.Conv2d(3, 4, 1), module)) == independent


@pytest.mark.parametrize(
    "module, alone",
    [
        (nn.GroupNorm(2, 4), True),
        (nn.BatchNorm2d(4), True),
        (nn.BatchNorm1d(4), True),
        (torchvision.models.resnet18(), True),
        (models.build("resnet8", norm="batch", proxy_norm=False), True),
        (nn.SyncBatchNorm(4), False),
        (models.build("resnet8", norm="sync_batch", proxy_norm=False), False),
        (models.build("resnet8", norm="evonorm_b0", proxy_norm=False), False),
        (nn.InstanceNorm2d(4, track_running_stats=True), False),
        (torchvision.ops.StochasticDepth(0.1, "batch"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_images_meet_in_batch_norm_only_unless_something_else_mixes_them(module, alone):
    assert models.meets_in_batch_norm_only(nn.Sequential(nn.Conv2d(3, 4, 1), module)) == alone

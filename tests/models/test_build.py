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
        ({"name": "resnet21"}, "Did you mean 'resnet20'.*resnet50"),
        ({"name": "resnet20", "norm": "grop"}, "Did you mean 'group'.*instance"),
        ({"name": "resnet20", "widht": 2}, "option of model 'resnet20': 'widht'. Did you mean 'width'"),
        ({"name": "resnet20", "depth": 26}, "option of model 'resnet20': 'depth'"),
        ({"name": "resnet20", "norm_groups": 5}, "16 channels into 5 groups.*1, 2, 4, 8, 16"),
        ({"name": "resnet20", "width": 0}, "at least one channel"),
    ],
)
def test_what_no_model_knows_is_refused_with_the_valid_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(**arguments)


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

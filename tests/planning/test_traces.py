"""Programs scaled from two traces equal traces."""

import pytest
import torch

from ipu_train import models
from ipu_train.ipumodel.rescale import at_batch, at_splits
from ipu_train.ipumodel.tracer import trace
from ipu_train.kernels import planned

NORMS = [
    ("group", True),
    ("batch", False),
    ("layer", True),
    ("instance", True),
    ("none", False),
    ("frn", False),
]


def images(batch):
    return [torch.zeros(batch, 3, 32, 32)]


@pytest.mark.parametrize("name", ["resnet8", "efficientnet_b0_g16"])
@pytest.mark.parametrize("norm, proxy", NORMS)
def test_another_micro_batch_is_what_a_trace_of_it_gives(name, norm, proxy):
    model = models.build(name, num_classes=10, norm=norm, proxy_norm=proxy)
    scaled = at_batch(trace(model, images(2)), trace(model, images(5)), 7)
    assert vars(scaled) == vars(trace(model, images(7)))


@pytest.mark.parametrize(
    "name, splits",
    [
        ("resnet8", ("layer2.0",)),
        ("resnet20", ("layer1.1.conv2", "layer3.0", "fc")),
        ("efficientnet_b0_g16", ("stage3.0", "stage6.1")),
    ],
)
def test_stages_are_those_of_a_trace_with_splits(name, splits):
    model = models.build(name, num_classes=10)
    assert vars(at_splits(trace(model, images(2)), splits)) == vars(trace(model, images(2), splits=splits))


def test_a_split_at_no_module_is_refused():
    program = trace(models.build("resnet8", num_classes=10), images(2))
    with pytest.raises(ValueError, match="layer7"):
        at_splits(program, ["layer7"])


@pytest.mark.parametrize(
    "splits, message",
    [
        (["conv1"], "conv1, where the network begins"),
        (
            ["layer3.0", "layer2.0"],
            r"layer3\.0 before layer2\.0, .* order of execution, \[layer2\.0, layer3\.0\]",
        ),
        (["layer2", "layer2.0.conv1"], r"layer2 and layer2\.0\.conv1, which begin with the same operation"),
    ],
)
def test_splits_that_leave_an_ipu_empty_are_refused(splits, message):
    program = trace(models.build("resnet8", num_classes=10), images(2))
    with pytest.raises(ValueError, match=message):
        at_splits(program, splits)


class Pairwise(torch.nn.Module):
    """Compares every image with every other one: quadratic in the batch."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(8, 4)

    def forward(self, x):
        x = self.fc(x)
        return x + (x @ x.t()).sum(dim=1, keepdim=True)


def test_what_is_not_affine_in_the_batch_is_left_to_a_trace():
    programs = [trace(Pairwise(), [torch.zeros(batch, 8)]) for batch in (2, 3)]
    assert at_batch(*programs, 4) is None


def test_the_fused_operator_keeps_what_group_norm_and_its_activation_keep():
    def program(proxy, fused=False, batch=4):
        network = models.build("resnet20", num_classes=10, norm="group", proxy_norm=proxy)
        if fused:
            assert models.use_proxy_norm_kernel(network, planned.norm_proxy_norm_act) > 0
        return trace(network, images(batch))

    def kept(program):
        return sum(program.tensors[i].bytes for i in {i for op in program.operations for i in op.saves})

    norm, composed, fused = kept(program(False)), kept(program(True)), kept(program(True, fused=True))
    assert composed > 1.1 * norm
    assert fused < 1.01 * norm
    assert not program(True, fused=True).unknown
    scaled = at_batch(program(True, True, 2), program(True, True, 5), 7)
    assert vars(scaled) == vars(program(True, True, 7))

import pytest
import torch

from ipu_train import models
from ipu_train.models.blocks import BasicBlock, Bottleneck, PreActivationBasicBlock, PreActivationBottleneck
from ipu_train.models.norms import Norms
from ipu_train.models.options import OptionError
from ipu_train.models.stochastic_depth import StochasticDepth

BLOCKS = (BasicBlock, Bottleneck, PreActivationBasicBlock, PreActivationBottleneck)


def test_stochastic_depth_drops_whole_images_and_keeps_the_expectation():
    torch.manual_seed(0)
    layer = StochasticDepth(0.25)
    x = torch.rand(4000, 2, 3, 3) + 1
    ratio = (layer(x) / x).flatten(1)
    kept = ratio[:, 0] > 0
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))  # all of an image or nothing
    torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 1 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_dropped_branch_leaves_the_shortcut_and_a_kept_one_is_enlarged(kind):
    """Image by image: either what the shortcut gives, or that plus the branch over 1 - rate."""
    torch.manual_seed(0)
    block = kind(8 * kind.expansion, 8, 1, Norms("layer")).double()
    x = torch.randn(64, 8 * kind.expansion, 4, 4, dtype=torch.float64).abs()  # the last ReLU of v1 passes it
    whole = block(x) - x if kind in (PreActivationBasicBlock, PreActivationBottleneck) else block.branch(x)
    block.drop = StochasticDepth(0.4)
    torch.manual_seed(1)
    out = block(x)
    dropped = torch.tensor([torch.equal(one, other) for one, other in zip(out, x)])
    assert 10 <= int(dropped.sum()) <= 40  # 25.6 expected, standard deviation 3.9
    expected = x + whole / 0.6
    expected = expected.relu() if kind in (BasicBlock, Bottleneck) else expected
    torch.testing.assert_close(out[~dropped], expected[~dropped])


@pytest.mark.parametrize(
    "name, blocks",
    [("resnet18", 8), ("resnet50", 16), ("resnet50v2", 16), ("resnet20", 9), ("resnet20v2", 9)]
    + [("resnext50_32x4d", 16), ("resnext29_32x4d", 9)],
)
def test_rates_follow_the_linear_decay_rule(name, blocks):
    """Huang et al. 2016, section 3: block l of L survives with probability 1 - l / L (1 - p_L)."""
    with torch.device("meta"):
        drops = [
            m for m in models.build(name, stochastic_depth=0.3).modules() if isinstance(m, StochasticDepth)
        ]
        none = [m for m in models.build(name).modules() if isinstance(m, StochasticDepth)]
    assert [drop.rate for drop in drops] == pytest.approx([0.3 * k / blocks for k in range(1, blocks + 1)])
    assert none == []


def test_evaluation_and_parameters_are_those_without_it():
    torch.manual_seed(0)
    plain = models.build("resnet20v2", 10, norm="group").eval()
    other = models.build("resnet20v2", 10, norm="group", stochastic_depth=0.5).eval()
    other.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(plain(x), other(x))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_is_at_least_0_and_below_1(rate):
    with pytest.raises(OptionError, match="stochastic_depth is"):
        models.build("resnet20v2", 10, stochastic_depth=rate)

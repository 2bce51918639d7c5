import pytest
import torch
import torch.nn.functional as F

from ipu_train import models
from ipu_train.models.mbconv import MBConv, SqueezeExcite
from ipu_train.models.norm_layers import NormActivation
from ipu_train.models.norms import Norms
from ipu_train.models.proxy_norm import ProxyNorm

PROXY = {"eps": 0.03, "expectation": "quantiles", "quantiles": 200}

# pixels, G1 parameters and MACs, G16 parameters and MACs, G16 + PN parameters (Masters et al. 2021's
# networks)
SIZES = {
    "b0": (224, 5.29, 0.386, 5.91, 0.635, 5.94),
    "b1": (240, 7.79, 0.687, 8.33, 1.112, 8.37),
    "b2": (260, 9.11, 0.994, 9.50, 1.522, 9.54),
    "b3": (300, 12.23, 1.827, 12.59, 2.731, 12.64),
    "b4": (380, 19.34, 4.394, 19.33, 6.183, 19.40),
    "b5": (456, 30.39, 10.27, 28.72, 13.50, 28.82),
}
HALF_RESOLUTION = {
    "b0": (160, 0.325),
    "b1": (176, 0.606),
    "b2": (196, 0.891),
    "b3": (204, 1.291),
    "b4": (252, 2.743),
    "b5": (328, 7.10),
}


def on_meta(name, **options):
    with torch.device("meta"):
        return models.build(name, **options)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def macs(model, pixels):
    return sum(row.macs for row in models.describe(model, pixels))


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_the_published_ones_and_flops_there_are_macs(size):
    pixels, g1_size, g1_macs, g16_size, g16_macs, pn_size = SIZES[size]
    g1 = on_meta(f"efficientnet_{size}", proxy_norm=False)
    g16 = on_meta(f"efficientnet_{size}_g16", proxy_norm=False)
    assert parameters(g1) / 1e6 == pytest.approx(g1_size, abs=0.0051)
    assert parameters(g16) / 1e6 == pytest.approx(g16_size, abs=0.0051)
    assert parameters(on_meta(f"efficientnet_{size}_g16")) / 1e6 == pytest.approx(pn_size, abs=0.0051)
    assert macs(g1, pixels) / 1e9 == pytest.approx(g1_macs, rel=1e-3)
    assert macs(g16, pixels) / 1e9 == pytest.approx(g16_macs, rel=1e-3)
    half_pixels, half_macs = HALF_RESOLUTION[size]
    assert macs(g16, half_pixels) / 1e9 == pytest.approx(half_macs, rel=1.5e-3)


def test_expanded_blocks_of_g16_have_groups_of_16_and_the_first_block_16_or_20():
    groups = {size: on_meta(f"efficientnet_{size}_g16").stage1[0].group_conv for size in SIZES}
    described = {size: (c.groups, c.in_channels // c.groups) for size, c in groups.items()}
    assert described == {
        "b0": (2, 16),
        "b1": (2, 16),
        "b2": (2, 16),
        "b3": (2, 20),
        "b4": (3, 16),
        "b5": (3, 16),
    }
    for module in on_meta("efficientnet_b5_g16").modules():
        if isinstance(module, MBConv) and module.expand_conv is not None:
            assert module.group_conv.in_channels // module.group_conv.groups == 16


def test_proxy_norm_sits_at_the_stem_the_expansions_the_group_convolutions_and_the_head():
    model = on_meta("efficientnet_b0")
    blocks = [m for m in model.modules() if isinstance(m, MBConv)]
    assert len(blocks) == 16
    sites = {n for n, m in model.named_modules() if isinstance(m, ProxyNorm)}
    assert len(sites) == 1 + 15 + 16 + 1
    assert {"stem_norm.proxy", "head_norm.proxy", "stage2.0.expand_norm.proxy"} <= sites
    for block in blocks:
        assert [n for n, _ in block.project_norm.named_parameters()] == ["weight"]
    delayed = [n for n, m in model.named_modules() if isinstance(m, NormActivation) and m.delay_scale]
    assert len(delayed) == 17 and "head_norm" in delayed
    plain = on_meta("efficientnet_b0", proxy_norm=False)
    for block in plain.modules():
        if isinstance(block, MBConv):
            assert [n for n, _ in block.project_norm.named_parameters()] == ["weight", "bias"]


def test_norms_have_the_defaults_of_the_paper_s_code():
    model = on_meta("efficientnet_b0")
    norm = model.stem_norm.norm
    assert (norm.num_groups, norm.eps) == (4, 1e-3)
    norm = on_meta("efficientnet_b0", norm="batch").stem_norm.norm
    assert (norm.momentum, norm.eps) == (0.03, 1e-3)


def perturb(module, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return module


def test_delayed_scale_in_squeeze_excite_equals_scaling_first_with_the_squeeze_divided_by_the_scale():
    norms = Norms("group", groups=2, proxy=PROXY)
    delayed = perturb(norms.activated(4, "swish", delay_scale=True).double())
    first = norms.activated(4, "swish").double()
    first.load_state_dict(delayed.state_dict())
    gate = perturb(SqueezeExcite(4, 3, "swish").double())
    divided = SqueezeExcite(4, 3, "swish").double()
    divided.load_state_dict(gate.state_dict())
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    unscaled, scale = delayed(x)
    with torch.no_grad():
        divided.squeeze.weight.div_(scale.view(1, 4, 1, 1))
    torch.testing.assert_close(gate(unscaled, scale), divided(first(x)), rtol=1e-10, atol=1e-12)
    # and it is no mere reordering: with the same squeeze the two differ
    assert (gate(unscaled, scale) - gate(first(x))).abs().max() > 1e-3


def test_the_head_without_its_scale_equals_the_scaled_head_with_the_classifier_divided_by_it():
    torch.manual_seed(0)
    options = {"num_classes": 5, "width": 0.25, "squeeze_excite": 0.0}
    unscaled = perturb(models.build("efficientnet_cifar", **options)).double().eval()
    scaled = models.build("efficientnet_cifar", delay_scale=False, **options).double().eval()
    scaled.load_state_dict(unscaled.state_dict())
    _, s = unscaled.head_norm.proxy.statistics()
    with torch.no_grad():
        scaled.fc.weight.div_(s)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(scaled(x), unscaled(x), rtol=1e-9, atol=1e-10)


def test_without_squeeze_excite_the_scale_is_applied_in_place():
    torch.manual_seed(0)
    block = MBConv(4, 4, 3, 1, Norms("layer", proxy=PROXY), 2, 1, "relu", 0.0, 0.0, delay_scale=True)
    perturb(block.double())
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    inner = block.group_conv(block.expand_norm(block.expand_conv(x)))
    normalised = F.group_norm(inner, 1)
    expected = block.project_norm(block.project_conv(block.group_conv_norm.proxy(normalised))) + x
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-10)


def test_the_drop_rate_grows_linearly_with_depth():
    blocks = [m for m in on_meta("efficientnet_b0").modules() if isinstance(m, MBConv)]
    assert [b.drop.rate for b in blocks] == pytest.approx([0.2 * i / 16 for i in range(16)])
    assert on_meta("efficientnet_b4").dropout.p == 0.4
    assert on_meta("efficientnet_b4", dropout=0.1).dropout.p == 0.1


def test_initial_weights_have_the_variances_of_the_paper_s_code():
    torch.manual_seed(0)
    model = models.build("efficientnet_b0_g16")
    conv = model.head_conv.weight
    assert conv.std().item() == pytest.approx((2 / conv.shape[0]) ** 0.5, rel=0.02)
    grouped = model.stage6[1].group_conv.weight
    assert grouped.std().item() == pytest.approx((2 / (16 * 25)) ** 0.5, rel=0.02)
    limit = (6 / (1280 + 1000)) ** 0.5
    assert model.fc.weight.abs().max().item() == pytest.approx(limit, rel=1e-3)
    assert model.stage1[0].squeeze_excite.squeeze.bias.abs().max() == 0


@pytest.mark.parametrize("name", ["efficientnet_cifar", "efficientnet_cifar_g16"])
@pytest.mark.parametrize("norm", models.norm_names())
def test_the_cifar_variant_takes_32x32_images_and_every_parameter_gets_a_gradient(name, norm):
    torch.manual_seed(0)
    proxy_norm = not norm.startswith(("evonorm", "frn"))
    model = models.build(name, num_classes=10, norm=norm, proxy_norm=proxy_norm, stochastic_depth=0.0)
    assert (model.stem_conv.stride, model.stage2[0].group_conv.stride) == ((1, 1), (1, 1))
    assert (model.stem_conv.out_channels, model.fc.in_features, model.dropout.p) == (16, 640, 0.0)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    for parameter_name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all(), parameter_name
        # the expectations of the head's proxy pass the pool and are seen; nothing is left without a path
        assert p.grad.abs().max() > 0, parameter_name


def test_nothing_in_forward_depends_on_the_values_of_a_tensor():
    model = on_meta("efficientnet_b0").train()
    assert model(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stochastic_depth": 1.5}, "stochastic_depth is 1.5"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"width": -1.0}, "must be positive"),
        ({"width": 1.75}, "56 channels cannot be split into 3 groups"),
        ({"group_size": 8}, "option of model 'efficientnet_b0_g16': 'group_size'"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        on_meta("efficientnet_b0_g16", **options)

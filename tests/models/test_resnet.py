import pytest
import torch
import torchvision
from torch import nn

from ipu_train import models
from ipu_train.models.norms import NormActivation
from ipu_train.models.power import site_powers
from ipu_train.models.proxy_norm import ProxyNorm

IMAGENET = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def on_meta(name, **options):
    with torch.device("meta"):
        return models.build(name, **options)


def count(model, cls):
    return sum(isinstance(m, cls) for m in model.modules())


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_resnets_have_the_sizes_of_torchvisions(name):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    assert parameters(on_meta(name, norm="batch", proxy_norm=False)) == parameters(theirs)
    assert parameters(on_meta(name, norm="group", proxy_norm=False)) == parameters(theirs)


def test_resnexts_have_the_published_sizes():
    with torch.device("meta"):
        theirs = torchvision.models.resnext50_32x4d()
    assert parameters(on_meta("resnext50_32x4d", proxy_norm=False)) == parameters(theirs)
    # Xie et al. 2016, table 7: 44.3 M parameters (the convolutions, norms and classifier)
    assert round(parameters(on_meta("resnext101_32x4d", proxy_norm=False)) / 1e6, 1) in (44.2, 44.3)


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_v2_has_a_norm_for_each_activation_and_proxy_norm_in_all_of_them(depth):
    model = on_meta(f"resnet{depth}v2")
    blocks = {50: 16, 101: 33, 152: 50}[depth]
    norms = [m for m in model.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert count(model, ProxyNorm) == count(model, NormActivation) == len(norms) == 3 * blocks + 1
    assert [n for n, p in model.named_parameters() if p.dim() == 1 and "proxy" not in n] == ["fc.bias"]


def test_v2_shortcuts_carry_the_input_or_the_projected_first_activation():
    torch.manual_seed(0)
    model = models.build("resnet50v2", width=0.25, norm_groups=4).double()
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    block = model.layer1[0]
    inner = block.norm1(x)
    out = block.conv3(block.norm3(block.conv2(block.norm2(block.conv1(inner)))))
    torch.testing.assert_close(block(x), out + block.shortcut(inner))
    block = model.layer1[1]
    assert block.shortcut is None
    with torch.no_grad():
        block.conv3.weight.zero_()
    x = torch.randn(2, 64, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), x)


def test_the_convolutions_of_resnext_have_32_groups_of_the_published_widths():
    model = on_meta("resnext50_32x4d")
    for stage, width in ((1, 4), (2, 8), (3, 16), (4, 32)):
        conv = getattr(model, f"layer{stage}")[0].conv2
        assert (conv.groups, conv.out_channels // conv.groups) == (32, width)


def test_a_cifar_resnext_has_bottlenecks_of_32_groups_in_three_stages():
    model = on_meta("resnext29_32x4d", num_classes=10)
    for stage, width, out in ((1, 4, 64), (2, 8, 128), (3, 16, 256)):
        blocks = getattr(model, f"layer{stage}")
        assert len(blocks) == 3
        conv = blocks[-1].conv2
        assert (conv.groups, conv.out_channels // conv.groups, blocks[-1].conv3.out_channels) == (
            32,
            width,
            out,
        )
    weighted = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(weighted) - 3 == 29  # the projections of the three stages do not count


@pytest.mark.parametrize(
    "name, millions",
    [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85), ("resnet110", 1.7)],
)
def test_cifar_resnets_have_the_sizes_of_he_et_al(name, millions):
    model = on_meta(name, num_classes=10, norm="batch", proxy_norm=False)
    assert round(parameters(model) / 1e6, 2 if millions < 1 else 1) == millions


@pytest.mark.parametrize(
    "name, sites, additions",
    [("resnet50", 1 + 2 * 16, 16 + 4), ("resnet18", 1 + 8, 8 + 3), ("resnet20", 1 + 9, 9)],
)
def test_proxy_norm_surrounds_each_activation_after_a_norm_and_no_other(name, sites, additions):
    model = on_meta(name)
    assert count(model, ProxyNorm) == count(model, NormActivation) == sites
    bare = [
        m
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.GroupNorm) and not n.endswith(".norm.norm")
    ]
    shifts = [n for n, _ in model.named_parameters() if n.endswith(".bias") and not n.startswith("fc")]
    scales = [n for n, p in model.named_parameters() if n.endswith(".weight") and p.dim() == 1]
    assert len(bare) == sites + additions
    assert len(scales) == additions
    assert shifts == []
    plain = on_meta(name, proxy_norm=False)
    assert count(plain, ProxyNorm) == 0
    assert sum(n.endswith(".bias") for n, _ in plain.named_parameters()) == sites + additions + 1


def test_proxy_norm_adds_two_vectors_a_site_and_takes_one_from_each_norm_before_an_addition():
    plain, proxied = (on_meta("resnet20", num_classes=10, proxy_norm=pn) for pn in (False, True))
    at_sites = 16 + 3 * (16 + 32 + 64)
    before_additions = 3 * (16 + 32 + 64)
    assert parameters(proxied) - parameters(plain) == 2 * at_sites - before_additions


def test_the_stride_of_a_bottleneck_sits_on_its_3x3_convolution():
    block = on_meta("resnet50").layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


def test_bottlenecks_whose_shortcut_is_the_identity_start_as_the_identity():
    # Graphcore's CNN code: block3 has its last scale at zero where there is no projection, block2 nowhere
    model = models.build("resnet50", width=0.5)
    scales = [[block.norm3.weight for block in getattr(model, name)] for name in model.stage_names]
    assert all(first.min() == 1 and max(s.abs().max() for s in others) == 0 for first, *others in scales)
    x = torch.rand(2, 128, 8, 8)  # not negative, so the ReLU after the addition changes nothing
    torch.testing.assert_close(model.layer1[1](x), x)
    assert models.build("resnext29_32x4d").layer1[1].norm3.weight.abs().max() == 0
    assert models.build("resnet50", width=0.5, zero_init=False).layer1[1].norm3.weight.min() == 1


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet20", "resnet20v2", "resnet50v2"])
def test_basic_blocks_and_pre_activation_blocks_start_alive(name):
    model = models.build(name, num_classes=10)
    assert all(p.abs().max() > 0 for n, p in model.named_parameters() if n.endswith(".weight"))


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_proxy_norm_after_additions_normalises_the_residual_stream_of_v1(name):
    """Without it the stream's channels are the sums of what ReLUs leave, which is not negative."""
    collapse = []
    for after_addition in (False, True):
        torch.manual_seed(0)
        options = {"width": 0.25} if name == "resnet50" else {}
        model = models.build(
            name,
            num_classes=10,
            norm="layer",
            zero_init=False,
            proxy_after_addition=after_addition,
            **options,
        )
        powers = site_powers(model, torch.randn(16, 3, 32, 32))
        inside = [p.squared_mean_of_means.item() for n, p in powers.items() if n.endswith(".norm1")]
        collapse.append(sum(inside) / len(inside))
    assert collapse[1] < 0.5 * collapse[0]
    assert count(model, ProxyNorm) == 1 + len(inside) * (2 if name == "resnet20" else 3)
    assert (
        count(models.build(name, norm="batch", proxy_norm=False, proxy_after_addition=True), ProxyNorm) == 0
    )


def test_zero_start_may_be_asked_for_and_leaves_blocks_alive_that_widen():
    v1 = models.build("resnet8", zero_init=True)
    assert v1.layer1[0].norm2.weight.abs().max() == 0 and v1.layer2[0].norm2.weight.min() == 1
    v2 = models.build("resnet8v2", zero_init=True)
    assert v2.layer1[0].conv2.weight.abs().max() == 0 and v2.layer2[0].conv2.weight.abs().max() > 0


@pytest.mark.parametrize("norm, proxy_norm", [("batch", False), ("group", True), ("layer", True)])
@pytest.mark.parametrize("name", ["resnet20", "resnet20v2"])
def test_a_fresh_cifar_networks_features_are_alive_and_its_blocks_gradients_of_one_size(
    name, norm, proxy_norm
):
    torch.manual_seed(0)
    model = models.build(name, num_classes=10, norm=norm, proxy_norm=proxy_norm)
    features = []
    model.fc.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    images, labels = torch.randn(32, 3, 16, 16), torch.arange(32) % 10
    nn.functional.cross_entropy(model(images), labels).backward()
    assert (features[0].std(0) > 1e-3 * features[0].std()).all()
    sizes = [
        block.conv2.weight.grad.norm().item()
        for stage in model.stage_names
        for block in getattr(model, stage)
    ]
    assert len(sizes) == 9 and max(sizes) / min(sizes) < 10


@pytest.mark.parametrize("name", ["resnet20", "resnet20v2", "resnet56v2", "resnext29_32x4d"])
def test_a_cifar_networks_group_norm_is_neither_instance_nor_layer_norm_in_any_stage(name):
    norms = [m for m in on_meta(name).modules() if isinstance(m, torch.nn.GroupNorm)]
    assert {m.num_channels // m.num_groups for m in norms} == {4}
    assert all(1 < m.num_groups < m.num_channels for m in norms)


@pytest.mark.parametrize("name", ["resnet20", "resnet50v2"])
def test_the_classifier_starts_with_glorots_uniform_weights(name):
    weight = models.build(name, num_classes=100).fc.weight
    bound = (6 / (100 + weight.shape[1])) ** 0.5  # Glorot and Bengio 2010, eq. 16
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


@pytest.mark.parametrize("depth", [8, 20, 56, 110])
def test_a_cifar_v2_network_has_a_norm_for_each_activation_and_two_projections(depth):
    model = on_meta(f"resnet{depth}v2", num_classes=10)
    blocks = (depth - 2) // 2
    norms = [m for m in model.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert count(model, ProxyNorm) == count(model, NormActivation) == len(norms) == 2 * blocks + 1
    assert [n for n, p in model.named_parameters() if p.dim() == 1 and "proxy" not in n] == ["fc.bias"]
    # He et al. 2016: 3x3 convolutions and classifier as in v1, and 1x1 convolutions where the width doubles
    v1 = on_meta(f"resnet{depth}", num_classes=10)
    weights = [sum(p.numel() for p in m.parameters() if p.dim() > 1) for m in (model, v1)]
    assert weights[0] - weights[1] == 16 * 32 + 32 * 64
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


def test_cifar_v2_shortcuts_carry_the_input_or_the_projected_first_activation():
    torch.manual_seed(0)
    model = models.build("resnet14v2").double()
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    block = model.layer2[0]
    inner = block.norm1(x)
    out = block.conv2(block.norm2(block.conv1(inner)))
    torch.testing.assert_close(block(x), out + block.shortcut(inner))
    block = model.layer1[1]
    torch.testing.assert_close(block(x) - x, block.conv2(block.norm2(block.conv1(block.norm1(x)))))


def test_shortcut_a_takes_every_second_pixel_and_pads_channels_with_zeros():
    shortcut = models.build("resnet8").layer2[0].shortcut
    x = torch.randn(2, 16, 8, 8)
    out = shortcut(x)
    assert out.shape == (2, 32, 4, 4)
    torch.testing.assert_close(out[:, 8:24], x[:, :, ::2, ::2])
    assert out[:, :8].abs().max() == 0 and out[:, 24:].abs().max() == 0


@pytest.mark.parametrize("norm", models.norm_names())
def test_a_small_resnet_takes_8x8_images_of_one_channel_and_every_parameter_gets_a_gradient(norm):
    torch.manual_seed(0)
    proxy_norm = not norm.startswith(("evonorm", "frn"))
    model = models.build(
        "resnet8", num_classes=10, norm=norm, proxy_norm=proxy_norm, in_channels=1, zero_init=False
    )
    logits = model(torch.randn(4, 1, 8, 8))
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "name, size",
    [("resnet18", 224), ("resnet50", 224), ("resnet50v2", 224), ("resnet20", 32), ("resnet20v2", 32)],
)
def test_nothing_in_forward_depends_on_the_values_of_a_tensor(name, size):
    # meta tensors have no values: .item() or a branch on data would raise
    assert on_meta(name)(torch.empty(2, 3, size, size, device="meta")).shape == (2, 1000)
    assert on_meta(name, proxy_norm_expectation="exact")(
        torch.empty(2, 3, size, size, device="meta")
    ).shape == (2, 1000)


def test_one_image_alone_equals_the_same_image_in_any_batch_except_with_batch_norm():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    for norm in ("group", "layer", "instance", "none", "batch"):
        model = models.build("resnet8", num_classes=10, norm=norm, zero_init=False).double()
        together, alone = model(x), torch.cat([model(image[None]) for image in x])
        error = ((together - alone).abs().max() / together.abs().max()).item()
        assert (error < 1e-10) == (norm != "batch"), (norm, error)
        assert models.is_batch_independent(model) == (norm != "batch")


@pytest.mark.parametrize("name, size", [("resnet56", 32), ("resnet56v2", 32), ("resnet50v2", 64)])
def test_an_unnormalised_deep_resnet_starts_with_activations_of_moderate_size(name, size):
    torch.manual_seed(0)
    model = models.build(name, num_classes=10, norm="none", proxy_norm=False)
    features = []
    model.fc.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    model(torch.randn(4, 3, size, size))
    assert 1e-2 < features[0].std().item() < 1e2

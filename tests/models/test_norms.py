import copy

import pytest
import torch
import torch.nn.functional as F

from ipu_train import models
from ipu_train.models.convolutions import StandardisedConv2d
from ipu_train.models.norm_layers import BatchNorm, GroupNorm
from ipu_train.models.norms import NORMS, Norms, make_norms
from ipu_train.models.sync_batch_norm import SyncBatchNorm

NAMES = list(NORMS)
PROXY = {"eps": 0.03, "expectation": "quantiles", "quantiles": 200}
WITH_AND_WITHOUT_PROXY = [
    pytest.param(name, proxy, id=name + ("+pn" if proxy else ""))
    for name in NAMES
    for proxy in (None, PROXY)
    if proxy is None or NORMS[name].takes_proxy_norm
]

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


def by_definition(kind, x, eps, groups=2):
    """Each norm in float64 straight from its definition."""
    n, c = x.shape[:2]
    if kind == "none":
        return x
    if kind == "batch":
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(var + eps)
    groups = {"layer": 1, "group": groups, "instance": c}[kind]
    split = x.reshape(n, groups, -1)
    mean, var = split.mean(2, keepdim=True), split.var(2, unbiased=False, keepdim=True)
    return ((split - mean) / torch.sqrt(var + eps)).reshape(x.shape)


def randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype))
    return module


@pytest.mark.parametrize("kind", ["batch", "layer", "group", "instance", "none"])
def test_a_norm_and_its_activation_equal_the_definition(kind):
    torch.manual_seed(0)
    site = randomise(Norms(kind, groups=2, eps=1e-3).activated(4).double())
    x = 3 * torch.randn(5, 4, 3, 3, dtype=torch.float64) + 1
    weight, bias = site.norm.weight.view(4, 1, 1), site.norm.bias.view(4, 1, 1)
    expected = F.relu(by_definition(kind, x, 1e-3) * weight + bias)
    torch.testing.assert_close(site(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("kind", ["batch", "layer", "group", "instance", "none"])
def test_with_proxy_norm_a_site_is_the_bare_norm_then_proxy_norm(kind, activation):
    torch.manual_seed(0)
    site = randomise(Norms(kind, groups=2, eps=1e-3, proxy=PROXY).activated(4, activation).double())
    x = 3 * torch.randn(5, 4, 3, 3, dtype=torch.float64) + 1
    torch.testing.assert_close(site(x), site.proxy(by_definition(kind, x, 1e-3)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", [name for name in NAMES if NORMS[name].takes_proxy_norm])
def test_before_an_addition_proxy_norm_leaves_the_scale_and_drops_the_shift(kind):
    names = [n for n, _ in Norms(kind, groups=2, proxy=PROXY).before_addition(4).named_parameters()]
    assert names == ["weight"]
    names = [n for n, _ in Norms(kind, groups=2, proxy=PROXY).activated(4).named_parameters()]
    assert names == ["proxy.beta", "proxy.gamma", "proxy.proxy_beta", "proxy.proxy_gamma"]


@pytest.mark.parametrize("place", ["activated", "before_addition"])
@pytest.mark.parametrize("kind, proxy", WITH_AND_WITHOUT_PROXY)
def test_gradients_of_every_norm_equal_finite_differences(kind, place, proxy):
    torch.manual_seed(1)
    proxy = proxy and dict(proxy, quantiles=20)
    module = getattr(Norms(kind, groups=2, eps=1e-3, proxy=proxy), place)(4)
    module = randomise(module.double(), seed=2)
    names = [name for name, _ in module.named_parameters()]
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    values = [p.detach().requires_grad_() for p in module.parameters()]
    buffers = {name: b.clone() for name, b in module.named_buffers()}

    def run(x, *values):
        state = dict(zip(names, values), **{name: b.clone() for name, b in buffers.items()})
        return torch.func.functional_call(module, state, (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize("kind, proxy", WITH_AND_WITHOUT_PROXY)
def test_an_image_alone_gives_what_it_gives_in_any_batch_exactly_when_the_norm_says_so(kind, proxy):
    torch.manual_seed(0)
    site = randomise(Norms(kind, groups=2, proxy=proxy).activated(4).double()).train()
    x = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    together, alone = site(x), torch.cat([site(image[None]) for image in x])
    same = torch.allclose(together, alone, rtol=1e-10, atol=1e-12)
    assert same == models.is_batch_independent(site)


# Tensors of the size of the activation that a site keeps for backward, as its docstring says.
KEPT = {
    ("relu", None): 2,  # the norm's input, the activation's output
    ("relu", "pn"): 2,
    ("silu", None): 2,  # the norm's input, the activation's input
    ("silu", "pn"): 3,  # and the activation's output, for the gradient of the scale
    "evonorm_s0": 3,
    "evonorm_b0": 4,
    "frn": 3,
}


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("kind, proxy", WITH_AND_WITHOUT_PROXY)
def test_a_site_keeps_for_backward_what_its_docstring_says(kind, proxy, activation):
    site = Norms(kind, groups=4, proxy=proxy).activated(8, activation)
    x = torch.randn(4, 8, 8, 8, requires_grad=True)
    kept = set()

    def remember(tensor):
        if tensor.numel() == x.numel():
            kept.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        out = site(x)
    assert out.shape == x.shape
    assert len(kept) == (KEPT[kind] if kind in KEPT else KEPT[activation, proxy and "pn"])


def test_evonorm_s0_equals_its_definition():
    torch.manual_seed(0)
    site = randomise(Norms("evonorm_s0", groups=2, eps=1e-3).activated(4).double())
    x = 2 * torch.randn(3, 4, 5, 5, dtype=torch.float64) + 1
    v, weight, bias = (p.view(4, 1, 1) for p in (site.v, site.weight, site.bias))
    expected = torch.empty_like(x)
    for image in range(3):
        for group in (slice(0, 2), slice(2, 4)):
            std = torch.sqrt(x[image, group].var(unbiased=False) + 1e-3)
            expected[image, group] = x[image, group] * torch.sigmoid((v * x)[image, group]) / std
    torch.testing.assert_close(site(x), expected * weight + bias, rtol=1e-10, atol=1e-12)


def test_evonorm_b0_equals_its_definition_in_training_and_uses_the_running_variance_in_evaluation():
    torch.manual_seed(0)
    site = randomise(Norms("evonorm_b0", eps=1e-3, momentum=0.25).activated(4).double())
    x = 2 * torch.randn(6, 4, 5, 5, dtype=torch.float64) + 1
    v, weight, bias = (p.view(4, 1, 1) for p in (site.v, site.weight, site.bias))

    def expected(variance):
        of_image = torch.sqrt(x.var((2, 3), unbiased=False, keepdim=True) + 1e-3)
        of_batch = torch.sqrt(variance.view(4, 1, 1) + 1e-3)
        return x / torch.maximum(of_batch.expand_as(x), v * x + of_image) * weight + bias

    variance = x.transpose(0, 1).reshape(4, -1).var(1, unbiased=False)
    torch.testing.assert_close(site(x), expected(variance), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(site.running_var, 0.75 + 0.25 * variance)
    torch.testing.assert_close(site.eval()(x), expected(0.75 + 0.25 * variance), rtol=1e-10, atol=1e-12)


def test_frn_and_its_thresholded_linear_unit_equal_their_definition():
    torch.manual_seed(0)
    site = randomise(Norms("frn", eps=1e-3).activated(4).double())
    x = 2 * torch.randn(3, 4, 5, 5, dtype=torch.float64) + 1
    weight, bias, tau = (p.view(4, 1, 1) for p in (site.norm.weight, site.norm.bias, site.tau))
    normalised = x / torch.sqrt(x.square().mean((2, 3), keepdim=True) + 1e-3) * weight + bias
    expected = torch.where(normalised > tau, normalised, tau.expand_as(x))
    torch.testing.assert_close(site(x), expected, rtol=1e-10, atol=1e-12)
    assert make_norms("frn", None, None, None).eps == 1e-6


@pytest.mark.skipif(TORCH < (2, 1), reason="torch 2.0 has no half-precision norms on CPUs")
# batch norm needs a device that takes half-precision activations with float32 statistics
@pytest.mark.parametrize("kind", [name for name in NAMES if not name.endswith("batch")])
@pytest.mark.parametrize("place", ["activated", "before_addition"])
def test_half_precision_holds_the_statistics_of_a_large_image(kind, place):
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 8, 112, 112) + 2).half()  # the squares of one channel add up to 163,000
    module = getattr(Norms(kind, groups=2), place)(8)
    half, exact = module(x), copy.deepcopy(module).double()(x.double())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.double(), exact, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("kind", ["evonorm_s0", "evonorm_b0"])
def test_before_an_addition_evonorm_is_the_affine_step_alone(kind):
    module = randomise(Norms(kind, groups=2).before_addition(4).double())
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), x * module.weight.view(4, 1, 1) + module.bias.view(4, 1, 1))


@pytest.mark.parametrize("proxy", [None, PROXY], ids=["plain", "pn"])
def test_sync_batch_norm_over_stacked_replicas_is_batch_norm_of_each_group(proxy):
    torch.manual_seed(0)
    settings = {"eps": 1e-3, "momentum": 0.2, "proxy": proxy}
    synced = randomise(Norms("sync_batch", **settings).activated(4).double())
    alone = [randomise(Norms("batch", **settings).activated(4).double()) for _ in range(2)]
    x = 2 * torch.randn(12, 4, 3, 3, dtype=torch.float64) + 1  # 4 replicas of micro-batch 3, groups of 2
    x.requires_grad_()
    synced.norm.groups = 2
    torch.testing.assert_close(synced(x), torch.cat([alone[0](x[:6]), alone[1](x[6:])]))
    upstream = torch.randn_like(x)
    mine = torch.autograd.grad((synced(x) * upstream).sum(), x)[0]
    both = torch.cat([alone[0](x[:6]), alone[1](x[6:])])
    torch.testing.assert_close(mine, torch.autograd.grad((both * upstream).sum(), x)[0])
    for name in ("running_mean", "running_var"):
        average = sum(getattr(site.norm, name) for site in alone) / 2
        torch.testing.assert_close(getattr(synced.norm, name), average)
    torch.testing.assert_close(synced.eval()(x[:1]), synced.eval()(x)[:1])


def test_sync_batch_norm_says_that_it_needs_stacked_replicas():
    with torch.device("meta"):
        model = models.build("resnet8", norm="sync_batch")
    assert models.needs_stacked_replicas(model) and not models.is_batch_independent(model)
    models.set_sync_groups(model, 4)
    assert {m.groups for m in model.modules() if isinstance(m, SyncBatchNorm)} == {4}
    with torch.device("meta"):
        assert not models.needs_stacked_replicas(models.build("resnet8", norm="batch"))
    with pytest.raises(ValueError, match="batch of 5 images cannot hold 4 equal groups"):
        SyncBatchNorm(3, groups=4)(torch.randn(5, 3, 2, 2))


def test_standardised_filters_have_mean_0_and_variance_1_and_the_right_gradient():
    torch.manual_seed(0)
    conv = StandardisedConv2d(4, 6, 3, groups=2, padding=1, bias=False).double()
    filters = conv.weight.detach().reshape(6, -1)
    standard = (filters - filters.mean(1, keepdim=True)) / torch.sqrt(
        filters.var(1, unbiased=False, keepdim=True) + 1e-5
    )
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    expected = F.conv2d(x, standard.view_as(conv.weight), padding=1, groups=2)
    torch.testing.assert_close(conv(x), expected, rtol=1e-10, atol=1e-10)
    weight = conv.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w: torch.func.functional_call(conv, {"weight": w}, (x,)), (weight,), fast_mode=True
    )


def test_weight_standardisation_reaches_every_convolution_that_a_norm_follows_and_no_other():
    for name in ("resnet20", "resnet50", "resnet50v2", "efficientnet_b0_g16"):
        with torch.device("meta"):
            model = models.build(name, weight_standardisation=True)
        for path, module in model.named_modules():
            if isinstance(module, torch.nn.Conv2d):
                assert isinstance(module, StandardisedConv2d) != ("squeeze_excite" in path), path


def test_batch_norm_evaluates_with_running_statistics_and_updates_them_as_torch_does():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4, eps=1e-3, momentum=0.2), torch.nn.BatchNorm2d(4, eps=1e-3, momentum=0.2)
    for _ in range(3):
        x = torch.randn(5, 4, 3, 3) + 2
        torch.testing.assert_close(ours(x), theirs(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_groups_that_do_not_divide_the_channels_name_channels_groups_and_legal_values():
    with pytest.raises(ValueError, match=r"24 channels into 16 groups.*1, 2, 3, 4, 6, 8, 12, 24"):
        GroupNorm(24, 16)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("grup", None, None, None), "Did you mean 'group'"),
        (("layer", 4, None, None), "no groups to choose"),
        (("group", None, -1.0, None), "norm_eps is -1.0"),
        (("evonorm_s0", None, None, PROXY), "set proxy_norm to false"),
        (("frn", None, None, PROXY), "set proxy_norm to false"),
    ],
)
def test_a_wrong_setting_says_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_norms(*arguments)

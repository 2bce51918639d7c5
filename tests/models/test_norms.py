import pytest
import torch
import torch.nn.functional as F

from ipu_train import models
from ipu_train.models.norms import NORMS, BatchNorm, GroupNorm, Norms, make_norms

NAMES = list(NORMS)
PROXY = {"eps": 0.03, "expectation": "quantiles", "quantiles": 200}


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


@pytest.mark.parametrize("kind", NAMES)
def test_before_an_addition_proxy_norm_leaves_the_scale_and_drops_the_shift(kind):
    if NORMS[kind].takes_proxy_norm:
        names = [n for n, _ in Norms(kind, groups=2, proxy=PROXY).before_addition(4).named_parameters()]
        assert names == ["weight"]
        site = Norms(kind, groups=2, proxy=PROXY).activated(4)
        assert [n for n, _ in site.named_parameters()] == [
            "proxy.beta",
            "proxy.gamma",
            "proxy.proxy_beta",
            "proxy.proxy_gamma",
        ]


@pytest.mark.parametrize("proxy", [None, PROXY], ids=["plain", "pn"])
@pytest.mark.parametrize("place", ["activated", "before_addition"])
@pytest.mark.parametrize("kind", NAMES)
def test_gradients_of_every_norm_equal_finite_differences(kind, place, proxy):
    if proxy and not NORMS[kind].takes_proxy_norm:
        pytest.skip("takes no Proxy Norm")
    torch.manual_seed(1)
    proxy = proxy and dict(proxy, quantiles=20)
    module = getattr(Norms(kind, groups=2, eps=1e-3, proxy=proxy), place)(4)
    module = randomise(module.double(), seed=2)
    names = [name for name, _ in module.named_parameters()]
    x = torch.randn(3, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    values = [p.detach().requires_grad_() for p in module.parameters()]
    buffers = {name: b.clone() for name, b in module.named_buffers()}

    def run(x, *values):
        state = dict(zip(names, values), **{name: b.clone() for name, b in buffers.items()})
        return torch.func.functional_call(module, state, (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize("proxy", [None, PROXY], ids=["plain", "pn"])
@pytest.mark.parametrize("kind", NAMES)
def test_an_image_alone_gives_what_it_gives_in_any_batch_exactly_when_the_norm_says_so(kind, proxy):
    if proxy and not NORMS[kind].takes_proxy_norm:
        pytest.skip("takes no Proxy Norm")
    torch.manual_seed(0)
    site = randomise(Norms(kind, groups=2, proxy=proxy).activated(4).double()).train()
    x = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    together, alone = site(x), torch.cat([site(image[None]) for image in x])
    same = torch.allclose(together, alone, rtol=1e-10, atol=1e-12)
    assert same == models.is_batch_independent(site)


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
    ],
)
def test_a_wrong_setting_says_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_norms(*arguments)

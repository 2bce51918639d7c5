"""Statistics once for each weight update train exactly as statistics in every micro-batch do."""

import copy

import pytest
import torch
import torch.nn.functional as F

from ipu_train import models
from ipu_train.models.held_statistics import HeldStatistics
from ipu_train.models.proxy_norm import ProxyNorm

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.002, alpha=0.9, eps=1e-3, momentum=0.9),
}
ACCUMULATION, REPLICAS, UPDATES = 3, 2, 3


def decay_groups(named, weight_decay=0.01):
    named = list(named)
    return [
        {
            "params": [p for n, p in named if not models.weight_decay_exempt(n, p)],
            "weight_decay": weight_decay,
        },
        {"params": [p for n, p in named if models.weight_decay_exempt(n, p)], "weight_decay": 0.0},
    ]


def train(model, optimizer, held=None):
    """UPDATES weight updates of ACCUMULATION micro-batches on each of REPLICAS replicas."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(UPDATES):
        optimizer.zero_grad(set_to_none=True)
        for _ in range(ACCUMULATION * REPLICAS):
            x = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)
            y = torch.randint(5, (4,), generator=generator)
            (F.cross_entropy(model(x), y) / (ACCUMULATION * REPLICAS)).backward()
        if held:
            held.chain_gradients()
        optimizer.step()
        if held:
            held.refresh()


@pytest.mark.parametrize(
    "name, expectation",
    [("resnet8", "quantiles"), ("resnet8", "exact"), ("efficientnet_cifar", "quantiles")],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_is_identical_to_statistics_in_every_micro_batch(name, optimizer, expectation):
    torch.manual_seed(0)
    options = {"num_classes": 5, "proxy_norm_expectation": expectation}
    if name.startswith("efficientnet"):
        options.update(width=0.25, depth=0.5, stochastic_depth=0.0)
    each = models.build(name, **options).double()
    once = copy.deepcopy(each)
    train(each, OPTIMIZERS[optimizer](decay_groups(each.named_parameters())))
    held = HeldStatistics(once)
    train(once, OPTIMIZERS[optimizer](decay_groups(held.trained_parameters())), held)
    start = models.build(name, **options).double().state_dict()
    moved = 0.0
    for key, value in each.state_dict().items():
        torch.testing.assert_close(once.state_dict()[key], value, rtol=1e-8, atol=1e-10, msg=key)
        if key.endswith("proxy_gamma"):
            moved = max(moved, (value - start[key]).abs().max().item())
    assert moved > 1e-4  # the proxies did learn


def test_the_statistics_are_computed_once_for_each_update(monkeypatch):
    torch.manual_seed(0)
    model = models.build("resnet8", num_classes=5).double()
    held = HeldStatistics(model)
    from ipu_train.models import held_statistics, proxy_norm

    calls = []
    for module in (held_statistics, proxy_norm):
        original = module.proxy_statistics
        monkeypatch.setattr(
            module,
            "proxy_statistics",
            lambda *a, original=original: calls.append(a[0].numel()) or original(*a),
        )
    train(model, OPTIMIZERS["sgd"](decay_groups(held.trained_parameters())), held)
    channels = sum(m.num_channels for m in model.modules() if isinstance(m, ProxyNorm))
    assert calls == [channels] * (2 * UPDATES)  # all sites at once, to chain and to refresh


def test_forgetting_to_chain_the_gradients_is_not_the_same():
    torch.manual_seed(0)
    each = models.build("resnet8", num_classes=5).double()
    once = copy.deepcopy(each)
    train(each, OPTIMIZERS["sgd"](decay_groups(each.named_parameters())))
    held = HeldStatistics(once)
    held.chain_gradients = lambda: None
    train(once, OPTIMIZERS["sgd"](decay_groups(held.trained_parameters())), held)
    gap = (each.norm1.proxy.proxy_beta - once.norm1.proxy.proxy_beta).abs().max()
    assert gap > 1e-5


def test_checkpoints_do_not_depend_on_whether_statistics_are_held():
    torch.manual_seed(0)
    plain = models.build("resnet8", num_classes=5)
    with torch.no_grad():
        plain.norm1.proxy.beta.normal_()
    held = models.build("resnet8", num_classes=5)
    HeldStatistics(held)
    assert list(held.state_dict()) == list(plain.state_dict())
    held.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(held(x), plain(x))
    plain.load_state_dict(held.state_dict())


def test_held_statistics_stay_in_float32_when_the_model_is_cast_to_half():
    model = models.build("resnet8")
    HeldStatistics(model)
    assert model.half().norm1.proxy.held_mean.dtype == torch.float32

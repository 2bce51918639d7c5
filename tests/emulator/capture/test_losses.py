"""Which part of torch's loss functions PopTorch marks as a loss.

poptorch, source/popart_canonicalization/LossOps.cpp and AtenHandlers.gen.cpp (createIdentityloss), and
source/RemoveSurplusIdentityLosses.cpp.
"""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

RANDOM = torch.Generator().manual_seed(0)
X = torch.randn(4, 3, generator=RANDOM)
LABELS = torch.tensor([0, 2, 1, 1])
SHARES = torch.rand(4, 3, generator=RANDOM).softmax(1)
SIGNS = torch.tensor([1.0, -1.0, 1.0, -1.0])


class Model(nn.Module):
    def __init__(self, loss, reduction=None):
        super().__init__()
        self.w, self.loss, self.reduction = nn.Parameter(torch.ones(3)), loss, reduction

    def forward(self, x, target):
        loss = self.loss(self.w * x, target)
        return loss if self.reduction is None else poptorch.identity_loss(loss, self.reduction)


def gradient(model, target, x=X):
    before = model.w.detach().clone()
    executor = poptorch.trainingModel(model, optimizer=poptorch.optim.SGD(model.parameters(), lr=1.0))
    executor(x, target)
    executor.copyWeightsToHost()
    return before - model.w.detach()


def torchs(loss, target, x=X):
    w = torch.ones(3, requires_grad=True)
    loss(w * x, target).backward()
    return w.grad


def log_shares(x, target, **arguments):
    return F.kl_div(x.log_softmax(1), target, **arguments)


WHOLE = {
    "cross_entropy": (F.cross_entropy, LABELS),
    "of images": (lambda x, t: F.cross_entropy(x[:, :, None, None], t[:, None, None]), LABELS),
    "nll_loss": (lambda x, t: F.nll_loss(x.log_softmax(1), t), LABELS),
    "mse_loss": (F.mse_loss, SHARES),
    "l1_loss": (F.l1_loss, SHARES),
    "smooth_l1_loss": (F.smooth_l1_loss, SHARES),
    "binary_cross_entropy": (lambda x, t: F.binary_cross_entropy(x.sigmoid(), t), SHARES),
    "with logits": (F.binary_cross_entropy_with_logits, SHARES),
    "kl_div": (lambda x, t: log_shares(x, t, reduction="sum"), SHARES),
    "poisson": (F.poisson_nll_loss, SHARES),
    "soft_margin_loss": (lambda x, t: F.soft_margin_loss(x[:, 0], t), SIGNS),
    "margin_ranking_loss": (lambda x, t: F.margin_ranking_loss(x[:, 0], x[:, 1], t), SIGNS),
    "triplet_margin_loss": (lambda x, t: F.triplet_margin_loss(x, t, -t), SHARES),
    "hinge_embedding_loss": (lambda x, t: F.hinge_embedding_loss(x[:, 0], t), SIGNS),
}


@pytest.mark.parametrize("name", WHOLE)
def test_losses_that_are_one_to_poptorch(name):
    loss, target = WHOLE[name]
    torch.testing.assert_close(gradient(Model(loss), target), torchs(loss, target))


UNMARKED = {
    "cross_entropy": (F.cross_entropy, SHARES),
    "multilabel_soft_margin_loss": (F.multilabel_soft_margin_loss, (SHARES > 0.3).float()),
}


@pytest.mark.parametrize("name", UNMARKED)
def test_losses_that_are_none_to_poptorch(name):
    """Class probabilities are summed by torch itself; LossOps.cpp says so of multilabel_soft_margin_loss."""
    loss, target = UNMARKED[name]
    with pytest.raises(
        poptorch.Error, match=rf"Couldn't find a loss.*{name} at \S+test_losses\.py:\d+ is composed"
    ):
        gradient(Model(loss), target)
    torch.testing.assert_close(gradient(Model(loss, "mean"), target), torchs(loss, target))


PARTIAL = {
    "kl_div": (
        lambda x, t: log_shares(x, t, reduction="batchmean"),
        SHARES,
        "kl_div within it alone .div is left",
    ),
    "cross_entropy": (
        lambda x, t: F.cross_entropy(x, t, label_smoothing=0.3, reduction="sum"),
        LABELS,
        "nll_loss_forward within it alone",
    ),
}


@pytest.mark.parametrize("name", PARTIAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_losses_that_are_more_than_one_to_poptorch_are_warned_of(name, dtype, capfd):
    """PopTorch's own losses_test.py trains with batchmean and looks at the loss, not at the gradient."""
    loss, target, why = PARTIAL[name]
    target, x = target.to(dtype) if target.is_floating_point() else target, X.to(dtype)

    def in_dtype(x, t):
        return loss(x.to(dtype), t)

    found = gradient(Model(in_dtype), target, x)
    said = "".join(capfd.readouterr())
    assert re.search(rf"{name} at \S+ is more than a loss.*{why}", said), said
    if dtype == torch.float32:
        torch.testing.assert_close(found, torchs(loss, target))
        torch.testing.assert_close(gradient(Model(loss, "mean"), target), torchs(loss, target))
        assert "more than a loss" not in "".join(capfd.readouterr())


def test_what_follows_a_loss_is_no_part_of_it():
    """PopART's loss is the marked tensor, not what is returned (popart_compiler/source/Compiler.cpp, IsLoss)."""
    found = gradient(Model(lambda x, t: F.mse_loss(x, t) * 5 + x.sum()), SHARES)
    torch.testing.assert_close(found, torchs(F.mse_loss, SHARES))

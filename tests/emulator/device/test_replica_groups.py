"""Weights that differ between groups of replicas (PopTorch 3.4 user guide, "Grouping tensor weights")."""

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch

CONSECUTIVE, ORTHOGONAL = poptorch.CommGroupType.Consecutive, poptorch.CommGroupType.Orthogonal
NONE = poptorch.CommGroupType.NoGrouping
ONE, ALL = poptorch.VariableRetrievalMode.OnePerGroup, poptorch.VariableRetrievalMode.AllReplicas


class Weighted(nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.w = nn.Parameter(torch.arange(groups * 2.0).reshape(groups, 2))
        self.shared = nn.Parameter(torch.zeros(2))
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(self.w.shape))
        return x + self.w, poptorch.identity_loss((self.w + self.shared) * x, "sum")


def wrap(model, group_type, size, mode=ONE, reduction="Mean", optimizer=None):
    chosen = poptorch.Options().replicationFactor(4)
    chosen.outputMode(poptorch.OutputMode.All)
    chosen.Training.gradientAccumulation(2)
    chosen.Training.accumulationAndReplicationReductionType(getattr(poptorch.ReductionType, reduction))
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=1.0)
    executor = poptorch.trainingModel(model, chosen, optimizer)
    executor.w.replicaGrouping(group_type, size, mode)
    return executor


@pytest.mark.parametrize(
    "group_type, size, members",
    [
        (CONSECUTIVE, 2, [[0, 1], [2, 3]]),
        (ORTHOGONAL, 2, [[0, 2], [1, 3]]),
        (NONE, 1, [[0], [1], [2], [3]]),
        (CONSECUTIVE, 4, [[0, 1, 2, 3]]),
    ],
)
@pytest.mark.parametrize("reduction", ["Mean", "Sum"])
def test_replicas_use_and_train_the_slice_of_their_group(group_type, size, members, reduction):
    model = Weighted(len(members))
    before = model.w.detach().clone()
    executor = wrap(model, group_type, size, reduction=reduction)
    x = torch.arange(16.0).reshape(8, 2)  # [A, R, 2]
    out, _ = executor(x)
    assert model.seen == [(2,)]  # forward sees one slice
    by_replica = x.view(2, 4, 2)
    group_of = {replica: g for g, group in enumerate(members) for replica in group}
    expected = torch.stack([by_replica[:, r] + before[group_of[r]] for r in range(4)], 1).reshape(8, 2)
    torch.testing.assert_close(out, expected)
    for g, group in enumerate(members):
        gradient = by_replica[:, group].sum((0, 1))
        # the mean is over A and all replicas, however many of them the group has
        gradient = gradient / 8 if reduction == "Mean" else gradient
        torch.testing.assert_close(model.w[g].detach(), before[g] - gradient)
    everything = by_replica.sum((0, 1))
    torch.testing.assert_close(
        model.shared.detach(), -(everything / 8 if reduction == "Mean" else everything)
    )


def test_retrieval_of_all_replicas():
    model = Weighted(2)
    executor = wrap(model, ORTHOGONAL, 2, ALL)
    executor(torch.zeros(8, 2))
    executor.copyWeightsToHost()
    assert model.w.tolist() == [[0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [2.0, 3.0]]
    executor.copyWeightsToDevice()  # and back
    out, _ = executor(torch.zeros(8, 2))
    torch.testing.assert_close(out[:4], model.w.detach())


def test_optimizer_state_has_the_leading_dimension():
    model = Weighted(2)
    optimizer = poptorch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    executor = wrap(model, CONSECUTIVE, 2, optimizer=optimizer)
    executor(torch.ones(8, 2))
    state = optimizer.state_dict()["ipu_state"]
    assert state["Accl1___w"].shape == (2, 2)
    assert state["Accl1___shared"].shape == (2,)


@pytest.mark.parametrize("mode", [ONE, ALL])
@pytest.mark.parametrize("name", ["Adam", "AdamW", "LAMB"])
def test_steps_have_one_value_for_each_group(name, mode):
    """PopART's ``addStateTensor`` puts the number of groups before a state's shape, the step's ``{}`` too."""
    model = Weighted(4)
    optimizer = getattr(poptorch.optim, name)(model.parameters(), lr=0.1)
    executor = wrap(model, NONE, 0, mode, optimizer=optimizer)
    executor(torch.ones(8, 2))
    state = optimizer.state_dict()
    assert state["ipu_state"]["Step___w"].tolist() == [1.0] * 4
    assert state["ipu_state"]["Step___shared"].tolist() == 1.0
    optimizer.load_state_dict(state)
    executor(torch.ones(8, 2))
    assert optimizer.state_dict()["ipu_state"]["Step___w"].tolist() == [2.0] * 4


def test_lamb_takes_the_norms_of_each_groups_slice():
    """A replica sees its own slice only, so that is what PopART's LAMB takes the norms of."""

    def trained(weight, x):
        class Alone(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(weight.clone())

            def forward(self, x):
                return poptorch.identity_loss(self.w * x, "sum")

        model = Alone()
        poptorch.trainingModel(model, optimizer=poptorch.optim.LAMB(model.parameters(), lr=0.1))(x)
        return model.w.detach().clone()

    model = Weighted(2)
    start = model.w.detach().clone() + torch.tensor([[1.0], [100.0]])
    model.w.data.copy_(start)
    wrap(model, CONSECUTIVE, 2, optimizer=poptorch.optim.LAMB(model.parameters(), lr=0.1))(torch.ones(8, 2))
    torch.testing.assert_close(
        model.w.detach(), torch.stack([trained(row, torch.full((2,), 0.5)) for row in start])
    )


class TestRefusals:
    def test_scalars_have_no_slices(self):
        class Scalar(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.ones(()))

            def forward(self, x):
                return poptorch.identity_loss(self.w * x, "sum")

        with pytest.raises(poptorch.Error, match="scalar parameters"):
            poptorch.trainingModel(Scalar()).w.replicaGrouping(CONSECUTIVE, 1, ONE)

    @pytest.mark.parametrize("size, groups", [(3, 2), (2, 3)], ids=["replicas", "slices"])
    def test_groups_must_fit_replicas_and_tensor(self, size, groups):
        with pytest.raises(poptorch.Error, match="replicaGrouping of w"):
            wrap(Weighted(groups), CONSECUTIVE, size)(torch.ones(8, 2))

    def test_a_compiled_model_keeps_its_groups(self):
        executor = wrap(Weighted(2), CONSECUTIVE, 2)
        executor(torch.ones(8, 2))
        with pytest.raises(poptorch.Error, match="before the model is compiled"):
            executor.w.replicaGrouping(CONSECUTIVE, 1, ONE)


def test_the_proxy_behaves_like_the_parameter():
    model = Weighted(2)
    proxy = poptorch.inferenceModel(model).w
    assert isinstance(proxy, nn.Parameter)
    assert proxy.shape == model.w.shape
    assert torch.equal(proxy, model.w)
    assert torch.equal(proxy + 1, model.w + 1)
    assert proxy[1, 1].item() == 3.0
    assert proxy.data_ptr() == model.w.data_ptr()
    proxy.requires_grad = False
    assert model.w.requires_grad is False

"""Gradients that forward asks for: forces, saliency, penalties; against finite differences and plain torch."""

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import FromFunction, run


def lennard_jones(x):
    """Energy of particles at ``x`` [N, 3], by smooth operations that PopTorch lowers."""
    others = x.unsqueeze(0) - x.unsqueeze(1)
    squared = others.square().sum(-1) + torch.eye(x.shape[0]).to(x.device) * 1e6
    inverse = 1.0 / (squared * squared * squared)
    return 0.5 * (4.0 * (inverse * inverse - inverse)).sum()


def positions():
    grid = torch.tensor([[0.0, 0.0, 0.0], [1.2, 0.1, 0.0], [0.1, 1.3, 0.2], [1.1, 1.2, 0.9]])
    return grid + 0.05 * torch.randn(grid.shape, generator=torch.Generator().manual_seed(0))


def energy_and_forces(x):
    x.requires_grad_()
    energy = lennard_jones(x)
    (gradient,) = torch.autograd.grad(energy, x)
    return energy, -gradient


def test_forces_are_those_of_finite_differences():
    x = positions()
    model = poptorch.inferenceModel(FromFunction(energy_and_forces))
    model(torch.zeros_like(x) + 3 * torch.eye(4, 3))  # compiled with other values
    energy, forces = model(x)
    exact = x.double()
    for i in range(4):
        for k in range(3):
            step = torch.zeros_like(exact)
            step[i, k] = 1e-5
            slope = (lennard_jones(exact + step) - lennard_jones(exact - step)) / 2e-5
            assert forces[i, k].item() == pytest.approx(-slope.item(), rel=1e-3, abs=1e-3)
    assert energy.item() == pytest.approx(lennard_jones(exact).item(), rel=1e-5)
    assert not forces.requires_grad


def test_every_device_iteration_and_replica_has_gradients_of_its_own():
    def forward(x):
        x.requires_grad_()
        return torch.autograd.grad((x * x * x).sum(), x)[0]

    options = poptorch.Options().deviceIterations(3).replicationFactor(2)
    x = torch.randn(12, 3)
    torch.testing.assert_close(poptorch.inferenceModel(FromFunction(forward), options)(x), 3 * x * x)


def test_what_backward_leaves_in_grad():
    def forward(x):
        x.requires_grad_()
        (x * x).sum().backward()
        (x * 3.0).sum().backward()
        return x.grad

    x = torch.randn(4)
    torch.testing.assert_close(run(forward, x), 2 * x + 3.0)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x):
        return torch.autograd.grad((x * self.w * self.w).sum(), self.w)


def test_gradients_of_weights_in_inference_follow_the_weights():
    module = Scaled()
    model = poptorch.inferenceModel(module)
    x = torch.randn(4, 3)
    torch.testing.assert_close(model(x)[0], 2 * x.sum(0) * module.w.detach())
    with torch.no_grad():
        module.w.mul_(2.0)
    model.copyWeightsToDevice()
    torch.testing.assert_close(model(x)[0], 2 * x.sum(0) * module.w.detach())


class Penalised(nn.Module):
    """A loss with the squared gradient of its output by its input, as in gradient penalties."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 1)

    def forward(self, x):
        x = x.clone().requires_grad_()
        out = self.second(torch.sin(self.first(x)))
        (gradient,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        loss = (out * out).mean() + gradient.square().sum(1).mean()
        return loss, poptorch.identity_loss(loss, "none")


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_gradient_penalty_trains_as_in_plain_torch(accumulation):
    torch.manual_seed(0)
    module, plain = Penalised(), Penalised()
    plain.load_state_dict(module.state_dict())
    x = torch.randn(8, 3)
    sgd = torch.optim.SGD(plain.parameters(), lr=0.1)
    options = poptorch.Options()
    options.Training.gradientAccumulation(accumulation)
    model = poptorch.trainingModel(module, options, torch.optim.SGD(module.parameters(), lr=0.1))
    for _ in range(3):
        sgd.zero_grad()
        plain(x)[0].backward()
        sgd.step()
        model(x)
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(weight, plain.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name)


def test_float16_gradients_are_float16():
    def forward(x):
        x.requires_grad_()
        return torch.autograd.grad((x.sin() * 3.0).sum(), x)[0]

    x = torch.linspace(-1, 1, 7).half()
    got = run(forward, x)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), 3.0 * x.float().cos(), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    "function, operator", [(torch.tanh, "tanh_backward"), (torch.relu, "threshold_backward")]
)
def test_a_backward_without_a_lowering_is_refused_with_its_operator(function, operator):
    def forward(x):
        x.requires_grad_()
        return torch.autograd.grad(function(x).sum(), x)[0]

    with pytest.raises(poptorch.Error, match=rf"grad at .*test_gradients.py:\d+ \(aten::{operator}\)"):
        run(forward, torch.randn(4))


def test_what_poptorch_takes_whole_passes_no_gradient():
    def forward(x):
        x.requires_grad_()
        kept = nn.functional.dropout(x, 0.5, training=False)
        return torch.autograd.grad((x * kept).sum(), x)[0]

    x = torch.randn(4)
    torch.testing.assert_close(run(forward, x), x)  # not 2 x

    def cut(x):
        x.requires_grad_()
        return torch.autograd.grad(nn.functional.max_pool2d(x, 2, 2).sum(), x)[0]

    with pytest.raises(RuntimeError, match="does not require grad"):
        run(cut, torch.randn(1, 1, 4, 4))


def test_a_model_called_without_gradients_has_none():
    with torch.no_grad(), pytest.raises(RuntimeError, match="does not require grad"):
        run(energy_and_forces, positions())


def test_what_backward_has_nothing_to_differentiate_by():
    with pytest.raises(poptorch.Error, match="backward"):
        run(lambda x: x.sum().backward() or x, torch.ones(3))

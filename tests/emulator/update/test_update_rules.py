"""The device's weight updates against torch's optimizers and formulas in float64 (PopTorch 3.4, "Optimizers")."""

import math

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch

STEPS = 5


class Quadratic(nn.Module):
    """A loss with a different gradient at every step: sum of (w * x)^2 over two weights."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(4, 3, generator=generator).to(dtype))
        self.b = nn.Parameter(torch.randn(3, generator=generator).to(dtype))

    def forward(self, x):
        return poptorch.identity_loss(((self.a + self.b) * x).pow(2), "mean")


def inputs(step):
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(100 + step))


def on_device(make):
    model = Quadratic()
    executor = poptorch.trainingModel(model, None, make(model.parameters()))
    for step in range(STEPS):
        executor(inputs(step))
    return [p.detach().double() for p in model.parameters()]


def by_torch(make):
    model = Quadratic(torch.float64)
    optimizer = make(model.parameters())
    for step in range(STEPS):
        optimizer.zero_grad()
        model(inputs(step).double()).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def by_formula(rule):
    """Apply ``rule(w, g, state, step)`` in float64 to every weight."""
    model = Quadratic(torch.float64)
    states = [{} for _ in model.parameters()]
    for step in range(STEPS):
        model.zero_grad()
        model(inputs(step).double()).backward()
        with torch.no_grad():
            for p, state in zip(model.parameters(), states):
                p.copy_(rule(p.clone(), p.grad.clone(), state, step + 1))
    return [p.detach() for p in model.parameters()]


def assert_same(got, expected):
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("Adam", {"lr": 0.1, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
        ("AdamW", {"lr": 0.1, "weight_decay": 0.1, "eps": 1e-3}),
        ("RMSprop", {"lr": 0.1, "alpha": 0.9, "weight_decay": 0.1}),
        ("RMSprop", {"lr": 0.1, "alpha": 0.9, "momentum": 0.9, "centered": True}),
    ],
)
@pytest.mark.parametrize("module", ["poptorch", "torch"])
def test_agrees_with_torch(name, arguments, module):
    source = poptorch.optim if module == "poptorch" else torch.optim
    expected = by_torch(lambda p: getattr(torch.optim, name)(p, **arguments))
    assert_same(on_device(lambda p: getattr(source, name)(p, **arguments)), expected)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
@pytest.mark.parametrize("module", [poptorch.optim, torch.optim])
def test_an_ipu_minimizes_whatever_maximize_says(name, module, caplog):
    """PopTorch's converter (_optimizer_attributes.py) reads no ``maximize``."""
    expected = by_torch(lambda p: getattr(torch.optim, name)(p, lr=0.1))
    assert_same(on_device(lambda p: getattr(module, name)(p, lr=0.1, maximize=True)), expected)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "maximize=True is ignored: IPUs minimize. Negate the loss, for its maximum"
    ]


@pytest.mark.parametrize("combined", [False, True])
def test_dampening_applies_from_the_first_step(combined):
    def rule(w, g, state, step):
        state["v"] = 0.9 * state.get("v", 0 * w) + (1 - 0.5) * g
        return w - 0.1 * state["v"]

    device = on_device(
        lambda p: poptorch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, use_combined_accum=combined)
    )
    assert_same(device, by_formula(rule))


def test_rmsprop_in_tensorflows_form():
    """Mean square from one, epsilon inside the root, the momentum buffer accumulates lr * update."""

    def rule(w, g, state, step):
        g = g + 0.1 * w
        state["s"] = 0.9 * state.get("s", torch.ones_like(w)) + 0.1 * g * g
        state["b"] = 0.8 * state.get("b", 0 * w) + 0.05 * g / torch.sqrt(state["s"] + 1e-3)
        return w - state["b"]

    device = on_device(
        lambda p: poptorch.optim.RMSprop(
            p, lr=0.05, alpha=0.9, eps=1e-3, weight_decay=0.1, momentum=0.8, use_tf_variant=True
        )
    )
    assert_same(device, by_formula(rule))


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("largest_norm", [None, 0.5])
def test_lamb(corrected, largest_norm):
    def rule(w, g, state, step):
        state["m"] = 0.9 * state.get("m", 0 * w) + 0.1 * g
        state["v"] = 0.99 * state.get("v", 0 * w) + 0.01 * g * g
        m = state["m"] / (1 - 0.9**step) if corrected else state["m"]
        v = state["v"] / (1 - 0.99**step) if corrected else state["v"]
        update = m / (v.sqrt() + 1e-6) + 0.1 * w
        norm = w.norm().clamp(max=largest_norm or math.inf)
        return w - 0.02 * norm / update.norm() * update

    device = on_device(
        lambda p: poptorch.optim.LAMB(
            p, lr=0.02, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1, bias_correction=corrected,
            max_weight_norm=largest_norm,
        )
    )  # fmt: skip
    assert_same(device, by_formula(rule))


def test_each_group_of_lamb_has_its_own_largest_norm():
    """PopTorch keeps max_weight_norm in the groups, and it alone reaches the device."""

    def rates(change=lambda optimizer: None, **limit_of_b):
        model = Quadratic()
        optimizer = poptorch.optim.LAMB(
            [{"params": [model.a]}, {"params": [model.b], **limit_of_b}], lr=0.1, max_weight_norm=0.5
        )
        change(optimizer)
        before = [p.detach().clone() for p in model.parameters()]
        poptorch.trainingModel(model, None, optimizer)(inputs(0))
        return [(p.detach() - old).norm().item() for p, old in zip(model.parameters(), before)]

    assert rates() == pytest.approx([0.05, 0.05])
    assert rates(max_weight_norm=0.01) == pytest.approx([0.05, 0.001], rel=1e-4)
    assert rates(lambda o: o.param_groups[1].update(max_weight_norm=0.01)) == pytest.approx(
        [0.05, 0.001], rel=1e-4
    )
    assert rates(lambda o: setattr(o, "max_weight_norm", 0.01)) == pytest.approx([0.05, 0.05])
    with pytest.raises(AssertionError, match="Mandatory attribute max_weight_norm"):
        rates(max_weight_norm=None)


def test_lamb_steps_plainly_where_a_norm_is_zero():
    class Zero(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return poptorch.identity_loss(self.w * x, "sum")

    model = Zero()
    executor = poptorch.trainingModel(model, None, poptorch.optim.LAMB(model.parameters(), lr=0.1))
    executor(torch.ones(2))
    torch.testing.assert_close(model.w.detach(), torch.full((2,), -0.1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_the_global_gradient_norm_is_clipped(name):
    def clipped():
        model = Quadratic(torch.float64)
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1)
        for step in range(STEPS):
            optimizer.zero_grad()
            model(inputs(step).double()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.3)
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    device = on_device(
        lambda p: getattr(poptorch.optim, name)(p, lr=0.1, max_grad_norm=0.3, loss_scaling=64.0)
    )
    assert_same(device, clipped())


def test_groups_have_their_own_values_and_absent_parameters_stay():
    model = Quadratic()
    before = model.b.detach().clone()
    optimizer = poptorch.optim.SGD([{"params": [model.a], "lr": 0.5}], lr=0.1)
    executor = poptorch.trainingModel(model, None, optimizer)
    executor(inputs(0))
    assert torch.equal(model.b.detach(), before)
    reference = Quadratic()
    reference(inputs(0)).backward()
    torch.testing.assert_close(model.a.detach(), (reference.a - 0.5 * reference.a.grad).detach())


def test_state_of_earlier_versions_is_scaled_as_it_is_now():
    """They kept SGD's velocity without the loss scaling, and the hyper-parameters of an SGD without momentum."""

    def make():
        model = Quadratic()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, loss_scaling=4.0)
        return model, optimizer, poptorch.trainingModel(model, None, optimizer)

    model, optimizer, executor = make()
    executor(inputs(0))
    weights, state = {k: v.clone() for k, v in model.state_dict().items()}, optimizer.state_dict()
    state["ipu_state"] = {name: velocity / 4 for name, velocity in state["ipu_state"].items()}
    state["ipu_param"] = {f"scaledLearningRate0___specific___{name}": torch.tensor(0.025) for name in "ab"}
    state["ipu_param"]["lossScaling_FLOAT"] = torch.tensor(4.0)
    executor(inputs(1))

    other, other_optimizer, other_executor = make()
    other.load_state_dict(weights)
    other_optimizer.load_state_dict(state)
    other_executor(inputs(1))
    for a, b in zip(model.parameters(), other.parameters()):
        assert torch.equal(a.detach(), b.detach())


def test_optimizer_state_moves_to_a_new_model_and_training_goes_on_as_before():
    def make():
        model = Quadratic()
        optimizer = poptorch.optim.Adam(model.parameters(), lr=0.1)
        return model, optimizer, poptorch.trainingModel(model, None, optimizer)

    model, optimizer, executor = make()
    for step in range(3):
        executor(inputs(step))
    weights, state = {k: v.clone() for k, v in model.state_dict().items()}, optimizer.state_dict()
    for step in range(3, 6):
        executor(inputs(step))

    other, other_optimizer, other_executor = make()
    other.load_state_dict(weights)
    other_optimizer.load_state_dict(state)
    for step in range(3, 6):
        other_executor(inputs(step))
    for a, b in zip(model.parameters(), other.parameters()):
        assert torch.equal(a.detach(), b.detach())


# PopART's include/popart/compoundscalarhelper.hpp with lr 0.1, momentum 0.9, dampening 0.2, weight decay 0.5, loss
# scaling 4, velocity scaling 2 (of combined accumulation; else it is that of the loss), gradient accumulation 3, two
# replicas
_COMPOUND = {
    "plain": {"scaledLearningRate0": 0.1 * 0.8 / (4 * 3 * 2), "weightDecayScaleFactor0": 1 - 0.1 * 0.8 * 0.5},
    "separate": {
        "scaledLearningRate2": 0.1 / 4,
        "scaledMomentum2": 0.9,
        "dampeningScaleFactor2": 0.8 / (3 * 2),
        "scaledWeightDecay1": 0.8 * 0.5 * 4,
    },
    "combined": {
        "scaledLearningRate1": 0.1 / (2 * 2),
        "scaledMomentum1": 0.9 / 2,
        "dampeningScaleFactor1": 0.8 * 2 / (4 * 3),
        "scaledWeightDecay1": 0.8 * 0.5 * 2,
    },
}


@pytest.mark.parametrize("form", _COMPOUND)
def test_optimizer_state_has_the_names_of_the_device(form):
    model = Quadratic()
    settings = {"lr": 0.1, "dampening": 0.2, "weight_decay": 0.5, "loss_scaling": 4.0}
    if form != "plain":
        settings["momentum"] = 0.9
    if form == "combined":
        settings.update(use_combined_accum=True, velocity_scaling=2.0)
    optimizer = poptorch.optim.SGD(model.parameters(), **settings)
    options = poptorch.Options().replicationFactor(2)
    options.Training.gradientAccumulation(3)
    executor = poptorch.trainingModel(model, options, optimizer)
    assert optimizer.state_dict()["ipu_state"] is None
    executor(torch.cat([inputs(0)] * 6))
    state = optimizer.state_dict()
    slots = {"plain": [], "separate": ["Accl1"], "combined": ["Accl"]}[form]
    assert sorted(state["ipu_state"]) == [f"{slot}___{name}" for slot in slots for name in "ab"]
    parameters = state["ipu_param"]
    assert parameters["lossScaling_FLOAT"].item() == 4.0
    for name, value in _COMPOUND[form].items():
        assert parameters[f"{name}___specific___a"].item() == pytest.approx(value), name
    assert len(parameters) == 1 + 2 * len(_COMPOUND[form])


def test_constant_hyper_parameters_are_no_tensors():
    """PopART makes them attributes of its operators (compoundscalarhelper.cpp, getScalarIdIfNonConst)."""
    model = Quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    executor = poptorch.trainingModel(model, None, optimizer)
    executor(inputs(0))
    names = {name.split("___")[0] for name in executor._device_optimizer.read_parameters()}
    assert names == {"lossScaling_FLOAT", "scaledLearningRate2", "scaledMomentum2"}


_OF_ALL = {"learningRate": 0.1, "weightDecay": 0.5, "lossScaling": 4.0}
_OF_ADAM = {"adamBeta1": 0.8, "adamBeta2": 0.9, "adamEps": 1e-4, "adamGradientScaling": 1 / (4 * 3 * 2)}


@pytest.mark.parametrize(
    "name, settings, expected",
    [
        ("Adam", {"betas": (0.8, 0.9)}, _OF_ADAM),
        ("LAMB", {"betas": (0.8, 0.9), "max_weight_norm": 7.0}, dict(_OF_ADAM, maxWeightNorm=7.0)),
        (
            "RMSprop",
            {"alpha": 0.7, "momentum": 0.6},
            {
                "adaptiveAlpha": 0.7,
                "adaptiveMomentum": 0.6,
                "adaptiveEps": 1e-4,
                "adaptiveGradientScaling": 1 / (4 * 3 * 2),
            },
        ),
    ],
)
def test_hyper_parameters_of_optimizers_with_moments(name, settings, expected):
    """What PopART's adam.cpp and adaptive.cpp list as inputs of the update, where it may change."""
    model = Quadratic()
    optimizer = getattr(poptorch.optim, name)(
        model.parameters(), lr=0.1, weight_decay=0.5, eps=1e-4, loss_scaling=4.0, **settings
    )
    options = poptorch.Options().replicationFactor(2)
    options.Training.gradientAccumulation(3)
    executor = poptorch.trainingModel(model, options, optimizer)
    executor(torch.cat([inputs(0)] * 6))
    found = optimizer.state_dict()["ipu_param"]
    values = {
        key.split("___")[0]: value.item() for key, value in found.items() if key.endswith("specific___a")
    }
    assert values == pytest.approx({**_OF_ALL, **expected})


def test_defaults_of_optimizers_with_moments_are_no_tensors():
    model = Quadratic()
    executor = poptorch.trainingModel(model, None, poptorch.optim.Adam(model.parameters(), lr=0.1))
    executor(inputs(0))
    names = {name.split("___")[0] for name in executor._device_optimizer.read_parameters()}
    assert names == {"lossScaling_FLOAT", "learningRate"}


def _three_steps_beside_torch(executor, model, reference, rule):
    """Trains both, which must come out alike; gives the velocity that torch's SGD has of ``a``."""
    torchs = torch.optim.SGD(reference.parameters(), **rule)
    for step in range(3):
        executor(inputs(step))
        torchs.zero_grad()
        reference(inputs(step)).backward()
        torchs.step()
    torch.testing.assert_close(model.a.detach(), reference.a.detach())
    return torchs.state[reference.a]["momentum_buffer"]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scaling", [1.0, 8.0])
def test_the_combined_velocity_is_what_the_next_update_begins_with(nesterov, scaling):
    """PopART's sgd1decompose.cpp: it starts from the weights' decay, and ends an update times the momentum, decayed."""
    model, reference = Quadratic(), Quadratic()
    start = model.a.detach().clone()
    rule = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5, "nesterov": nesterov}
    optimizer = poptorch.optim.SGD(
        model.parameters(), use_combined_accum=True, velocity_scaling=scaling, **rule
    )
    executor = poptorch.trainingModel(model, None, optimizer)
    executor.compile(inputs(0))
    begun = optimizer.state_dict()["ipu_state"]["Accl___a"]
    torch.testing.assert_close(begun, scaling * 0.5 * start)
    velocity = _three_steps_beside_torch(executor, model, reference, rule)
    left = optimizer.state_dict()["ipu_state"]["Accl___a"]
    torch.testing.assert_close(left, scaling * (0.9 * velocity + 0.5 * reference.a.detach()))


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_velocity_is_scaled_as_the_loss_is(nesterov):
    """PopTorch's CompilerImpl.cpp, getPopartOptimizer: without combined accumulation it copies the loss scaling."""
    model, reference = Quadratic(), Quadratic()
    rule = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5, "nesterov": nesterov}
    optimizer = poptorch.optim.SGD(model.parameters(), loss_scaling=48.0, **rule)
    executor = poptorch.trainingModel(model, None, optimizer)
    velocity = _three_steps_beside_torch(executor, model, reference, rule)
    torch.testing.assert_close(optimizer.state_dict()["ipu_state"]["Accl1___a"], 48 * velocity)


def test_a_float16_velocity_has_the_range_of_the_scaled_loss():
    """1e-9 is nothing in float16, 65536 times that is something."""
    model = Quadratic()
    arguments = {"lr": 0.1, "momentum": 0.9, "velocity_accum_type": torch.float16, "loss_scaling": 65536.0}
    optimizer = poptorch.optim.SGD(model.parameters(), **arguments)
    executor = poptorch.trainingModel(model, None, optimizer)
    executor(1e-4 * inputs(0))
    reference = Quadratic()
    reference(1e-4 * inputs(0)).backward()
    velocity = optimizer.state_dict()["ipu_state"]["Accl1___a"]
    assert velocity.dtype == torch.float16  # as the device has it (PopTorch's readOptimizerState)
    velocity = velocity.float()
    assert reference.a.grad.abs().max() < 3e-8  # half of float16's smallest number
    torch.testing.assert_close(velocity / 65536, reference.a.grad, rtol=2e-3, atol=1e-12)


def test_a_smaller_velocity_scaling_overestimates_the_velocity_for_a_while():
    """PopTorch's optim.py warns of it: the velocity on the device has the scaling that it was made with."""
    model = Quadratic()
    rule = {"lr": 0.1, "momentum": 0.5, "use_combined_accum": True}
    optimizer = poptorch.optim.SGD(model.parameters(), velocity_scaling=4.0, **rule)
    executor = poptorch.trainingModel(model, None, optimizer)
    executor(inputs(0))
    velocity = optimizer.state_dict()["ipu_state"]["Accl___a"]
    before = model.a.detach().clone()
    executor.setOptimizer(poptorch.optim.SGD(model.parameters(), velocity_scaling=1.0, **rule))
    reference = Quadratic()
    reference.load_state_dict(model.state_dict())
    reference(inputs(1)).backward()
    executor(inputs(1))
    torch.testing.assert_close(model.a.detach(), before - 0.1 * (velocity + reference.a.grad))


def test_set_optimizer_with_another_object_keeps_the_devices_state():
    model, reference = Quadratic(), Quadratic()
    first = poptorch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    executor = poptorch.trainingModel(model, None, first)
    executor(inputs(0))
    executor.setOptimizer(poptorch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))
    executor(inputs(1))
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9)
    for step, rate in ((0, 0.1), (1, 0.02)):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        reference(inputs(step)).backward()
        optimizer.step()
    torch.testing.assert_close(model.a.detach(), reference.a.detach())
    with pytest.raises(poptorch.Error, match="parameter groups"):
        executor.setOptimizer(poptorch.optim.SGD([{"params": [model.a]}, {"params": [model.b]}], lr=0.1))

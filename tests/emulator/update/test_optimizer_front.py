"""Optimizers before they reach the device: constructors, attributes, state, snapshots (PopTorch 3.4 API reference)."""

import copy
import inspect
import logging
import math
import pickle

import numpy as np
import pytest
import torch

from ipu_train import emulator as poptorch
from ipu_train.emulator import optim
from ipu_train.emulator.update.base import connect

OURS = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.LAMB]
TORCH = {
    optim.SGD: torch.optim.SGD,
    optim.Adam: torch.optim.Adam,
    optim.AdamW: torch.optim.AdamW,
    optim.RMSprop: torch.optim.RMSprop,
    optim.LAMB: torch.optim.Optimizer,
}
ACCUM = "accum_type first_order_momentum_accum_type second_order_momentum_accum_type"
ARGUMENTS = {
    optim.SGD: "params lr momentum dampening weight_decay nesterov maximize foreach differentiable loss_scaling "
    "velocity_scaling use_combined_accum accum_type velocity_accum_type max_grad_norm",
    optim.Adam: "params lr betas eps weight_decay amsgrad foreach maximize capturable differentiable fused "
    f"loss_scaling {ACCUM} max_grad_norm",
    optim.AdamW: "params lr betas eps weight_decay amsgrad maximize foreach capturable differentiable fused "
    f"loss_scaling bias_correction {ACCUM} max_grad_norm",
    optim.RMSprop: "params lr alpha eps weight_decay momentum centered foreach maximize differentiable "
    f"loss_scaling {ACCUM} use_tf_variant",
    optim.LAMB: f"params lr betas eps weight_decay bias_correction loss_scaling max_weight_norm {ACCUM}",
}


@pytest.fixture
def weight():
    return torch.nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))


def gradients(steps, shape=(2, 2)):
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cls", OURS)
class TestConstructors:
    def test_arguments_and_order(self, cls, weight):
        signature = inspect.signature(cls)
        assert list(signature.parameters) == ARGUMENTS[cls].split()
        for name, parameter in signature.parameters.items():
            required = name == "params" or (cls is optim.SGD and name == "lr")
            assert (parameter.default is inspect.Parameter.empty) == required
            assert required or parameter.default is None

    def test_classes(self, cls, weight):
        optimizer = cls([weight], lr=0.1)
        assert isinstance(optimizer, TORCH[cls]) and isinstance(optimizer, optim.Optimizer)

    def test_left_out_arguments_are_torchs_defaults(self, cls, weight):
        optimizer = cls([weight], lr=0.1)
        reference = torch.optim.AdamW if cls is optim.LAMB else TORCH[cls]
        for name, value in reference([weight], lr=0.1).defaults.items():
            if name in (
                "lr",
                "betas",
                "eps",
                "weight_decay",
                "momentum",
                "dampening",
                "alpha",
                "centered",
                "nesterov",
            ):
                assert optimizer.param_groups[0][name] == value
        assert optimizer.loss_scaling == 1.0
        assert optimizer.accum_type == torch.float32
        if cls not in (optim.RMSprop, optim.LAMB):
            assert optimizer.max_grad_norm == math.inf

    def test_loss_scaling_is_an_attribute_of_the_whole_optimizer(self, cls, weight):
        optimizer = cls([weight], lr=0.1, loss_scaling=128.0)
        assert optimizer.loss_scaling == 128.0
        assert "loss_scaling" not in optimizer.param_groups[0] and "loss_scaling" not in optimizer.defaults

    def test_accumulation_types_are_float16_or_float32(self, cls, weight):
        assert cls([weight], lr=0.1, accum_type=torch.float16).accum_type == torch.float16
        for name in [n for n in ARGUMENTS[cls].split() if n.endswith("accum_type")]:
            with pytest.raises(AssertionError, match="Accumulation types must be"):
                cls([weight], lr=0.1, **{name: torch.float64})

    def test_attributes_survive_copies(self, cls, weight):
        optimizer = cls([weight], lr=0.1, loss_scaling=8.0, accum_type=torch.float16)
        optimizer.variable_attrs.markAsVariable("weight_decay")
        for other in (copy.copy(optimizer), copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
            assert (other.loss_scaling, other.accum_type) == (8.0, torch.float16)
            assert not other.variable_attrs.isConstant("weight_decay")
            assert other.param_groups[0]["lr"] == 0.1
            assert other.state_dict()["ipu_state"] is None

    def test_step_updates_the_host(self, cls, weight):
        optimizer = cls([weight], lr=0.1)
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert not torch.equal(weight, before)


def test_momentum_needs_no_argument_to_be_torchs(weight):
    """SGD with every argument is torch's SGD with the same ones."""
    other = torch.nn.Parameter(weight.detach().clone())
    ours = optim.SGD([weight], 0.1, 0.9, 0.1, 0.01, False, loss_scaling=64.0)
    reference = torch.optim.SGD([other], 0.1, 0.9, 0.1, 0.01, False)
    for gradient in gradients(3):
        weight.grad, other.grad = gradient.clone(), gradient.clone()
        ours.step()
        reference.step()
    assert torch.equal(weight, other)


class TestLamb:
    def reference(
        self, weight, grads, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-6, decay=0.1, limit=math.inf, bias=True
    ):
        """Algorithm 2 of You et al. 2020, in float64."""
        w = weight.double()
        m, v = torch.zeros_like(w), torch.zeros_like(w)
        for t, g in enumerate(grads.double(), start=1):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            m_hat = m / (1 - beta1**t) if bias else m
            v_hat = v / (1 - beta2**t) if bias else v
            u = m_hat / (v_hat.sqrt() + eps) + decay * w
            ratio = 1.0
            if w.norm() > 0 and u.norm() > 0:
                ratio = min(float(w.norm()), limit) / u.norm()
            w = w - lr * ratio * u
        return w

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("limit", [None, 0.5])
    @pytest.mark.parametrize("start", [1.0, 0.0])
    def test_step(self, weight, bias, limit, start):
        weight.data.mul_(start)
        initial = weight.detach().clone()
        optimizer = optim.LAMB(
            [weight], 0.01, eps=1e-6, weight_decay=0.1, bias_correction=bias, max_weight_norm=limit
        )
        grads = gradients(4)
        for gradient in grads:
            weight.grad = gradient.clone()
            optimizer.step()
        expected = self.reference(initial, grads, bias=bias, limit=limit or math.inf)
        assert torch.allclose(weight.double(), expected, atol=1e-6)

    def test_no_limit_is_a_large_one(self, weight):
        assert optim.LAMB([weight]).max_weight_norm == 65500.0

    def test_states_of_earlier_versions_have_the_optimizers_limit(self, weight):
        """They had it on the optimizer, and not in its groups."""
        optimizer = optim.LAMB([weight], max_weight_norm=7.0)
        state = optimizer.state_dict()
        del state["param_groups"][0]["max_weight_norm"]
        optimizer.load_state_dict(state)
        assert optim.snapshot(optimizer).groups[0]["max_weight_norm"] == 7.0
        del optimizer.defaults["max_weight_norm"], optimizer.param_groups[0]["max_weight_norm"]
        assert optim.snapshot(pickle.loads(pickle.dumps(optimizer))).defaults["max_weight_norm"] == 7.0

    def test_a_limit_of_0_stops_training(self, weight):
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optim.LAMB([weight], max_weight_norm=0.0).step()
        assert torch.equal(weight, before)

    @pytest.mark.parametrize(
        "wrong", [{"lr": -1.0}, {"betas": (0.9, 1.0)}, {"eps": -1.0}, {"weight_decay": -1.0}]
    )
    def test_nonsense_is_refused(self, weight, wrong):
        with pytest.raises(ValueError):
            optim.LAMB([weight], **wrong)


class TestVelocityScaling:
    def test_is_ignored_without_combined_accumulation(self, weight, caplog):
        with caplog.at_level(logging.WARNING):
            optimizer = optim.SGD([weight], lr=0.1, velocity_scaling=8.0)
        assert "velocity_scaling" in caplog.text
        assert "velocity_scaling" not in optimizer.param_groups[0]

    def test_is_a_value_of_the_group_with_it(self, weight, caplog):
        groups = [
            {"params": [weight]},
            {"params": [torch.nn.Parameter(torch.ones(1))], "velocity_scaling": 4.0},
        ]
        optimizer = optim.SGD(groups, lr=0.1, velocity_scaling=8.0, use_combined_accum=True)
        assert [g["velocity_scaling"] for g in optimizer.param_groups] == [8.0, 4.0]
        assert optimizer.defaults["velocity_scaling"] == 8.0
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
        assert optimizer.param_groups[2]["velocity_scaling"] == 8.0
        assert optim.SGD([weight], lr=0.1, use_combined_accum=True).defaults["velocity_scaling"] == 1.0
        assert not caplog.records
        assert [g["velocity_scaling"] for g in optim.snapshot(optimizer).groups] == [8.0, 4.0, 8.0]


class TestVariableAttributes:
    def test_given_arguments_are_variable(self, weight):
        attributes = optim.SGD([weight], 0.1, momentum=0.0, loss_scaling=1.0).variable_attrs
        for name in ("lr", "momentum", "loss_scaling"):
            assert not attributes.isConstant(name)
        for name in ("weight_decay", "dampening", "max_grad_norm"):
            assert attributes.isConstant(name)

    def test_attributes_can_be_marked(self, weight):
        attributes = optim.Adam([weight]).variable_attrs
        assert attributes.isConstant("lr")
        attributes.markAsVariable("lr")
        attributes.markAsVariable("lr")
        assert attributes._variable_attributes == ["lr"]
        attributes.markAsConstant("lr")
        attributes.markAsConstant("lr")
        assert attributes.isConstant("lr")
        assert "loss_scaling" in attributes._allowed_attributes

    def test_unknown_attributes_are_refused(self, weight):
        attributes = optim.Adam([weight]).variable_attrs
        for mark in (attributes.markAsConstant, attributes.markAsVariable):
            with pytest.raises(AssertionError, match="Unknown attribute"):
                mark("momentum")


class TestState:
    STATE = {"ipu_state": {"Accl1___w": torch.ones(2)}, "ipu_param": {"lossScaling_FLOAT": torch.tensor(1.0)}}

    def test_there_is_none_before_compilation(self, weight):
        optimizer = optim.Adam([weight])
        state = optimizer.state_dict()
        assert state["ipu_state"] is None and state["ipu_param"] is None
        assert set(state) == {"state", "param_groups", "ipu_state", "ipu_param"}
        assert not optimizer.has_state()
        assert not optimizer.host_state_is_dirty and not optimizer.ipu_state_is_dirty

    def test_reading_a_stale_state_asks_the_device_once(self, weight):
        optimizer = optim.Adam([weight])
        reads = []

        def read():
            reads.append(1)
            optimizer.set_state_dict(self.STATE)

        connect(optimizer, read)
        optimizer.state_dict()
        assert not reads
        optimizer.host_state_is_dirty = True
        assert torch.equal(optimizer.state_dict()["ipu_state"]["Accl1___w"], torch.ones(2))
        optimizer.state_dict()
        assert reads == [1] and optimizer.has_state()
        assert optimizer.get_state_dict() == self.STATE

    def test_pickling_brings_the_state_along(self, weight):
        optimizer = optim.Adam([weight])
        connect(optimizer, lambda: optimizer.set_state_dict(self.STATE))
        optimizer.host_state_is_dirty = True
        other = pickle.loads(pickle.dumps(optimizer))
        assert torch.equal(other.state_dict()["ipu_state"]["Accl1___w"], torch.ones(2))

    def test_a_loaded_state_waits_for_the_device(self, weight):
        source, target = optim.Adam([weight], lr=0.5), optim.Adam([weight], lr=0.1)
        source.set_state_dict(self.STATE)
        target.load_state_dict(source.state_dict())
        assert target.ipu_state_is_dirty and target.has_state()
        assert target.param_groups[0]["lr"] == 0.5
        assert target.get_state_dict()["ipu_param"] is self.STATE["ipu_param"]

    def test_a_state_from_before_compilation_has_nothing_for_the_device(self, weight):
        optimizer = optim.Adam([weight])
        optimizer.load_state_dict(optimizer.state_dict())
        assert not optimizer.ipu_state_is_dirty

    def test_other_states_are_refused(self, weight):
        optimizer = optim.SGD([weight], lr=0.1)
        with pytest.raises(RuntimeError, match="empty"):
            optimizer.load_state_dict({})
        with pytest.raises(RuntimeError, match="Only IPU optimizer states can be loaded"):
            optimizer.load_state_dict(torch.optim.SGD([weight], lr=0.1).state_dict())

    def test_learning_rate_schedulers_work(self, weight):
        optimizer = optim.SGD([weight], lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        optimizer.step()
        scheduler.step()
        assert optim.snapshot(optimizer).groups[0]["lr"] == pytest.approx(0.01)


class TestSnapshot:
    def test_hyper_parameters_are_copied(self, weight):
        other = torch.nn.Parameter(torch.ones(1))
        optimizer = optim.SGD(
            [{"params": [weight], "weight_decay": 0.1}, {"params": [other], "lr": 0.5}],
            lr=0.1,
            momentum=0.9,
            nesterov=True,
            loss_scaling=16,
            max_grad_norm=1,
        )
        taken = optim.snapshot(optimizer)
        optimizer.param_groups[0]["lr"] = 9.0
        optimizer.loss_scaling = 9.0
        assert taken.kind == "sgd"
        first, second = taken.groups
        assert first["params"][0] is weight and second["params"][0] is other
        assert (first["lr"], first["weight_decay"], first["momentum"], first["nesterov"]) == (
            0.1,
            0.1,
            0.9,
            True,
        )
        assert (second["lr"], second["weight_decay"]) == (0.5, 0.0)
        assert taken.settings["loss_scaling"] == 16.0 and taken.settings["max_grad_norm"] == 1.0
        assert all(type(v) in (float, bool) for k, v in first.items() if k != "params")

    @pytest.mark.parametrize(
        "cls, kind",
        [*zip(OURS, ["sgd", "adam", "adamw", "rmsprop", "lamb"])]
        + [(torch.optim.SGD, "sgd"), (torch.optim.Adam, "adam"), (torch.optim.AdamW, "adamw")]
        + [(torch.optim.RMSprop, "rmsprop")],
    )
    def test_kinds(self, cls, kind, weight, caplog):
        assert optim.snapshot(cls([weight], lr=0.1)).kind == kind
        assert not caplog.records

    def test_subclasses_are_what_their_nearest_base_is_but_their_step_is_not_run(self, weight, caplog):
        class Mine(torch.optim.AdamW):
            pass

        with caplog.at_level(logging.WARNING):
            assert optim.snapshot(Mine([weight])).kind == "adamw"
        assert "does not run Python optimizer code directly" in caplog.text

    def test_other_optimizers_are_refused(self, weight):
        with pytest.raises(AssertionError, match="Unsupported optimizer type"):
            optim.snapshot(torch.optim.Adagrad([weight]))

    @pytest.mark.parametrize("cls", [optim.Adam, optim.AdamW, torch.optim.Adam, torch.optim.AdamW])
    def test_amsgrad_is_refused(self, cls, weight):
        with pytest.raises(ValueError):
            optim.snapshot(cls([weight], amsgrad=True))

    @pytest.mark.parametrize("cls", [optim.RMSprop, torch.optim.RMSprop])
    def test_rmsprop_groups_agree_on_centered(self, cls, weight):
        def groups():
            return [{"params": [weight], "centered": True}, {"params": [torch.nn.Parameter(torch.ones(1))]}]

        with pytest.raises(AssertionError):
            optim.snapshot(cls(groups()))
        assert optim.snapshot(cls(groups(), centered=True)).groups[1]["centered"]

    @pytest.mark.parametrize("source", [optim, torch.optim])
    @pytest.mark.parametrize(
        "name, value, message",
        [
            ("betas", [0.9, 0.99], r"a pair for betas but got \[0.9, 0.99\]"),
            ("betas", (0.9, 0.99, 0.999), "a pair for betas"),
            ("betas", (0.9, torch.tensor(0.99)), r"a number for betas\[1\]"),
            ("lr", torch.tensor(0.1), "a number for lr but got tensor"),
            ("lr", "0.2", "a number for lr but got '0.2'"),
            ("eps", None, "Mandatory attribute eps not found"),
        ],
    )
    def test_what_is_no_number_is_refused(self, weight, source, name, value, message):
        """PopTorch converts nothing (_optimizer_attributes.py): in groups and in their defaults alike."""
        optimizer = source.Adam([weight], lr=0.1)
        optimizer.param_groups[0][name] = value
        with pytest.raises(AssertionError, match=message):
            optim.snapshot(optimizer)
        optimizer = source.Adam([{"params": [weight], "betas": (0.9, 0.99), "lr": 0.1, "eps": 1e-8}])
        optimizer.defaults[name] = value
        with pytest.raises(AssertionError, match=message):
            optim.snapshot(optimizer)

    def test_a_loss_scaling_is_a_number(self, weight):
        with pytest.raises(AssertionError, match="a number for loss_scaling but got tensor"):
            optim.snapshot(optim.SGD([weight], lr=0.1, loss_scaling=torch.tensor(2.0)))

    def test_whole_numbers_and_those_of_numpy_are_taken(self, weight):
        optimizer = optim.Adam([weight], lr=1, eps=np.float64(1e-6), loss_scaling=2)
        optimizer.param_groups[0]["betas"] = (0, np.float32(0.5))
        group = optim.snapshot(optimizer).groups[0]
        assert (group["lr"], group["beta1"], group["beta2"], group["eps"]) == (1.0, 0.0, 0.5, 1e-6)

    def test_torchs_attributes_are_constant_where_they_have_the_default(self, weight):
        constants = optim.snapshot(torch.optim.SGD([weight], lr=1e-3, momentum=0.9, nesterov=True)).constants
        assert {"dampening", "weight_decay", "nesterov"} <= constants
        assert not {"lr", "momentum"} & constants
        constants = optim.snapshot(torch.optim.RMSprop([weight], alpha=0.5, eps=0.1)).constants
        assert "alpha" in constants and "eps" not in constants
        assert "betas" in optim.snapshot(torch.optim.Adam([weight], betas=(0.5, 0.5))).constants

    def test_changed_constants_are_found(self, weight):
        optimizer = optim.Adam([weight], lr=0.1, eps=1e-6)
        before = optim.snapshot(optimizer)
        optimizer.param_groups[0]["lr"] = 0.2
        optimizer.param_groups[0]["eps"] = 1e-5
        assert optim.changedConstants(before, optim.snapshot(optimizer)) == []
        optimizer.param_groups[0]["betas"] = (0.5, 0.5)
        optimizer.loss_scaling = 2.0
        assert optim.changedConstants(before, optim.snapshot(optimizer)) == ["betas", "loss_scaling"]

    def test_equal_values_compare_equal(self, weight):
        optimizer = optim.Adam([weight], lr=0.1)
        before = optim.snapshot(optimizer)
        assert optim.snapshot(copy.deepcopy(optimizer)).values() == before.values()
        optimizer.loss_scaling = 2.0
        assert optim.snapshot(optimizer).values() != before.values()


class TestUnexpectedAttributes:
    def test_new_ones_are_mentioned_once_and_the_first_ones_not_at_all(self, weight, caplog):
        optimizer = optim.SGD([weight], lr=0.1)
        optimizer.mine = 1
        optimizer.param_groups[0]["group_mine"] = 1
        optimizer.defaults["default_mine"] = 1
        tracker = optim.AttributeTracker()
        tracker.check(optimizer, optim.snapshot(optimizer))
        assert not caplog.records
        optimizer.late = 1
        optimizer.param_groups[0]["group_late"] = 1
        optimizer.defaults["default_late"] = 1
        for _ in range(2):
            tracker.check(optimizer, optim.snapshot(optimizer))
        assert [r.getMessage() for r in caplog.records] == [
            "Ignoring unexpected optimizer attribute in SGD2 optimizer: ['late']",
            "Ignoring unexpected default group variable in SGD2 optimizer: ['default_late']",
            "Ignoring unexpected group 0 attribute in SGD2 optimizer: ['group_late']",
        ]
        assert all(r.levelno == logging.WARNING for r in caplog.records)

    def test_they_can_be_mentioned_quietly(self, weight, caplog):
        optimizer = optim.SGD([weight], lr=0.1)
        tracker = optim.AttributeTracker(relax=True)
        tracker.check(optimizer, optim.snapshot(optimizer))
        optimizer.late = 1
        with caplog.at_level(logging.DEBUG, logger="poptorch::python"):
            tracker.check(optimizer, optim.snapshot(optimizer))
        assert [r.levelno for r in caplog.records] == [logging.DEBUG]

    @pytest.mark.parametrize(
        "cls", [*OURS, torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop]
    )
    def test_what_a_scheduler_adds_is_expected_if_it_is_made_before_the_model_is_wrapped(
        self, cls, weight, caplog
    ):
        for early in (True, False):
            tracker = optim.AttributeTracker()
            optimizer = cls([weight], lr=0.1)
            if early:
                torch.optim.lr_scheduler.StepLR(optimizer, 1)
            tracker.check(optimizer, optim.snapshot(optimizer))
            if not early:
                torch.optim.lr_scheduler.StepLR(optimizer, 1)
            tracker.check(optimizer, optim.snapshot(optimizer))
            found = [r.getMessage() for r in caplog.records]
            assert [text.split(": ")[1] for text in found] == ([] if early else ["['initial_lr']"])

    def test_a_velocity_scaling_means_nothing_without_combined_accumulation(self, weight, caplog):
        for combined in (True, False):
            tracker = optim.AttributeTracker()
            optimizer = optim.SGD([weight], lr=0.1, use_combined_accum=combined)
            tracker.check(optimizer, optim.snapshot(optimizer))
            optimizer.param_groups[0]["velocity_scaling"] = 8.0
            sent = optim.snapshot(optimizer)
            tracker.check(optimizer, sent)
            assert sent.groups[0]["velocity_scaling"] == (8.0 if combined else 1.0)
            assert bool(caplog.records) is not combined


def test_optimizers_are_found_under_poptorch():
    assert poptorch.optim.SGD is optim.SGD

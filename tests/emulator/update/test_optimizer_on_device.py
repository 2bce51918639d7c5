"""What setOptimizer sends, attributes that are constant, loss scaling (PopTorch 3.4 user guide, "Optimizers")."""

import copy
import json
import os

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch
from ipu_train.emulator.device import locks

from ..networks import Convolutional, images, options


class Line(nn.Module):
    """Loss sum(w * x), so that the gradient is x."""

    def __init__(self, size=1):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size))

    def forward(self, x):
        return poptorch.identity_loss(self.w * x, "sum")


def test_changes_take_effect_with_set_optimizer_only():
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    executor = poptorch.trainingModel(model, None, optimizer)
    executor(torch.ones(1))
    optimizer.param_groups[0]["lr"] = 10.0
    executor(torch.ones(1))
    assert model.w.item() == -2.0
    executor.setOptimizer(optimizer)
    executor(torch.ones(1))
    assert model.w.item() == -12.0


def test_before_compilation_an_optimizer_with_other_groups_may_be_set():
    """PopTorch keeps what it is given, and looks at the groups as it compiles."""
    model = Convolutional()
    weights = list(model.parameters())
    executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(weights, lr=0.1))
    two = poptorch.optim.SGD([{"params": weights[:2], "lr": 0.0}, {"params": weights[2:]}], lr=0.1)
    executor.setOptimizer(two)
    before = [weight.detach().clone() for weight in weights]
    executor(*images(4))
    same = [torch.equal(weight, old) for weight, old in zip(weights, before)]
    assert same == [True] * 2 + [False] * (len(weights) - 2)
    with pytest.raises(poptorch.Error, match="has 1 parameter groups.*compiled with has 2"):
        executor.setOptimizer(poptorch.optim.SGD(weights, lr=0.1))


class TestParametersOfTheModel:
    def test_those_of_another_module_are_refused_at_compilation(self):
        """PopTorch has a KeyError there: it looks up each parameter's storage in the model."""
        model = Line()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        twin = copy.deepcopy(model)
        executor = poptorch.trainingModel(twin, None, optimizer)
        with pytest.raises(
            KeyError, match=r"Group 0 .*shape \(1,\) that is none of the model's: make the optimizer"
        ):
            executor(torch.ones(1))
        assert not executor.isCompiled()
        executor.setOptimizer(torch.optim.SGD(twin.parameters(), lr=1.0))
        executor(torch.ones(1))
        assert twin.w.item() == -1.0

    def test_another_object_with_the_same_storage_stands_for_one(self):
        model = Line()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        model.w = nn.Parameter(model.w.data)
        executor = poptorch.trainingModel(model, None, optimizer)
        executor(torch.ones(1))
        assert model.w.item() == -1.0

    def test_frozen_ones_and_buffers_stay_as_they_are(self):
        model = Line()
        model.register_buffer("offset", torch.ones(1))
        model.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        optimizer = torch.optim.SGD([model.w, model.frozen, model.offset], lr=1.0)
        executor = poptorch.trainingModel(model, None, optimizer)
        executor(torch.ones(1))
        assert (model.w.item(), model.frozen.item(), model.offset.item()) == (-1.0, 1.0, 1.0)


class TestConstants:
    @pytest.mark.parametrize("name, value", [("momentum", 0.9), ("weight_decay", 0.1)])
    def test_an_attribute_left_at_its_default_is_compiled_in(self, name, value):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0)
        executor = poptorch.trainingModel(model, None, optimizer)
        optimizer.param_groups[0][name] = value
        executor.setOptimizer(optimizer)  # nothing is compiled yet
        executor(torch.ones(1))
        optimizer.param_groups[0][name] = 0.5
        with pytest.raises(poptorch.Error, match=f"{name} changed, but was compiled in"):
            executor.setOptimizer(optimizer)

    def test_an_attribute_marked_as_variable_may_change(self):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0)
        optimizer.variable_attrs.markAsVariable("weight_decay")
        executor = poptorch.trainingModel(model, None, optimizer)
        executor(torch.ones(1))
        optimizer.param_groups[0]["weight_decay"] = 1.0
        executor.setOptimizer(optimizer)
        executor(torch.ones(1))
        assert model.w.item() == -1.0  # -1 - (1 + 1 * -1)

    def test_a_learning_rate_marked_as_constant_may_not(self):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0)
        optimizer.variable_attrs.markAsConstant("lr")
        executor = poptorch.trainingModel(model, None, optimizer)
        executor(torch.ones(1))
        optimizer.param_groups[0]["lr"] = 2.0
        with pytest.raises(poptorch.Error, match="lr changed"):
            executor.setOptimizer(optimizer)

    def test_another_kind_of_optimizer_needs_another_compilation(self):
        model = Line()
        executor = poptorch.trainingModel(model)
        executor(torch.ones(1))
        with pytest.raises(poptorch.Error, match="compiled for sgd and cannot run adam"):
            executor.setOptimizer(poptorch.optim.Adam(model.parameters(), lr=0.1))
        with pytest.raises(poptorch.Error, match="parameter groups"):
            executor.setOptimizer(
                torch.optim.SGD([{"params": [model.w]}, {"params": [nn.Parameter(torch.ones(1))]}], lr=0.1)
            )


class TestUnknownAttributes:
    @pytest.mark.parametrize("relax", [False, True])
    def test_new_ones_are_mentioned_once_and_the_first_ones_never(self, relax, caplog):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0)
        optimizer.mine = 1
        chosen = poptorch.Options().relaxOptimizerAttributesChecks(relax)
        poptorch.logger.setLevel("DEBUG")
        try:
            with caplog.at_level("DEBUG", logger="poptorch::python"):
                executor = poptorch.trainingModel(model, chosen, optimizer)
                optimizer.other = 1
                optimizer.param_groups[0]["foo"] = 1
                optimizer.defaults["bar"] = 1
                for _ in range(2):
                    executor.setOptimizer(optimizer)
        finally:
            poptorch.setLogLevel("WARN")
        found = [r for r in caplog.records if "Ignoring unexpected" in r.getMessage()]
        assert [r.getMessage() for r in found] == [
            "Ignoring unexpected optimizer attribute in SGD2 optimizer: ['other']",
            "Ignoring unexpected default group variable in SGD2 optimizer: ['bar']",
            "Ignoring unexpected group 0 attribute in SGD2 optimizer: ['foo']",
        ]
        assert {r.levelname for r in found} == ({"DEBUG"} if relax else {"WARNING"})


class TestHalfAccumulation:
    def test_it_switches_the_executor_to_running_means(self):
        running, post = poptorch.MeanReductionStrategy.Running, poptorch.MeanReductionStrategy.Post
        key = "meanAccumulationAndReplicationReductionStrategy"
        for arguments, expected in (
            ({}, post),
            ({"accum_type": torch.float16}, running),
            ({"accum_type": torch.float16, "use_combined_accum": True}, post),
        ):
            model = Line()
            chosen = poptorch.Options()
            optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5, **arguments)
            executor = poptorch.trainingModel(model, chosen, optimizer)
            assert getattr(executor.options.Training, key) == expected
            assert getattr(chosen.Training, key) == post  # the user's stay as they are

    def test_too_late_once_compiled(self):
        model = Line()
        executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=1.0))
        executor(torch.ones(1))
        with pytest.raises(ValueError, match="is already compiled|already compiled"):
            executor.setOptimizer(poptorch.optim.SGD(model.parameters(), lr=1.0, accum_type=torch.float16))

    def test_a_running_mean_has_room_where_the_sum_overflows(self):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, accum_type=torch.float16)
        executor = poptorch.trainingModel(model, options(accumulation=4), optimizer)
        executor(torch.full((4,), 30000.0))  # the sum would be 120000
        assert model.w.item() == pytest.approx(-30000.0, rel=2**-10)

    def test_every_replica_has_an_accumulator_of_its_own(self):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, accum_type=torch.float16)
        executor = poptorch.trainingModel(model, options(replicas=2, reduction="Sum"), optimizer)
        executor(torch.tensor([2048.0, 1.0]))  # one accumulator could not hold 2049
        assert model.w.item() == -2049.0


class TestAutomaticLossScaling:
    @staticmethod
    def make(**arguments):
        model = Line(1)
        chosen = poptorch.Options()
        chosen.Training.setAutomaticLossScaling(True)
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, **arguments)
        return model, poptorch.trainingModel(model, chosen, optimizer), optimizer

    @staticmethod
    def factor(optimizer):
        return optimizer.state_dict()["ipu_state"]["lossScaleUpdateFactor"].item()

    def test_the_factor_starts_at_one_doubles_and_halves(self):
        _, executor, optimizer = self.make(loss_scaling=4.0)
        executor.compile(torch.ones(1))
        assert self.factor(optimizer) == 1.0
        for expected in (2.0, 4.0, 8.0):
            executor(torch.ones(1))
            assert self.factor(optimizer) == expected
        assert (
            optimizer.state_dict()["ipu_param"]["lossScaling_FLOAT"].item() == 4.0
        )  # the factor is a tensor apart
        executor(torch.full((1,), 5000.0))  # 160000 scaled, beyond float16
        assert self.factor(optimizer) == 4.0

    def test_a_period_of_several_updates_goes_on_in_another_process(self):
        def make():
            model = Line(1)
            chosen = poptorch.Options()
            chosen.Training.setAutomaticLossScaling(True)
            chosen._Popart.set("automaticLossScalingSettings.updatePeriod", 3)
            optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, loss_scaling=4.0)
            executor = poptorch.trainingModel(model, chosen, optimizer)
            executor.compile(torch.ones(1))
            return executor, optimizer

        executor, optimizer = make()
        executor(torch.ones(1))
        executor(torch.ones(1))
        state = optimizer.state_dict()
        executor, optimizer = make()
        optimizer.load_state_dict(state)
        executor.setOptimizer(optimizer)
        assert self.factor(optimizer) == 1.0
        executor(torch.ones(1))  # the third update of the period
        assert self.factor(optimizer) == 2.0

    def test_updates_and_losses_do_not_depend_on_it(self):
        results = []
        for automatic in (False, True):
            torch.manual_seed(0)
            model = Convolutional()
            chosen = options(2, 2)
            chosen.Training.setAutomaticLossScaling(automatic)
            optimizer = poptorch.optim.SGD(model.parameters(), lr=0.1, loss_scaling=8.0)
            executor = poptorch.trainingModel(model, chosen, optimizer)
            losses = [executor(*images(8))[1].item() for _ in range(3)]
            results.append((losses, model.conv.weight.detach().clone()))
        assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
        torch.testing.assert_close(results[0][1], results[1][1])

    def test_without_it_there_is_no_factor(self):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
        executor = poptorch.trainingModel(model, None, optimizer)
        executor(torch.ones(1))
        assert "lossScaleUpdateFactor" not in optimizer.state_dict()["ipu_state"]


class TestDevices:
    """Attaching to a certain device (PopTorch 3.4, useIpuId)."""

    @staticmethod
    def make(ipu_id):
        return poptorch.inferenceModel(nn.ReLU(), poptorch.Options().useIpuId(ipu_id))

    def test_one_executor_at_a_time(self):
        first, second, other = self.make(3), self.make(3), self.make(4)
        x = torch.ones(1)
        first(x)
        other(x)
        with pytest.raises(poptorch.Error, match="Failed to acquire"):
            second(x)
        first.detachFromDevice()
        second(x)
        with pytest.raises(poptorch.Error, match="Failed to acquire"):
            first(x)
        second.destroy()
        first(x)
        del first
        second(x)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_a_forked_process_does_not_hold_on_to_its_parents_device(self):
        assert locks.lock(7)
        begun, (read, write) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:  # such as a worker that loads images
            os.close(write)
            os.write(begun[1], b".")
            os.read(read, 1)  # until the parent closes its end
            os._exit(0)
        os.read(begun[0], 1)
        locks._let_go()  # as when the parent ends
        try:
            assert locks.lock(7)
        finally:
            locks.unlock(7)
            for descriptor in (write, read, *begun):
                os.close(descriptor)
            assert os.waitpid(child, 0)[1] == 0

    def test_an_ipu_model_takes_any_number_of_ipus_and_hardware_a_power_of_two(self, monkeypatch):
        class Three(nn.Module):
            def forward(self, x):
                for ipu in range(3):
                    with poptorch.Block(str(ipu), ipu_id=ipu):
                        x = x + 1
                return x

        def run_on(**environment):
            chosen = poptorch.Options().deviceIterations(3)
            for key, value in environment.items():
                monkeypatch.setenv(key, value)
            return poptorch.inferenceModel(Three(), chosen)(torch.zeros(3))

        with pytest.raises(poptorch.Error, match="power of 2.*autoRoundNumIPUs"):
            run_on()
        assert run_on(POPTORCH_IPU_MODEL="1").tolist() == [3.0] * 3


class TestStateThatIsLoaded:
    @staticmethod
    def make(cls, **arguments):
        model = Line(2)
        optimizer = cls(model.parameters(), lr=0.5, **arguments)
        executor = poptorch.trainingModel(model, None, optimizer)
        executor.compile(torch.ones(2))
        return model, optimizer, executor

    def test_its_hyper_parameters_are_read_back_but_those_that_were_sent_are_used(self):
        model, optimizer, executor = self.make(poptorch.optim.SGD)
        state = optimizer.state_dict()
        key = "scaledLearningRate0___specific___w"
        state["ipu_param"][key] = torch.tensor(4.0)
        optimizer.load_state_dict(state)
        executor(torch.ones(2))
        assert model.w.tolist() == [-0.5, -0.5]
        assert optimizer.state_dict()["ipu_param"][key].item() == 4.0
        optimizer.param_groups[0]["lr"] = 1.0
        executor.setOptimizer(optimizer)
        executor(torch.ones(2))
        assert model.w.tolist() == [-1.5, -1.5]
        assert optimizer.state_dict()["ipu_param"][key].item() == 1.0

    def test_what_the_state_lacks_keeps_its_value_on_the_device(self):
        _, optimizer, executor = self.make(poptorch.optim.Adam, weight_decay=0.25)
        state = optimizer.state_dict()
        del state["ipu_param"]["weightDecay___specific___w"]
        state["ipu_param"]["learningRate___specific___w"] = torch.tensor(2.0)
        optimizer.load_state_dict(state)
        assert "weightDecay___specific___w" not in optimizer.state_dict()["ipu_param"]
        executor(torch.ones(2))
        found = optimizer.state_dict()["ipu_param"]
        assert found["weightDecay___specific___w"].item() == 0.25
        assert found["learningRate___specific___w"].item() == 2.0

    def test_what_the_state_lacks_is_named(self, caplog):
        """PopTorch's writeOptimizerState warns of each."""
        _, optimizer, executor = self.make(poptorch.optim.Adam, weight_decay=0.25)
        state = optimizer.state_dict()
        del state["ipu_param"]["weightDecay___specific___w"], state["ipu_state"]["Step___w"]
        optimizer.load_state_dict(state)
        executor(torch.ones(2))
        assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
            "writeOptimizerState: ignoring missing state Step___w",
            "writeOptimizerState: ignoring missing parameter weightDecay___specific___w",
        ]

    def test_weights_trained_since_are_not_lost(self):
        model, optimizer, executor = self.make(poptorch.optim.SGD)
        executor(torch.ones(2))
        optimizer.load_state_dict(optimizer.state_dict())
        executor(torch.ones(2))
        assert model.w.tolist() == [-1.0, -1.0]

    @pytest.mark.parametrize("again", ["same executor", "another executor"])
    @pytest.mark.parametrize("name, arguments", [("SGD", {"momentum": 0.5}), ("Adam", {}), ("RMSprop", {})])
    def test_what_was_learned_before_a_model_is_compiled_again_is_kept(self, name, arguments, again):
        """PopTorch's destroy() reads the state, and _on_device_attach() writes what an optimizer has."""
        kept, optimizer, executor = self.make(getattr(poptorch.optim, name), **arguments)
        model, other, through = self.make(getattr(poptorch.optim, name), **arguments)
        for one in (executor, through):
            one(torch.tensor([1.0, 3.0]))
        executor.destroy()
        if again == "another executor":
            executor = poptorch.trainingModel(kept, optimizer=optimizer)
        for one in (executor, through):
            one(torch.tensor([2.0, 1.0]))
        assert kept.w.tolist() == model.w.tolist()
        found, expected = optimizer.state_dict()["ipu_state"], other.state_dict()["ipu_state"]
        assert {key: value.tolist() for key, value in found.items()} == {
            key: value.tolist() for key, value in expected.items()
        }

    def test_an_optimizer_that_comes_back_brings_its_state(self):
        """PopTorch's setOptimizer() reads the old one's state, and writes what a new one has."""
        model, first, executor = self.make(poptorch.optim.SGD, momentum=0.5)
        executor(torch.ones(2))
        second = poptorch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
        executor.setOptimizer(second)
        executor(torch.ones(2))  # goes on with what the device has: a new one has no state
        executor.setOptimizer(first)
        assert second.state_dict()["ipu_state"]["Accl1___w"].tolist() == [1.5, 1.5]
        executor(torch.zeros(2))
        assert first.state_dict()["ipu_state"]["Accl1___w"].tolist() == [0.5, 0.5]

    @pytest.mark.parametrize("momentum", [None, 0.0])
    def test_a_momentum_that_may_change_has_its_velocity_from_the_start(self, momentum):
        _, optimizer, _ = self.make(poptorch.optim.SGD, momentum=momentum)
        assert list(optimizer.state_dict()["ipu_state"]) == ([] if momentum is None else ["Accl1___w"])


class TestWhatIsLogged:
    @pytest.fixture
    def messages(self, caplog):
        caplog.set_level("DEBUG", logger="poptorch::python")
        yield lambda: [r.getMessage() for r in caplog.records]
        poptorch.setLogLevel("WARN")

    def test_an_update_names_values_and_constants_once_for_each_change(self, messages):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=0.25, momentum=0.5, loss_scaling=2.0)
        executor = poptorch.trainingModel(model, None, optimizer)
        executor(torch.ones(1))
        executor.setOptimizer(optimizer)  # as before
        updates = [text for text in messages() if text.startswith("Updating")]
        assert len(updates) == 2
        assert updates[0].startswith("Updating graph optimizer with SGD2, ")
        assert updates[1].startswith("Updating group 0 optimizer with SGD2, ")
        for text in (
            "defaultLearningRate=0.25,",
            "defaultMomentum=0.5,",
            "defaultDampening=0 (const),",
            "lossScaling=2,",
        ):
            assert f" {text}" in updates[0]
        # without combined accumulation the velocity is scaled like the loss
        for text in (
            "learningRate=0.25,",
            "weightDecay=0 (const),",
            "velocityScaling=2,",
            "accumType=float32",
        ):
            assert f" {text}" in updates[1]
        optimizer.param_groups[0]["lr"] = 0.125
        executor.setOptimizer(optimizer)
        updates = [text for text in messages() if text.startswith("Updating")]
        assert " learningRate=0.125," in updates[-1] and len(updates) == 4

    @pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
    def test_one_of_torch_and_one_of_poptorch_that_mean_the_same_are_no_update(self, messages, name):
        """PopTorch compares what it sends (tests/optimizers_test.py, test_variable_default)."""
        model = Line()
        executor = poptorch.trainingModel(
            model, None, getattr(torch.optim, name)(model.parameters(), lr=0.25)
        )
        executor(torch.ones(1))
        found = [text for text in messages() if text.startswith("Updating")]
        executor.setOptimizer(getattr(poptorch.optim, name)(model.parameters(), lr=0.25))
        executor(torch.ones(1))
        assert [text for text in messages() if text.startswith("Updating")] == found

    def test_state_is_read_once_for_each_run(self, messages):
        model = Line()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=0.25)
        executor = poptorch.trainingModel(model, None, optimizer)
        executor(torch.ones(1))
        for _ in range(2):
            optimizer.state_dict()
        found = [text for text in messages() if "optimiser state" in text]
        assert found == [
            "Writing optimiser state tensors from IPU to host.",
            "Using cached optimiser state dict",
        ]


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda w: torch.optim.SGD(w, lr=1.0), ["SGD0VarUpdate"]),
        (lambda w: poptorch.optim.SGD(w, lr=1.0, momentum=0.5), ["SGD2Combo", "SGD2VarUpdate"]),
        (lambda w: torch.optim.AdamW(w), ["AdamUpdater", "AdamVarUpdate"]),
    ],
)
def test_the_intermediate_representation_ends_in_the_weight_update(make, expected):
    model = Line()
    executor = poptorch.trainingModel(model, None, make(model.parameters()))
    executor.compile(torch.ones(1))
    operators = json.loads(executor._debugGetPopartIR())["maingraph"]
    assert [op["type"] for op in operators][-len(expected) :] == expected
    assert operators[-1]["outputs"][0]["name"] == "UpdatedVar___w"

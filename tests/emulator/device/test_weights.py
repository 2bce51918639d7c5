"""The device's weights are a copy; when and how they come home (PopTorch 3.4 user guide, PoplarExecutor)."""

import copy
import io

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import Convolutional, WithLoss, images, options


def count_copies(executor):
    """Replace the executor's copyWeightsToHost by one that counts, as users do."""
    calls = []
    original = executor.copyWeightsToHost

    def counting():
        calls.append(1)
        original()

    executor.copyWeightsToHost = counting
    return calls


@pytest.mark.parametrize(
    "touch",
    [
        lambda m: m.state_dict(),
        lambda m: next(iter(m.named_parameters()))[1].sum(),
        lambda m: m.conv.weight.data,
        lambda m: torch.equal(m.conv.weight, torch.zeros(8, 3, 3, 3)),
        lambda m: m(torch.zeros(1, 3, 6, 6)),
        lambda m: copy.deepcopy(m),
        lambda m: torch.save(m.state_dict(), io.BytesIO()),
    ],
    ids=["state_dict", "named_parameters", "data", "equal", "call", "deepcopy", "save"],
)
def test_touching_the_module_brings_the_weights_home_exactly_once(trained, touch):
    model, executor, before = trained
    calls = count_copies(executor)
    touch(model)
    touch(model)
    assert len(calls) == 1
    assert not torch.equal(model.conv.weight.detach(), before)
    executor(*images(4))
    touch(model)
    assert len(calls) == 2


def test_training_alone_copies_nothing(trained):
    _, executor, _ = trained
    calls = count_copies(executor)
    for _ in range(3):
        executor(*images(4))
    assert calls == []


def test_copy_if_needed_tells_whether_it_copied(trained):
    model, _executor, _ = trained
    assert model.copyWeightsToHostIfNeeded() is True
    assert model.copyWeightsToHostIfNeeded() is False


def test_the_parameter_objects_stay_the_same(trained):
    model, executor, _ = trained
    identity = id(model.conv.weight)
    executor.copyWeightsToHost()
    assert id(model.conv.weight) == identity
    assert isinstance(model.conv.weight, nn.Parameter)


def test_host_edits_reach_the_device_only_when_uploaded():
    model = nn.Linear(2, 2)
    executor = poptorch.inferenceModel(model)
    x = torch.ones(1, 2)
    before = executor(x)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.fill_(7.0)
    torch.testing.assert_close(executor(x), before)
    executor.copyWeightsToDevice()
    torch.testing.assert_close(executor(x), torch.full((1, 2), 7.0))


def test_load_state_dict_of_the_executor_uploads_and_the_modules_own_does_not():
    model = nn.Linear(2, 2)
    executor = poptorch.inferenceModel(model)
    x = torch.ones(1, 2)
    before = executor(x)
    new = {k: torch.zeros_like(v) for k, v in model.state_dict().items()}
    model.load_state_dict(new)
    torch.testing.assert_close(executor(x), before)
    executor.load_state_dict(new)
    torch.testing.assert_close(executor(x), torch.zeros(1, 2))


def test_an_inference_executor_follows_training_without_explicit_copies(trained):
    model, executor, _ = trained
    model.eval()
    inference = poptorch.inferenceModel(model)
    x = images(4)[0]
    for _ in range(2):
        executor(*images(4))
        device = inference(x)
        torch.testing.assert_close(device, model(x).detach())


def test_another_module_with_the_same_weights_takes_them_over_when_it_is_attached(trained):
    model, executor, _ = trained
    model.eval()
    inference = poptorch.inferenceModel(nn.Sequential(model))
    x = images(4)[0]
    torch.testing.assert_close(inference(x), model(x).detach())  # compiling attaches it
    before = inference(x)
    executor(*images(4))
    assert torch.equal(inference(x), before)
    assert not torch.equal(model(x).detach(), before)  # fetched by reading the module
    inference.detachFromDevice()
    torch.testing.assert_close(inference(x), model(x).detach())


@pytest.mark.parametrize("method", ["copyWeightsToHost", "copyWeightsToDevice"])
def test_copies_need_a_compiled_model(method):
    executor = poptorch.trainingModel(Convolutional())
    with pytest.raises(poptorch.Error, match=r"Model has not been compiled or has been destroyed\."):
        getattr(executor, method)()


@pytest.mark.parametrize("method", ["copyWeightsToHost", "copyWeightsToDevice", "copyNamedBuffersToDevice"])
def test_copies_need_the_device(trained, method):
    model, executor, _ = trained
    executor.detachFromDevice()
    with pytest.raises(poptorch.Error, match=f"{method}.* runs a program on the device.*detached"):
        getattr(executor, method)()
    at_home = model.linear.weight.clone()
    assert executor.copyWeightsToHostIfNeeded() is False  # detaching has fetched them
    executor.attachToDevice()
    executor.copyWeightsToHost()
    assert torch.equal(model.linear.weight, at_home)


def test_wrapping_twice_is_refused_until_destroyed(trained):
    model, _executor, _ = trained
    with pytest.raises(RuntimeError, match="already been wrapped"):
        poptorch.trainingModel(model)
    model.destroy()
    assert type(model) is Convolutional
    assert type(model.conv.weight) is nn.Parameter
    poptorch.trainingModel(model)


def test_destroy_brings_weights_home_and_allows_recompiling(trained):
    model, executor, before = trained
    executor.destroy()
    assert not executor.isCompiled()
    assert not torch.equal(model.conv.weight, before)
    executor(*images(6))


def test_a_model_that_is_compiled_again_shows_trained_weights_and_cannot_be_destroyed_twice(trained):
    """PopTorch wraps parameters again (rewrapModelIfNecessary), but not the module, of which it runs a copy."""
    model, executor, _ = trained
    executor.destroy()
    between = model.conv.weight.detach().clone()
    executor(*images(6))
    assert type(model) is Convolutional
    assert not torch.equal(model.conv.weight, between)
    weight = model.conv.weight.detach().clone()
    with pytest.raises(poptorch.Error, match="model was never wrapped"):
        executor.destroy()
    assert not executor.isCompiled()
    assert type(model.conv.weight) is nn.Parameter
    assert torch.equal(model.conv.weight, weight)


def test_destroying_the_module_destroys_what_was_compiled(trained):
    model, executor, _ = trained
    model.destroy()
    assert not executor.isCompiled()
    with torch.no_grad():
        model.conv.weight.zero_()
    executor(*images(6))  # compiled from the weights as they are now
    assert model.conv.weight.abs().max() < 1


class TestWhatIsLogged:
    @pytest.fixture
    def messages(self, caplog):
        caplog.set_level("DEBUG", logger="poptorch::python")

        def take():
            found = [record.getMessage() for record in caplog.records]
            caplog.clear()
            return [text for text in found if text.startswith(self.TRANSFERS)]

        return take

    TRANSFERS = ("Writing", "Reading", "Setting random", "Setting RNG", "Detached", "Implicit")

    def test_every_transfer(self, messages, tmp_path):
        """The lines of PopTorch's Compiler.cpp, which its tests/weights_writing_test.py looks for."""
        model = Convolutional()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=0.01)
        executor = poptorch.trainingModel(model, poptorch.Options().randomSeed(42), optimizer)
        executor(*images(1))
        assert messages() == [WEIGHTS_UP, "Setting random seed to: 42"]
        executor.save(str(tmp_path / "saved"))
        assert sorted(messages()) == [
            "Implicit copyWeightsToHost()", "Reading RNG state", "Reading random seed", STATE_HOME, WEIGHTS_HOME,
        ]  # fmt: skip
        loaded = poptorch.load(str(tmp_path / "saved"))
        assert messages() == [WEIGHTS_UP, STATE_UP, "Setting random seed to: 42", *RANDOM_UP]
        loaded(*images(1))
        assert messages() == []
        loaded.detachFromDevice()
        assert sorted(messages()) == [
            "Detached from device", "Implicit copyWeightsToHost()", "Reading RNG state", "Reading random seed",
            STATE_HOME, WEIGHTS_HOME,
        ]  # fmt: skip
        loaded(*images(1))
        assert messages() == [WEIGHTS_UP, STATE_UP, *RANDOM_UP]

    def test_without_a_device_nothing_moves(self, messages, tmp_path):
        model = Convolutional()
        options = poptorch.Options().randomSeed(42).useOfflineIpuTarget()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=0.01)
        executor = poptorch.trainingModel(model, options, optimizer)
        executor.compile(*images(1))
        executor.save(str(tmp_path / "saved"))
        assert messages() == []
        loaded = poptorch.load(str(tmp_path / "saved"))
        assert messages() == [
            WEIGHTS_UP,
            *["Setting random seed to: 42"] * 2,
        ]  # the options', and the saved one
        del loaded


WEIGHTS_UP, WEIGHTS_HOME = "Writing weights from host to IPU memory.", "Writing weights from IPU to host."
STATE_UP = "Writing optimiser state tensors from host to IPU memory."
STATE_HOME = "Writing optimiser state tensors from IPU to host."
RANDOM_UP = ["Setting random seed to: 42", "Setting RNG state"]


def test_a_tied_weight_is_one_variable_and_stays_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return poptorch.identity_loss(self.b(self.a(x)), "sum")

    torch.manual_seed(0)
    model = Tied()
    reference = copy.deepcopy(model)
    executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=0.1))
    executor(torch.ones(2, 3))
    by_hand = torch.optim.SGD(reference.parameters(), lr=0.1)
    reference(torch.ones(2, 3)).backward()
    by_hand.step()
    assert model.a.weight is model.b.weight
    torch.testing.assert_close(model.a.weight.detach(), reference.a.weight.detach())


def test_an_updated_buffer_differs_between_replicas_and_is_refused_unless_allowed():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(1))

        def forward(self, x):
            self.total += x.sum()
            return x * 1

    x = torch.tensor([[1.0], [10.0]])
    with pytest.raises(
        poptorch.Error,
        match=r"does not support broadcasting buffers.*poptorch\.Options\.broadcastBuffers\(False\)",
    ):
        poptorch.inferenceModel(Counting(), poptorch.Options().replicationFactor(2))(x)
    model = Counting()
    allowed = poptorch.inferenceModel(model, poptorch.Options().replicationFactor(2).broadcastBuffers(False))
    allowed(x)
    allowed.copyWeightsToHost()
    assert model.total.item() == 1.0  # replica 0's own


def test_named_buffers_are_uploaded_alone():
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("a", torch.zeros(1))
            self.register_buffer("b", torch.zeros(1))

        def forward(self, x):
            return x + self.a + self.b

    model = Shift()
    executor = poptorch.inferenceModel(model, poptorch.Options().updatableNamedBuffers(["a"]))
    executor(torch.zeros(1))
    model.a.fill_(1.0)
    model.b.fill_(10.0)
    executor.copyNamedBuffersToDevice()
    assert executor(torch.zeros(1)).item() == 1.0
    plain = poptorch.inferenceModel(Shift())
    plain(torch.zeros(1))
    with pytest.raises(poptorch.Error, match="updatableNamedBuffers"):
        plain.copyNamedBuffersToDevice()
    misspelt = poptorch.inferenceModel(Shift(), poptorch.Options().updatableNamedBuffers(["a", "c"]))
    with pytest.raises(poptorch.Error, match="the model has no buffer c"):
        misspelt(torch.zeros(1))


def test_attach_uploads_what_the_host_has():
    model = nn.Linear(1, 1)
    executor = poptorch.inferenceModel(model)
    x = torch.ones(1, 1)
    executor(x)
    with pytest.raises(poptorch.Error, match="already attached"):
        executor.attachToDevice()
    executor.detachFromDevice()
    with pytest.raises(poptorch.Error, match="Device is not attached"):
        executor.detachFromDevice()
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(1.0)
    assert executor(x).item() == 3.0  # a call on a detached executor attaches it again


def test_an_offline_executor_compiles_but_does_not_run():
    executor = poptorch.inferenceModel(nn.Linear(1, 1), poptorch.Options().useOfflineIpuTarget())
    executor.compile(torch.ones(1, 1))
    assert executor.isCompiled()
    assert not executor.isAttachedToDevice()
    with pytest.raises(AssertionError, match="offline device"):
        executor(torch.ones(1, 1))


def test_inference_with_gradient_accumulation_is_refused_when_wrapped():
    with pytest.raises(poptorch.Error, match="gradientAccumulation to 1"):
        poptorch.inferenceModel(Convolutional(), options(1, 2))


def test_options_of_another_type_are_refused():
    with pytest.raises(poptorch.Error, match="Invalid type: 'options'"):
        poptorch.inferenceModel(Convolutional(), {"deviceIterations": 2})


def test_the_executor_keeps_a_frozen_copy_and_the_user_keeps_default():
    chosen = poptorch.Options()
    executor = poptorch.inferenceModel(Convolutional(), chosen)
    assert chosen.defaultOutputMode()
    assert executor.options.output_mode == poptorch.OutputMode.All
    with pytest.raises(AttributeError, match="frozen"):
        chosen.deviceIterations(2)


def test_compile_hooks_run_around_every_compilation():
    """Also around one that fails: PopTorch calls those that come after in a ``finally``."""
    order = []

    class Failing(nn.Module):
        def forward(self, x):
            order.append("forward")
            raise ValueError("of the program")

    before = poptorch.registerPreCompileHook(lambda: order.append("before"))
    after = poptorch.registerPostCompileHook(lambda: order.append("after"))
    try:
        executor = poptorch.inferenceModel(nn.Linear(1, 1))
        executor.compile(torch.ones(1, 1))
        with pytest.raises(ValueError, match="of the program"):
            poptorch.inferenceModel(Failing())(torch.ones(1, 1))
    finally:
        before.remove()
        after.remove()
    poptorch.inferenceModel(nn.Linear(1, 1))(torch.ones(1, 1))
    assert order == ["before", "after", "before", "forward", "after"]
    with pytest.raises(RuntimeError, match="must be callable"):
        poptorch.registerPreCompileHook(3)


class TestLookUps:
    """Unknown attributes of an executor are the module's."""

    def test_attributes_methods_and_state_dict(self, trained):
        model, executor, _ = trained
        assert executor.linear is model.linear
        assert list(executor.state_dict()) == list(model.state_dict())
        assert len(list(executor.parameters())) == len(list(model.parameters()))
        executor.eval()
        assert not model.training
        with pytest.raises(AttributeError, match="nothing"):
            executor.nothing  # noqa: B018

    def test_two_training_executors_of_one_module_share_nothing_but_the_host(self):
        model = nn.Linear(2, 2)
        first, second = poptorch.inferenceModel(model), poptorch.inferenceModel(model)
        x = torch.ones(1, 2)
        before = first(x)
        second(x)
        with torch.no_grad():
            model.weight.zero_()
        second.copyWeightsToDevice()
        assert torch.equal(first(x), before)
        assert torch.equal(second(x)[0], model.bias.detach())

    def test_a_deep_copy_of_a_trained_module_trains_on_its_own(self, trained):
        model, executor, _ = trained
        twin = copy.deepcopy(model)
        other = poptorch.trainingModel(twin, None, poptorch.optim.SGD(twin.parameters(), lr=0.1))
        x, labels = images(4)
        assert executor(x, labels)[1].item() == pytest.approx(other(x, labels)[1].item(), rel=1e-6)
        for a, b in zip(model.parameters(), twin.parameters()):
            torch.testing.assert_close(a.detach(), b.detach())
        other(x, labels)
        assert not torch.equal(model.linear.weight.detach(), twin.linear.weight.detach())

    def test_private_names_that_programs_use(self, trained):
        model, executor, _ = trained
        assert executor._user_model is model
        assert executor._executable
        assert poptorch._impl.isWrapped(model)
        assert poptorch._impl._restoreWrapperIfNecessary(model) is model
        executor.destroy()
        assert executor._executable is None
        assert not poptorch._impl.isWrapped(model)


def test_an_inference_model_follows_the_training_model_that_was_there_before_it(trained):
    model, executor, _ = trained
    inference = poptorch.inferenceModel(model)
    x, labels = images(4)
    for _ in range(2):
        executor(x, labels)
        torch.testing.assert_close(inference(x), copy.deepcopy(model)(x))


def test_an_inference_model_made_first_keeps_the_weights_that_it_was_sent(caplog):
    """In PopTorch it runs a copy of the module from before the wrapping, which knows of no training."""
    torch.manual_seed(0)
    model = Convolutional()
    inference = poptorch.inferenceModel(model)
    executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=0.1))
    x, labels = images(4)
    executor(x, labels)
    sent = copy.deepcopy(model)(x)
    torch.testing.assert_close(inference(x), sent)  # compiled only now
    assert "keeps those" not in caplog.text
    for _ in range(2):
        executor(x, labels)
        torch.testing.assert_close(inference(x), sent)
    assert caplog.text.count("keeps those") == 1
    for send in (inference.copyWeightsToDevice, inference.attachToDevice):
        executor(x, labels)
        if send == inference.attachToDevice:
            inference.detachFromDevice()
        executor.copyWeightsToHost()
        send()
        torch.testing.assert_close(inference(x), copy.deepcopy(model)(x))
    assert caplog.text.count("keeps those") == 1


def test_an_inference_model_takes_what_a_dropped_training_model_left():
    torch.manual_seed(0)
    model = Convolutional()
    executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
    inference = poptorch.inferenceModel(model)
    x, labels = images(4)
    first = inference(x)
    executor(x, labels)
    executor.copyWeightsToHost()
    del executor
    assert not torch.equal(inference(x), first)
    torch.testing.assert_close(inference(x), copy.deepcopy(model)(x))


def test_an_inference_model_of_a_part_keeps_the_weights_it_has(caplog):
    """A part of a module in training has no wrapper class of its own, which an inference model would ask."""
    torch.manual_seed(0)
    model = WithLoss(nn.Linear(2, 2))
    executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
    inference = poptorch.inferenceModel(model.network)
    x, labels = torch.randn(4, 2), torch.randn(4, 2)
    executor(x, labels)
    sent = inference(x)  # compiled with what was trained so far
    torch.testing.assert_close(sent, model.network(x))
    assert not caplog.text
    for _ in range(2):
        executor(x, labels)
        assert torch.equal(inference(x), sent)
    assert caplog.text.count("keeps those") == 1
    executor.copyWeightsToHost()
    inference.copyWeightsToDevice()
    torch.testing.assert_close(inference(x), model.network(x))

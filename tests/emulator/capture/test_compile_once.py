"""forward runs once as Python sees it; afterwards a static graph runs (PopTorch 3.4 user guide, tracing)."""

import collections
import copy
import io
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import Convolutional, FromFunction, images, run


def test_python_side_effects_happen_once_for_each_compilation():
    calls = []

    def forward(x):
        calls.append(1)
        return x + len(calls)

    executor = poptorch.inferenceModel(FromFunction(forward), poptorch.Options().deviceIterations(4))
    for _ in range(3):
        torch.testing.assert_close(executor(torch.zeros(8)), torch.ones(8))
    assert len(calls) == 1
    executor.destroy()
    executor(torch.zeros(8))
    assert len(calls) == 2


def test_branches_on_python_values_are_frozen():
    flag = {"double": True}
    executor = poptorch.inferenceModel(FromFunction(lambda x: x * 2 if flag["double"] else x))
    executor(torch.ones(2))
    flag["double"] = False
    torch.testing.assert_close(executor(torch.ones(2)), torch.full((2,), 2.0))


def test_training_mode_is_frozen_at_compilation():
    class Doubling(nn.Module):
        def forward(self, x):
            return x * 2 if self.training else x

    model = nn.Sequential(Doubling())
    model.eval()
    executor = poptorch.inferenceModel(model)
    torch.testing.assert_close(executor(torch.ones(4)), torch.ones(4))
    model.train()
    torch.testing.assert_close(executor(torch.ones(4)), torch.ones(4))


def test_a_tensor_attribute_that_is_no_buffer_is_a_constant():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.i = torch.zeros(1)

        def forward(self, x):
            self.i = self.i + 1
            return x + self.i

    executor = poptorch.inferenceModel(Counter())
    assert [executor(torch.zeros(1)).item() for _ in range(3)] == [1.0, 1.0, 1.0]


def test_a_constant_that_forward_updates_in_place_starts_anew_in_every_run():
    class Offset(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.offset = torch.tensor([1.0, 2.0])

        def forward(self, x):
            self.offset += 1
            self.offset[0] *= 10
            out = self.scale * x + self.offset
            return out, poptorch.identity_loss(out, reduction="sum")

    model = Offset()
    device = poptorch.trainingModel(
        model, poptorch.Options().deviceIterations(3).outputMode(poptorch.OutputMode.All)
    )
    for _ in range(2):
        out, _ = device(torch.zeros(3, 2))
        assert torch.equal(out, torch.tensor([[20.0, 3.0]] * 3).reshape(out.shape))
    assert torch.equal(model.offset, torch.tensor([20.0, 3.0]))  # Python updated it once, while compiling


def test_a_buffer_updated_in_place_persists_on_the_device():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("i", torch.zeros(1))

        def forward(self, x):
            self.i += 1
            return x + self.i

    model = Counter()
    executor = poptorch.inferenceModel(model)
    assert [executor(torch.zeros(1)).item() for _ in range(3)] == [1.0, 2.0, 3.0]
    assert model.i.item() == 0.0  # inference brings buffers home only when asked
    executor.copyWeightsToHost()
    assert model.i.item() == 3.0


def test_an_indexed_assignment_updates_a_buffer_on_the_device_in_every_run():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(2))

        def forward(self, x):
            self.seen[0] = x[0]
            self.seen[1] += x[0]
            return x + self.seen

    model = Last()
    device = poptorch.inferenceModel(model)
    for x, expected in ((1.0, [2.0, 2.0]), (2.0, [4.0, 5.0]), (3.0, [6.0, 9.0])):
        assert device(torch.full((2,), x)).tolist() == expected
    assert model.seen.tolist() == [0.0, 0.0]
    device.copyWeightsToHost()
    assert model.seen.tolist() == [3.0, 6.0]


@pytest.mark.parametrize("kind", ["reassigned", "removed"])
def test_a_buffer_that_is_replaced_or_deleted_is_refused_and_the_host_is_intact(kind):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("i", torch.zeros(1))

        def forward(self, x):
            y = x + self.i
            if kind == "reassigned":
                self.i = self.i + 1
            else:
                del self.i
            return y

    model = Model()
    buffer = model.i
    with pytest.raises(
        poptorch.Error, match=f"Buffer i is {kind} (within|from) the model when calling the forward"
    ):
        poptorch.inferenceModel(model)(torch.zeros(1))
    assert model.i is buffer
    assert model.i.item() == 0.0
    with pytest.raises(poptorch.Error, match=r"Buffer 1\.i is "):  # named as in the state dict
        poptorch.inferenceModel(nn.Sequential(nn.ReLU(), model))(torch.zeros(1))


def test_tensors_are_on_the_ipu_inside_forward_and_on_the_cpu_outside():
    seen = {}

    def forward(x):
        made = torch.ones(2, device=x.device)
        seen.update(device=made.device.type, text=repr(made), running=poptorch.isRunningOnIpu())
        return x + made

    assert run(forward, torch.zeros(2)).device.type == "cpu"
    assert seen["device"] == "ipu"
    assert seen["running"] is True
    assert poptorch.isRunningOnIpu() is False
    assert "1." not in seen["text"]
    assert "ipu" in seen["text"]


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.tolist(),
        lambda x: int(x.sum()),
        lambda x: x.numpy(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
    ],
    ids=["item", "bool", "tolist", "int", "numpy", "nonzero", "boolean_index"],
)
def test_what_needs_values_cannot_be_compiled(use):
    def forward(x):
        use(x)
        return x

    with pytest.raises(poptorch.Error, match=r"test_compile_once\.py:\d+"):
        run(forward, torch.ones(3))


def test_a_cpu_tensor_from_outside_is_refused_as_an_operand():
    outside = torch.ones(2)
    with pytest.raises(poptorch.Error, match="Expected an IPU tensor"):
        run(lambda x: x + outside, torch.zeros(2))


def test_what_happens_among_cpu_tensors_alone_happens_on_the_cpu():
    start, scale = torch.tensor([1]), torch.tensor(0.5)

    def forward(x):
        size = (start + 1) * 2
        factor = 3.0 if bool(scale < 1) else 4.0
        return x[start : start + size] * factor + scale.mul(2).item()

    torch.testing.assert_close(run(forward, torch.arange(8.0)), torch.arange(1.0, 5.0) * 3 + 1)


def test_a_cpu_tensor_moved_to_the_ipu_is_a_constant():
    outside = torch.ones(2)
    executor = poptorch.inferenceModel(
        FromFunction(lambda x: (x + (outside * 3 + 1).to(x.device), outside.to(x.device).add_(x)))
    )
    for x in (torch.zeros(2), torch.ones(2)):
        added, updated = executor(x)
        torch.testing.assert_close(added, x + 4.0)
        torch.testing.assert_close(updated, x + 1.0)
    assert torch.equal(outside, torch.ones(2))
    outside.fill_(9.0)
    torch.testing.assert_close(executor(torch.ones(2))[0], torch.full((2,), 5.0))


def test_what_concerns_cpu_tensors_alone_is_computed_once_while_compiling():
    uniform = torch.distributions.Uniform(0.0, 1.0)  # its bounds are CPU tensors

    def forward(x):
        assert uniform.sample().device.type == "cpu"
        assert torch.zeros(2, device="cpu").tolist() == [0.0, 0.0]
        return x + uniform.sample().to(x.device)

    executor = poptorch.inferenceModel(FromFunction(forward))
    first = executor(torch.zeros(1))
    assert 0 < first < 1
    assert torch.equal(executor(torch.zeros(1)), first)


def test_an_output_that_stayed_on_the_cpu_comes_back_as_it_is():
    outside = torch.ones(2)
    with pytest.warns(UserWarning, match="Output expected to be on the IPU"):
        out, kept = run(lambda x: (x + 1, outside), torch.zeros(2))
    assert kept is outside
    torch.testing.assert_close(out, torch.ones(2))


def test_non_tensors_and_structure_pass_through():
    out = run(lambda x, n: {"a": [x * n, (x, None)], "b": "text"}, torch.ones(2), 3)
    torch.testing.assert_close(out["a"][0], torch.full((2,), 3.0))
    assert out["a"][1][1] is None
    assert out["b"] == "text"
    assert run(lambda x: None, torch.ones(1)) is None


def test_an_input_updated_in_place_is_updated_for_the_caller():
    x = torch.zeros(3)
    run(lambda t: t.add_(1), x)
    torch.testing.assert_close(x, torch.ones(3))


def test_reading_several_results_of_one_call():
    def forward(x):
        values, indices = x.max(dim=1)
        first, second = x.chunk(2, dim=1)
        named = x.sort(dim=1)
        return values, indices, first, second, named.values

    x = torch.randn(4, 6)
    values, indices, first, second, ordered = run(forward, x)
    torch.testing.assert_close(values, x.max(1).values)
    assert indices.dtype == torch.int32
    torch.testing.assert_close(indices.long(), x.max(1).indices)
    torch.testing.assert_close(torch.cat([first, second], 1), x)
    torch.testing.assert_close(ordered, x.sort(1).values)


def test_inference_mode_of_the_caller_does_not_reach_the_device():
    model = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    with torch.inference_mode():
        executor = poptorch.inferenceModel(model)
        executor.compile(x)
        torch.testing.assert_close(executor(x.clone()), model(x))
    trained = poptorch.trainingModel(Convolutional())
    before = trained.linear.weight.clone()
    with torch.inference_mode():
        trained(*images(2))
    assert not torch.equal(trained.linear.weight, before)


def test_in_place_and_indexed_assignment():
    def forward(x):
        y = x.clone()
        y[0] = 5.0
        y[1:] += x[1:]
        return y

    torch.testing.assert_close(run(forward, torch.tensor([1.0, 2.0, 3.0])), torch.tensor([5.0, 4.0, 6.0]))


def test_no_grad_regions_cut_gradients():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

        def forward(self, x):
            with torch.no_grad():
                cut = x * self.a
            return poptorch.identity_loss(cut + x * self.b, "sum")

    model = Model()
    executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=1.0))
    executor(torch.ones(1))
    assert model.a.item() == 1.0
    assert model.b.item() == 0.0


def test_user_errors_propagate_and_the_model_stays_usable():
    state = {"fail": True}
    model = Convolutional()
    before = {k: v.clone() for k, v in model.state_dict().items()}

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x, labels):
            if state["fail"]:
                raise KeyError("mine")
            return self.inner(x, labels)

    executor = poptorch.trainingModel(Wrapper())
    with pytest.raises(KeyError, match="mine"):
        executor(*images(4))
    assert not executor.isCompiled()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    state["fail"] = False
    executor(*images(4))


class TestArguments:
    """Matching arguments to forward, and what a compiled model refuses (PopTorch 3.4)."""

    def test_defaults_and_keywords_mean_the_same_call(self):
        executor = poptorch.inferenceModel(FromSignature())
        x = torch.ones(2)
        for result in (executor(x), executor(x, None), executor(x=x), executor(x, y=None)):
            torch.testing.assert_close(result, x)

    @pytest.mark.parametrize(
        "args, kwargs, error, message",
        [
            ((1, 2, 3), {}, AssertionError, "Too many arguments"),
            ((torch.ones(1),), {"z": 1}, AssertionError, "Unknown keyword"),
            ((torch.ones(1),), {"x": torch.ones(1)}, AssertionError, "provided twice"),
            ((), {"y": None}, poptorch.Error, "Mandatory parameter x missing"),
            ((torch.ones(0),), {}, poptorch.Error, "Zero-sized tensors are unsupported"),
        ],
    )
    def test_calls_that_do_not_fit_the_signature(self, args, kwargs, error, message):
        with pytest.raises(error, match=message):
            poptorch.inferenceModel(FromSignature())(*args, **kwargs)

    @pytest.mark.parametrize(
        "first, second, message",
        [
            (torch.ones(1), torch.ones(2), r"Shape mismatch for x: expected torch.Size\(\[1\]\) but got"),
            (torch.ones(1), torch.ones(1).long(), "Data type mismatch for x: expected torch.float32 but got"),
            (torch.ones(1), [torch.ones(1)], "Type mismatch for x"),
            ((torch.ones(1),), (torch.ones(1), torch.ones(1)), "Length mismatch for x"),
            ([torch.ones(1)], [torch.ones(2)], r"Shape mismatch for x\[0\]"),
            ({"a": torch.ones(1)}, {"b": torch.ones(1)}, "Keys mismatch for x.*Missing arguments: a"),
            ({"a": torch.ones(1)}, {"a": torch.ones(2)}, r"Shape mismatch for x\[a\]"),
        ],
    )
    def test_a_later_call_must_be_like_the_first(self, first, second, message):
        executor = poptorch.inferenceModel(FromFunction2())
        executor(first)
        with pytest.raises(poptorch.Error, match=message):
            executor(second)

    def test_a_changed_value_is_refused(self):
        executor = poptorch.inferenceModel(FromSignature())
        executor(torch.ones(1), 5)
        with pytest.raises(poptorch.Error, match="Value mismatch for y: expected 5 but got 3"):
            executor(torch.ones(1), 3)

    @pytest.mark.parametrize("call", [1, 2])
    def test_what_cannot_be_compared_is_no_value_to_compile_in(self, call):
        # PopTorch: Args.validateInputs compares at the first call, too, and numpy raises ValueError
        executor = poptorch.inferenceModel(FromFunction(lambda x, y: x * float(y[0])))
        if call == 2:
            executor.compile(torch.ones(1), np.array([1.0, 2.0]))
        with pytest.raises(
            ValueError, match=r"args\[1\] is a numpy.ndarray, whose values cannot be compared"
        ):
            executor(torch.ones(1), np.array([1.0, 2.0]))

    def test_dictionaries_warn_once_and_their_order_is_of_no_account(self, caplog):
        executor = poptorch.inferenceModel(FromFunction(lambda d: d["a"] - d["b"]))
        a, b = torch.full((1,), 3.0), torch.ones(1)
        with caplog.at_level("WARNING", logger="poptorch::python"):
            assert executor({"a": a, "b": b}).item() == 2.0
            assert executor({"b": b, "a": a}).item() == 2.0
        assert caplog.text.count("partially supported") == 1

    def test_containers_keep_their_type_inside_forward(self):
        Point = collections.namedtuple("Point", "x y")
        seen = []

        def forward(point, items, ordered):
            seen.append((type(point), type(items), type(ordered), list(ordered)))
            return Point(point.x + items[0], [ordered["b"], (point.y,)])

        one = torch.ones(1)
        out = run(forward, Point(one, one), [one], collections.OrderedDict([("b", one), ("a", one)]))
        assert seen == [(Point, list, collections.OrderedDict, ["b", "a"])]
        assert type(out) is Point
        assert type(out.y) is list
        assert type(out.y[1]) is tuple

    def test_dicts_that_forward_returns_keep_their_type_and_attributes(self):
        class Results(collections.OrderedDict):
            note = ""

        def forward(x):
            results = Results(b=x + 1, a=[x])
            results.note = "kept"
            return results

        executor = poptorch.inferenceModel(FromFunction(forward))
        first, second = executor(torch.zeros(1)), executor(torch.ones(1))
        assert type(second) is Results and list(second) == ["b", "a"] and second.note == "kept"
        assert (first["b"].item(), second["b"].item(), second["a"][0].item()) == (1.0, 2.0, 1.0)

    def test_the_training_flag_of_the_wrapped_module_itself_is_read_when_it_is_wrapped(self):
        class Model(nn.Module):
            def forward(self, x):
                return x + (1 if self.training else 2)

        module = Model().train()
        executor = poptorch.inferenceModel(module)
        module.eval()
        assert executor(torch.zeros(1)).item() == 1.0
        other = poptorch.inferenceModel(module)
        other.model.train()
        assert not module.training
        assert other(torch.zeros(1)).item() == 1.0

    def test_keyword_only_parameters_do_not_count_as_positional(self):
        class Model(nn.Module):
            def forward(self, a, *more, flag=None, scale=1, **rest):
                return a * scale + sum(more)

        executor = poptorch.inferenceModel(Model())
        one = torch.ones(1)
        assert executor(one, one, one, scale=2).item() == 4.0
        with pytest.raises(poptorch.Error, match="positional .* expected 3 arguments but got 2"):
            executor(one, one, scale=2)

    def test_inputs_that_are_not_contiguous_or_require_grad(self, caplog, monkeypatch):
        from ipu_train.emulator import _args_parser

        monkeypatch.setattr(_args_parser, "_warned_contiguous", False)
        x = torch.arange(6.0).view(2, 3)
        executor = poptorch.inferenceModel(FromFunction(lambda t: t * 2))
        with caplog.at_level("WARNING", logger="poptorch::python"):
            for _ in range(2):
                torch.testing.assert_close(executor(x.t()), 2 * x.t())
        assert caplog.text.count("not contiguous") == 1
        caplog.clear()
        with caplog.at_level("WARNING", logger="poptorch::python"):
            assert not executor(torch.ones(3, 2, requires_grad=True)).requires_grad
        assert "requires_grad=True" in caplog.text

    def test_variadic_arguments(self):
        executor = poptorch.inferenceModel(FromFunction(lambda *a, **k: a[0] + a[1] + k["c"]))
        one = torch.ones(1)
        assert executor(one, one, c=one).item() == 3.0
        with pytest.raises(poptorch.Error, match="expected 2 arguments but got 3"):
            executor(one, one, one, c=one)
        with pytest.raises(poptorch.Error, match="Unexpected arguments: d"):
            executor(one, one, c=one, d=one)

    def test_a_registered_type_is_taken_apart(self):
        class Pair:
            def __init__(self, a, b):
                self.a, self.b = a, b

        class PairParser(poptorch.ICustomArgParser):
            def yieldTensors(self, struct):
                yield struct.a
                yield struct.b

            def reconstruct(self, original, tensors):
                return Pair(next(tensors), next(tensors))

        poptorch.registerCustomArgParser(Pair, PairParser())
        try:
            out = run(lambda p: p.a - p.b, Pair(torch.ones(1) * 3, torch.ones(1)))
            assert out.item() == 2.0
        finally:
            poptorch.registerCustomArgParser(Pair, None)
        with pytest.raises(poptorch.Error):
            poptorch.registerCustomArgParser(Pair, object())


class FromSignature(nn.Module):
    def forward(self, x, y=None):
        return x * 1


class FromFunction2(nn.Module):
    def forward(self, x):
        if isinstance(x, dict):
            x = list(x.values())
        return x[0] * 1 if isinstance(x, (list, tuple)) else x * 1


class TestNumericTypes:
    @pytest.mark.parametrize(
        "dtype, returned",
        [
            (torch.float32, torch.float32),
            (torch.float16, torch.float16),
            (torch.float64, torch.float32),
            (torch.int64, torch.int32),
            (torch.int32, torch.int32),
            (torch.int16, torch.int16),
            (torch.int8, torch.int8),
            (torch.uint8, torch.uint8),
            (torch.bool, torch.bool),
        ],
    )
    def test_dtypes_that_come_back(self, dtype, returned):
        out = run(lambda x: x.clone(), torch.ones(2).to(dtype))
        assert out.dtype == returned
        assert out.float().tolist() == [1.0, 1.0]

    @pytest.mark.parametrize("swap", [False, True])
    def test_half_with_float_operands_gives_float(self, swap):
        h, f = torch.ones(2).half(), torch.ones(2)
        out = run(lambda a, b: a + b, f if swap else h, h if swap else f)
        assert out.dtype == torch.float32

    @pytest.mark.parametrize("half_input", [False, True])
    def test_the_activation_decides_for_weighted_operations(self, half_input):
        layer = nn.Conv2d(3, 4, 3, bias=False)
        layer = layer if half_input else layer.half()
        x = torch.randn(2, 3, 5, 5)
        out = poptorch.inferenceModel(layer)(x.half() if half_input else x)
        assert out.dtype == (torch.float16 if half_input else torch.float32)

    def test_dtype_reads_as_the_device_has_it(self):
        seen = []

        def forward(x, n):
            seen.extend(
                [x.dtype, n.dtype, (x + 1.0).dtype, x.float().dtype, torch.zeros(2, dtype=torch.half).dtype]
            )
            return x

        run(forward, torch.ones(1).half(), torch.ones(1).long())
        assert seen == [torch.float16, torch.int32, torch.float16, torch.float32, torch.float16]


def coins(x):
    return torch.bernoulli(x * 0.5)


def test_draws_differ_between_calls_and_replicas_and_repeat_with_the_seed():
    def masks(seed):
        chosen = poptorch.Options().replicationFactor(2)
        chosen.randomSeed(seed)
        executor = poptorch.inferenceModel(FromFunction(coins), chosen)
        return [executor(torch.ones(64)) for _ in range(2)]

    first, again, other = masks(7), masks(7), masks(8)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0][:32], first[0][32:])


def test_hooks_of_the_wrapped_module_itself_run():
    model = nn.ReLU()
    poptorch.BeginBlock(model, ipu_id=0)
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    model.register_forward_hook(lambda module, inputs, output: output * 10)
    assert poptorch.inferenceModel(model)(torch.ones(1)).item() == 20.0


def test_distributions_draw_on_the_device():
    def forward(x):
        normal = torch.distributions.Normal(x, torch.ones_like(x)).sample()
        return (
            normal,
            torch.distributions.Bernoulli(torch.sigmoid(x)).sample(),
            torch.distributions.Uniform(2.0, 3.0),
        )

    def sampled(x):
        normal, coin, uniform = forward(x)
        return normal, coin, uniform.sample((1000,)) + 0 * x

    validates = torch.distributions.Distribution._validate_args
    executor = poptorch.inferenceModel(FromFunction(sampled))
    normal, coin, uniform = executor(torch.zeros(1000))
    assert abs(normal.mean().item()) < 6 / 1000**0.5
    assert abs(coin.mean().item() - 0.5) < 3 / 1000**0.5
    assert uniform.min() >= 2.0
    assert uniform.max() <= 3.0
    assert not torch.equal(executor(torch.zeros(1000))[0], normal)
    assert torch.distributions.Distribution._validate_args is validates


def test_the_hosts_random_state_is_not_consumed():
    executor = poptorch.inferenceModel(FromFunction(coins))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    executor(torch.ones(8))
    torch.testing.assert_close(torch.rand(4), expected)


def test_gpus_that_nothing_has_run_on_keep_the_hosts_seed(monkeypatch):
    """torch notes it until they are first used."""
    seeds = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    executor = poptorch.inferenceModel(FromFunction(coins))
    torch.manual_seed(3)
    executor(torch.ones(8))
    executor(torch.ones(8))
    assert seeds == [3]


def test_rng_state_restores_the_stream():
    executor = poptorch.inferenceModel(FromFunction(coins))
    x = torch.ones(64)
    executor(x)
    state = executor.rng_state
    first = executor(x)
    executor.rng_state = state
    assert torch.equal(executor(x), first)
    assert all(isinstance(value, int) for value in state)


@pytest.mark.parametrize("kind", ["copy", "pickle", "save"])
def test_outputs_can_be_copied_and_pickled_and_have_no_backward(kind):
    out = run(lambda x: x * 2, torch.ones(2))
    if kind == "copy":
        again = copy.deepcopy(out)
    elif kind == "pickle":
        again = pickle.loads(pickle.dumps(out))
    else:
        stream = io.BytesIO()
        torch.save(out, stream)
        stream.seek(0)
        again = torch.load(stream)
    assert type(again) is torch.Tensor
    assert torch.equal(again, out)
    for tensor in (out, again):
        with pytest.raises(poptorch.Error, match=r"backward\(\) cannot be called explicitly"):
            tensor.backward()


def test_losses_of_a_batch_of_one_are_scalars():
    out = run(lambda x: F.mse_loss(x, torch.zeros_like(x)), torch.ones(1, 4))
    assert out.shape == ()

"""for_loop and cond (PopTorch 3.4 user guide, "Looping and conditional execution")."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import FromFunction, run


def test_a_loop_feeds_outputs_back():
    def forward(x, y):
        return poptorch.for_loop(10, lambda a, b: (a + b, b * 2), [x, y])

    a, b = run(forward, torch.ones(3), torch.full((3,), 0.5))
    expected_a, expected_b = torch.ones(3), torch.full((3,), 0.5)
    for _ in range(10):
        expected_a, expected_b = expected_a + expected_b, expected_b * 2
    torch.testing.assert_close(a, expected_a)
    torch.testing.assert_close(b, expected_b)


def test_a_loop_body_runs_once_as_python_sees_it_and_reads_outer_tensors_and_weights():
    calls = []
    linear = nn.Linear(4, 4)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear

        def forward(self, x, shift):
            doubled = shift * 2

            def body(y):
                calls.append(1)
                return self.linear(y) + doubled

            return poptorch.for_loop(3, body, [x])[0]

    executor = poptorch.inferenceModel(Model())
    for _ in range(2):
        x, shift = torch.randn(2, 4), torch.randn(2, 4)
        expected = x
        for _ in range(3):
            expected = linear(expected) + 2 * shift
        torch.testing.assert_close(executor(x, shift), expected.detach())
    assert calls == [1]


def test_loop_inputs_are_passed_by_value():
    def forward(x):
        y = x * 1
        out = poptorch.for_loop(2, lambda t: t.add_(1), [y])
        return out[0], y

    out, y = run(forward, torch.zeros(2))
    assert out.tolist() == [2.0, 2.0]
    assert y.tolist() == [0.0, 0.0]


def test_loops_may_be_nested_and_run_no_times():
    def inner(t):
        return poptorch.for_loop(3, lambda u: u + 1, [t])[0]

    assert run(lambda x: poptorch.for_loop(4, inner, [x])[0], torch.zeros(1)).item() == 12.0
    assert run(lambda x: poptorch.for_loop(0, inner, [x])[0], torch.zeros(1)).item() == 0.0


@pytest.mark.parametrize("inputs", ["tuple", "number"])
def test_loop_inputs_must_be_a_list_of_tensors(inputs):
    wrong = (torch.ones(1),) if inputs == "tuple" else [torch.ones(1), 1.0]
    problem = (
        "Object is not list"
        if inputs == "tuple"
        else "Object contained in list at index 1 is not torch.tensor"
    )
    with pytest.raises(ValueError, match=problem):
        poptorch.for_loop(1, lambda x: x, wrong)


@pytest.mark.parametrize("body", [lambda x: (x, x), lambda x: torch.cat([x, x])], ids=["number", "shape"])
def test_loop_outputs_must_match_inputs(body):
    with pytest.raises(poptorch.Error, match="for_loop"):
        run(lambda x: poptorch.for_loop(2, body, [x]), torch.ones(2))


@pytest.mark.parametrize("function", ["for_loop", "cond"])
def test_training_models_have_no_loops_and_no_branches(function):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x):
            if function == "for_loop":
                y = poptorch.for_loop(2, lambda t: t * self.w, [x])[0]
            else:
                y = poptorch.cond(x.sum() > 0, lambda t: t, [x], lambda t: -t, [x])[0]
            return poptorch.identity_loss(y, "sum")

    with pytest.raises(poptorch.Error, match=rf"{function}\(\) is only supported in inference"):
        poptorch.trainingModel(Model())(torch.ones(1))


def test_a_condition_is_decided_at_every_execution():
    def forward(condition, x):
        return poptorch.cond(condition, lambda t: t + 10, [x], lambda t: t - 10, [x])[0]

    executor = poptorch.inferenceModel(FromFunction(forward))
    x = torch.zeros(1)
    yes, no = torch.tensor([True]), torch.tensor([False])
    assert [executor(c, x).item() for c in (yes, no, no, yes)] == [10.0, -10.0, -10.0, 10.0]


def test_a_condition_is_evaluated_directly_on_the_cpu():
    out = poptorch.cond(torch.tensor(True), lambda t: t * 2, [torch.ones(1)], lambda t: t, [torch.ones(1)])
    assert out[0].item() == 2.0


def test_branch_inputs_are_passed_by_value():
    def forward(c, x):
        y = x * 1
        out = poptorch.cond(c, lambda t: t.add_(5), [y], lambda t: t, [y])[0]
        return out, y

    out, y = run(forward, torch.tensor([True]), torch.zeros(1))
    assert (out.item(), y.item()) == (5.0, 0.0)


def test_branches_must_have_the_same_number_of_outputs():
    with pytest.raises(poptorch.Error, match="same number of outputs"):
        run(lambda x: poptorch.cond(x.sum() > 0, lambda t: (t, t), [x], lambda t: t, [x]), torch.ones(1))


@pytest.mark.parametrize("taken", [True, False])
def test_outputs_take_the_shapes_of_the_else_branch(taken):
    """PopTorch reshapes those of the other (AddSubgraphConnectionNodes.cpp, ``markCondOutputs``)."""

    def forward(c, x):
        return poptorch.cond(c, lambda t: t.flatten() * 2, [x], lambda t: t + 1, [x])[0] * torch.ones(2, 3)

    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(run(forward, torch.tensor([taken]), x), x * 2 if taken else x + 1)


@pytest.mark.parametrize(
    "then_body, else_body, problem",
    [
        (lambda t: t.sum(), lambda t: t.mean(), "empty shape"),
        (lambda t: t, lambda t: t.mean(), "empty shape"),
        (lambda t: t[:1], lambda t: t, r"\(1,\) float32, that of else_body \(2,\) float32"),
        (lambda t: t.int(), lambda t: t, "int32, that of else_body .* float32"),
        (lambda t: t, lambda t: t.half(), "float32, that of else_body .* float16"),
    ],
    ids=["scalars", "scalar", "elements", "integers", "half"],
)
def test_outputs_that_the_branches_cannot_share_are_refused(then_body, else_body, problem):
    """PopART copies the outputs of both branches to one tensor (ifx.cpp, ``IfOpx::copyOutputs``)."""
    with pytest.raises(poptorch.Error, match=problem):
        run(lambda x: poptorch.cond(x.sum() > 0, then_body, [x], else_body, [x])[0], torch.ones(2))


@pytest.mark.parametrize("position", [0, 1])
def test_branch_inputs_must_be_lists(position):
    inputs = [[torch.ones(1)], [torch.ones(1)]]
    inputs[position] = (torch.ones(1),)
    with pytest.raises(ValueError, match="list of tensors"):
        poptorch.cond(torch.tensor(True), lambda t: t, inputs[0], lambda t: t, inputs[1])


def _adds(outer, x):
    outer.add_(x)


def _adds_by_operator(outer, x):
    outer += x


def _adds_to_a_view(outer, x):
    outer[0:1].add_(x[0:1])


def _assigns_an_element(outer, x):
    outer[0] = x[0]


@pytest.mark.parametrize("write", [_adds, _adds_by_operator, _adds_to_a_view, _assigns_an_element])
@pytest.mark.parametrize("branching", [False, True])
def test_a_body_cannot_change_a_tensor_outside_of_it(write, branching):
    def forward(x):
        outer = x * 1

        def body(y):
            write(outer, y)
            return y + 1

        if branching:
            z = poptorch.cond(x.sum() > 0, body, [x], lambda y: y - 1, [x])[0]
        else:
            z = poptorch.for_loop(2, body, [x])[0]
        return outer + z

    with pytest.raises(
        poptorch.Error, match=r"outside of it in place.* at .*test_control_flow\.py:\d+"
    ) as refused:
        poptorch.inferenceModel(FromFunction(forward))(torch.ones(2))
    line = int(str(refused.value).split("test_control_flow.py:")[1].split(".")[0].split(",")[0])
    first = write.__code__.co_firstlineno
    assert line == first + 1


def test_a_body_may_change_what_it_made_and_what_it_was_given():
    def forward(x):
        outer = x * 1

        def body(y):
            made = outer * 2
            made[0] = 7
            made[1:].add_(y[1:])
            y += made
            return y

        return poptorch.for_loop(2, body, [x])[0], outer

    result, outer = poptorch.inferenceModel(FromFunction(forward))(torch.tensor([1.0, 2.0]))
    # 1 + 7 + 7; 2 + (4 + 2) = 8, 8 + (4 + 8) = 20
    assert result.tolist() == [15.0, 20.0] and outer.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "body",
    [
        lambda model, x: lambda a: a + F.relu(x, True),
        lambda model, x: lambda a: a + F.dropout(x, 0.5, True, True),
        lambda model, x: lambda a: model.norm(a),
    ],
)
@pytest.mark.parametrize("branch", [False, True])
def test_hidden_changes_of_outer_tensors_are_refused_with_their_line(body, branch):
    """Functions with inplace=True, and the running statistics of a batch norm in training mode."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            if branch:
                return poptorch.cond(x.sum() > 0, body(self, x), [x * 1], lambda a: a, [x])
            return poptorch.for_loop(2, body(self, x), [x * 1])

    with pytest.raises(poptorch.Error, match=r"outside of it in place: \w+ at .*test_control_flow.py:\d+"):
        poptorch.inferenceModel(Model().train())(torch.randn(4, 3))


def test_statistics_that_a_body_would_update_through_a_function_are_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("var", torch.ones(3))

        def forward(self, x):
            return poptorch.for_loop(2, lambda a: F.batch_norm(a, self.mean, self.var, training=True), [x])

    with pytest.raises(poptorch.Error, match="outside of it in place: batch_norm at"):
        poptorch.inferenceModel(Model())(torch.randn(4, 3))


def test_what_a_body_does_to_its_own_tensors_in_place_is_fine():
    x = torch.tensor([[-1.0, 2.0]])
    out, same = run(lambda x: (poptorch.for_loop(2, lambda a: F.relu(a, True) + 1, [x])[0], x), x)
    torch.testing.assert_close(out, torch.relu(torch.relu(x) + 1) + 1)
    torch.testing.assert_close(same, x)

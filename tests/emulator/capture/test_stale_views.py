"""Writes in place through views: what PopTorch carries over is computed as torch does, and the rest is refused.

The programs that run are those of PopTorch's tests/inplace_test.py (test_inplace_modify_slice, _select), which compare
with torch. What is refused follows from PopartCanonicalization.cpp, handleSliceModification: the walk from a write
back to its inputs goes through slices and reshapes, gives new values to what was sliced alone, and ends elsewhere.
"""

import pytest
import torch

from ipu_train import emulator as poptorch


class Program(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def run(function, x):
    return poptorch.inferenceModel(Program(function))(x)


def slice_assigned(x):
    x = x * 1
    x[0:2] = x[0:2] * 0
    return x


def slice_added_to(x):
    x = x * 1
    x[1:4, :] += 1
    return x


def slice_filled(x):
    x = x * 1
    x[:, :2].mul_(0)
    return x


def selects_of_selects(x):
    x = x * 1
    x[0:1] += x[1]
    x[1][2] += x[2][3]
    x[0][1] = 5.0
    return x


def a_slice_beside_the_one_that_is_written_to(x):
    x = x * 1
    first, second = x[0], x[1]
    first.add_(1)
    return second + x[0]


def a_view_that_is_read_itself(x):
    flat = (x * 1).view(-1)
    flat[0] = 0.5
    return flat


def a_copy_of_a_view(x):
    x = x * 1
    flat = x.view(-1).clone()
    flat[0] = 0.5
    return x + flat.view(4, 4)


def its_own_result(x):
    y = (x * 1).view(-1)
    y = torch.relu_(y)
    return y.view(4, 4) + x


@pytest.mark.parametrize(
    "program",
    [
        slice_assigned,
        slice_added_to,
        slice_filled,
        selects_of_selects,
        a_slice_beside_the_one_that_is_written_to,
        a_view_that_is_read_itself,
        a_copy_of_a_view,
        its_own_result,
    ],
    ids=lambda program: program.__name__,
)
def test_what_slices_carry_over_is_as_in_torch(program):
    x = torch.randn(4, 4)
    assert torch.equal(run(program, x.clone()), program(x.clone()))


def behind_a_view(x):
    x = x * 1
    x.view(-1)[0] = 0.5
    return x


def behind_a_view_that_is_read(x):
    x = x * 1
    x.view(2, 8)[0] = 0.5
    return x.sum()


def behind_a_transpose(x):
    x = x * 1
    x.t()[0] = 0.5
    return x + 1


def behind_a_permuted_view(x):
    x = x * 1
    x.view(2, 2, 4).permute(2, 0, 1).mul_(2)
    return x + 1


def through_unbind(x):
    x = x * 1
    for row in x:  # gathered, not sliced
        row += 1
    return x


def a_view_from_before(x):
    x = x * 1
    first = x[0]
    x.add_(1)
    return first * 2


def a_slice_from_before(x):
    x = x * 1
    first = x[0:2]
    x[1] = 7.0
    return first * 2


def detached(x):
    x = x * 1
    x.detach().add_(1)
    return x * 2


@pytest.mark.parametrize(
    "program",
    [
        behind_a_view,
        behind_a_view_that_is_read,
        behind_a_transpose,
        behind_a_permuted_view,
        through_unbind,
        a_view_from_before,
        a_slice_from_before,
        detached,
    ],
    ids=lambda program: program.__name__,
)
def test_what_would_be_read_unchanged_is_refused(program):
    with pytest.raises(
        poptorch.Error, match=r"at .*test_stale_views\.py:\d+ has changed through another view of its memory"
    ):
        run(program, torch.randn(4, 4))


def test_unread_it_does_no_harm():
    def program(x):
        y = x * 1
        y.view(-1)[0] = 0.5
        return x + 1

    assert torch.equal(run(program, torch.zeros(4, 4)), torch.ones(4, 4))


class Counter(torch.nn.Module):
    def __init__(self, write):
        super().__init__()
        self.register_buffer("count", torch.zeros(2, 2))
        self.write = write

    def forward(self, x):
        self.write(self.count)
        return x + 1


def test_a_buffer_is_changed_through_its_slices():
    model = Counter(lambda count: count[0].add_(1))
    executor = poptorch.inferenceModel(model)
    executor(torch.zeros(1))
    executor.copyWeightsToHost()
    assert model.count.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("write", [lambda c: c.view(-1).add_(1), lambda c: c.t()[0].add_(1)])
def test_a_buffer_is_not_changed_through_other_views(write):
    """update_param_inplace would be given a value of another shape or order (InplaceOps.cpp, finalizeGraph)."""
    with pytest.raises(
        poptorch.Error, match="changes a parameter or buffer through a view that is no slice of it"
    ):
        poptorch.inferenceModel(Counter(write))(torch.zeros(1))

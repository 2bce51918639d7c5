"""The batching algebra against numpy's: inputs are laid out [D, A, G, B], outputs come back as [D, A, R].

Truth: PopTorch 3.4 user guide, "Efficient data batching" and "poptorch.Options.outputMode".
"""

import itertools

import numpy as np
import pytest
import torch

from ipu_train.emulator import CommGroupType, Error, OutputMode
from ipu_train.emulator.device.batching import Batching

FACTORS = list(itertools.product((1, 2, 3), (1, 2), (1, 2, 4)))  # D, A, R


def filled(*shape):
    return torch.arange(int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize("iterations, accumulation, replicas", FACTORS)
@pytest.mark.parametrize("size", [1, 3])
def test_micro_batches_are_the_innermost_blocks_of_the_leading_dimension(
    iterations, accumulation, replicas, size
):
    batching = Batching(iterations, accumulation, replicas)
    whole = filled(iterations * accumulation * replicas * size, 2)
    layout = whole.numpy().reshape(iterations, accumulation, replicas, size, 2)
    assert batching.micro_batches == iterations * accumulation * replicas
    assert batching.micro_batch_size(whole) == size
    for d, a, r in np.ndindex(iterations, accumulation, replicas):
        assert batching.micro_batch(whole, d, a, r).tolist() == layout[d, a, r].tolist()
    for d in range(iterations):
        assert batching.weight_update_batch(whole, d).tolist() == layout[d].reshape(-1, 2).tolist()


@pytest.mark.parametrize(
    "kind, groups",
    [(CommGroupType.Consecutive, [0, 0, 1, 1]), (CommGroupType.Orthogonal, [0, 1, 0, 1])],
)
def test_replicas_of_a_group_read_the_same(kind, groups):
    batching = Batching(2, 3, 4, group_size=2, group_type=kind)
    assert (batching.groups, batching.micro_batches) == (2, 12)
    assert [batching.group_of(replica) for replica in range(4)] == groups
    layout = filled(2, 3, 2, 5)
    for d, a, r in np.ndindex(2, 3, 4):
        found = batching.micro_batch(layout.reshape(-1), d, a, r)
        assert found.tolist() == layout[d, a, groups[r]].tolist()


def test_one_group_without_saying_so_are_the_replicas_themselves():
    assert [Batching(1, 1, 3).group_of(replica) for replica in range(3)] == [0, 1, 2]


def test_a_scalar_counts_as_one_element():
    scalar = torch.tensor(7)
    assert Batching(1, 1, 1).micro_batch_size(scalar) == 1
    assert Batching(2, 2, 2).micro_batch(scalar, 1, 1, 1) is scalar
    with pytest.raises(AssertionError):
        Batching(1, 2, 1).micro_batch_size(scalar)


def test_what_does_not_divide_is_refused_with_all_factors():
    with pytest.raises(AssertionError) as caught:
        Batching(2, 3, 4, group_size=2).micro_batch_size(torch.zeros(25, 3))
    for said in (
        "(25, 3)",
        "batch dimension (25)",
        "deviceIterations (2)",
        "input group size (2)",
        "gradientAccumulation (3)",
        "= 12",
    ):
        assert said in str(caught.value)


# -- outputs -------------------------------------------------------------------------------------------------------

D, A, R = 4, 3, 2
KEPT = {  # (iteration, accumulation) that come back
    OutputMode.All: [(d, a) for d in range(D) for a in range(A)],
    OutputMode.Final: [(D - 1, A - 1)],
    OutputMode.EveryN: [(d, a) for d in (1, 3) for a in range(A)],
    OutputMode.Sum: [(d, a) for d in range(D) for a in range(A)],
}


def batching_of(mode):
    return Batching(D, A, R, output_mode=mode, output_return_period=2 if mode == OutputMode.EveryN else 1)


@pytest.mark.parametrize("mode", KEPT, ids=lambda mode: mode.name)
def test_which_micro_batches_come_back(mode):
    kept = [(d, a) for d in range(D) for a in range(A) if batching_of(mode).keeps(d, a)]
    assert kept == KEPT[mode]


def expected_of(results, mode):
    """results: [D, A, R, ...] of each micro-batch."""
    kept = torch.stack([results[d, a] for d, a in KEPT[mode]])  # [kept, R, ...]
    return kept.sum(0) if mode == OutputMode.Sum else kept.flatten(0, 1)


@pytest.mark.parametrize("mode", KEPT, ids=lambda mode: mode.name)
def test_scalars_become_a_vector_in_the_order_of_the_micro_batches(mode):
    results = torch.randn(D, A, R, dtype=torch.float64)
    pieces = [results[d, a, r] for d, a in KEPT[mode] for r in range(R)]
    torch.testing.assert_close(batching_of(mode).join(pieces), expected_of(results, mode))


@pytest.mark.parametrize("mode", KEPT, ids=lambda mode: mode.name)
def test_batches_are_put_together_along_the_leading_dimension(mode):
    results = torch.randn(D, A, R, 5, 2, dtype=torch.float64)
    pieces = [results[d, a, r].clone() for d, a in KEPT[mode] for r in range(R)]
    before = [piece.clone() for piece in pieces]
    expected = expected_of(results, mode).flatten(0, 1)
    torch.testing.assert_close(batching_of(mode).join(pieces), expected)
    assert all(torch.equal(a, b) for a, b in zip(before, pieces)), "what a model returned is left alone"


def test_a_single_piece_keeps_its_shape():
    for piece in (torch.tensor(3.0), torch.randn(4, 2)):
        assert torch.equal(Batching(1, 1, 1, output_mode=OutputMode.All).join([piece]), piece)
        assert torch.equal(Batching(1, 1, 1, output_mode=OutputMode.Sum).join([piece]), piece)


@pytest.mark.parametrize("mode", KEPT, ids=lambda mode: mode.name)
@pytest.mark.parametrize("scalar", [True, False])
def test_fused_micro_batches_come_back_in_the_same_order(mode, scalar):
    inner = () if scalar else (5, 2)
    results = torch.randn(D, A, R, *inner, dtype=torch.float64)
    updates = [results[d].flatten(0, 1 if scalar else 2) for d in range(D)]
    expected = expected_of(results, mode)
    found = batching_of(mode).join_fused(updates, scalar)
    torch.testing.assert_close(found, expected if scalar else expected.flatten(0, 1))


@pytest.mark.parametrize("mode", [OutputMode.Final, OutputMode.Sum], ids=lambda mode: mode.name)
def test_a_fused_loss_of_one_replica_is_a_scalar(mode):
    batching = Batching(2, 3, 1, output_mode=mode)
    losses = [torch.arange(3.0), torch.arange(3.0, 6.0)]
    found = batching.join_fused(losses, scalar=True)
    assert found.shape == () and found.item() == (5.0 if mode == OutputMode.Final else 15.0)


def test_integers_stay_integers_when_they_are_summed():
    batching = Batching(2, 2, 1, output_mode=OutputMode.Sum)
    found = batching.join_fused([torch.tensor([1, 2], dtype=torch.int32)] * 2, scalar=True)
    assert found.dtype == torch.int32 and found.item() == 6


def test_a_period_that_does_not_divide_the_iterations_is_refused():
    with pytest.raises(Error, match=r"output return period \(3\) must divide deviceIterations \(4\)"):
        Batching(4, 1, 1, output_mode=OutputMode.EveryN, output_return_period=3)
    Batching(4, 1, 1, output_mode=OutputMode.All, output_return_period=3)


def test_of_six_iterations_a_period_of_three_returns_the_third_and_the_last():
    batching = Batching(6, 1, 1, output_mode=OutputMode.EveryN, output_return_period=3)
    assert [d for d in range(6) if batching.keeps(d, 0)] == [2, 5]

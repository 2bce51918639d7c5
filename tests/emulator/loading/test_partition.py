"""What each process reads of a data set, and how batches are joined: against sets and lists written out."""

import collections
import itertools
import pickle

import pytest
import torch
from torch.utils.data import BatchSampler, SequentialSampler

from ipu_train.emulator.loading.partition import (
    GroupedBatchSampler,
    GroupedCollate,
    GroupedDataset,
    ProcessShareSampler,
    concatenate,
    reduceGenerator,
    share,
)

CASES = list(itertools.product((1, 7, 12, 25), (1, 2, 3), (1, 2, 3)))  # items, combined batch, processes


@pytest.mark.parametrize("length, combined, processes", CASES)
def test_shares_follow_each_other_and_are_equal_or_differ_by_one(length, combined, processes):
    shares = [share(length, combined, i, processes, drop_last=False) for i in range(processes)]
    ranges = [range(offset, offset + count) for offset, count in shares]
    assert [i for one in ranges for i in one] == list(range(length))
    counts = [count for _, count in shares]
    assert counts == sorted(counts, reverse=True) and counts[0] - counts[-1] <= 1


@pytest.mark.parametrize("length, combined, processes", CASES)
def test_with_drop_last_all_have_the_same_whole_combined_batches(length, combined, processes):
    shares = [share(length, combined, i, processes, drop_last=True) for i in range(processes)]
    batches = 0
    while (batches + 1) * combined * processes <= length:
        batches += 1
    assert {count for _, count in shares} == {batches * combined}
    assert [offset for offset, _ in shares] == [i * batches * combined for i in range(processes)]


def epochs(samplers, count):
    return [[list(sampler) for sampler in samplers] for _ in range(count)]


def samplers(length, combined, processes, drop_last, seed):
    return [ProcessShareSampler(length, combined, i, processes, drop_last, seed) for i in range(processes)]


def test_without_a_seed_the_order_is_kept():
    made = samplers(10, 2, 2, True, None)
    assert epochs(made, 2) == [[[0, 1, 2, 3], [4, 5, 6, 7]]] * 2
    assert [len(sampler) for sampler in made] == [4, 4]
    assert [list(one) for one in samplers(5, 2, 2, False, None)] == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("drop_last", [True, False])
def test_shuffled_shares_never_meet(drop_last):
    for shares in epochs(samplers(23, 2, 3, drop_last, 5), 4):
        items = [i for one in shares for i in one]
        assert len(items) == len(set(items)) == (18 if drop_last else 23)
        assert set(items) <= set(range(23))


def test_epochs_are_shuffled_anew_and_alike_in_every_process():
    first, second = epochs(samplers(12, 1, 1, False, 5), 2)
    assert first != second and sorted(first[0]) == sorted(second[0]) == list(range(12))
    expected = torch.Generator().manual_seed(5)
    assert first[0] == torch.randperm(12, generator=expected).tolist()
    assert second[0] == torch.randperm(12, generator=expected).tolist()


@pytest.mark.parametrize("length, combined, processes", [(23, 2, 3), (7, 4, 1), (11, 3, 2), (9, 5, 1)])
def test_what_one_epoch_leaves_over_is_in_the_next(length, combined, processes):
    """Of two epochs that follow each other, the first of which takes the window's start."""
    made = samplers(length, combined, processes, True, 8)
    for _ in range(3):
        (first,), (second,) = [[[i for one in shares for i in one]] for shares in epochs(made, 2)]
        left = set(range(length)) - set(first)
        fits = len(second) >= len(left)
        assert left <= set(second) if fits else set(second) <= left
        assert len(second) == len(set(second)) == len(first)


def test_an_order_goes_on_in_another_process():
    """As pickled to workers: generator, and what was left over."""
    one = ProcessShareSampler(11, 2, 0, 1, True, 3)
    list(one)
    other = pickle.loads(pickle.dumps(one))
    assert (list(one), list(one)) == (list(other), list(other))
    plain = pickle.loads(pickle.dumps(ProcessShareSampler(4, 2, 0, 1, True)))
    assert list(plain) == [0, 1, 2, 3]


def test_a_generator_is_put_together_again():
    generator = torch.Generator().manual_seed(9)
    torch.rand(3, generator=generator)
    make, arguments = reduceGenerator(generator)
    copy = make(*pickle.loads(pickle.dumps(arguments)))
    assert copy.device == generator.device
    assert torch.equal(torch.rand(5, generator=copy), torch.rand(5, generator=generator))


def grouped(items, batch, size, drop_last, **keep):
    batches = BatchSampler(SequentialSampler(range(items)), batch, drop_last=False)
    return GroupedBatchSampler(batches, size, drop_last, **keep)


@pytest.mark.parametrize(
    "items, drop_last, expected",
    [
        (8, True, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (8, False, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (7, False, [[0, 1, 2, 3], [4, 5, 6]]),
        (5, True, [[0, 1, 2, 3]]),
        (5, False, [[0, 1, 2, 3], [4]]),
        (2, True, []),
    ],
)
def test_batches_are_grouped(items, drop_last, expected):
    sampler = grouped(items, 2, 2, drop_last)
    assert list(sampler) == expected and len(sampler) == len(expected)
    assert list(sampler) == expected, "and again in the next epoch"


def test_groups_may_keep_their_batches():
    sampler = grouped(7, 2, 2, False, keep_batches=True)
    assert list(sampler) == [[[0, 1], [2, 3]], [[4, 5], [6]]]


class Squares(torch.utils.data.Dataset):
    kind = "squares"

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return index**2


class ManySquares(Squares):
    def __getitems__(self, indices):
        return [f"many {index**2}" for index in indices]


def test_a_data_set_is_indexed_by_batches():
    data = GroupedDataset(Squares())
    assert (data[[1, 3]], len(data), data.kind) == ([1, 9], 9, "squares")
    assert data.__getitems__([[0, 1], [2]]) == [[0, 1], [4]]
    assert GroupedDataset(ManySquares())[[2]] == ["many 4"]
    again = pickle.loads(pickle.dumps(data))
    assert again[[4]] == [16]
    with pytest.raises(AttributeError):
        getattr(data, "unheard_of")  # noqa: B009


Pair = collections.namedtuple("Pair", "x y")


def test_equal_structures_are_concatenated():
    def made(start):
        x = torch.arange(start, start + 2)
        return {"x": x, "pair": Pair(x, [x * 2, (x * 3,)]), "name": f"first of {start}"}

    joined = concatenate([made(0), made(10)])
    x = torch.tensor([0, 1, 10, 11])
    assert torch.equal(joined["x"], x) and joined["name"] == "first of 0"
    assert isinstance(joined["pair"], Pair) and torch.equal(joined["pair"].x, x)
    assert torch.equal(joined["pair"].y[0], x * 2)
    assert isinstance(joined["pair"].y[1], tuple) and torch.equal(joined["pair"].y[1][0], x * 3)


def test_each_batch_is_collated_by_itself():
    def collate(samples):
        return torch.tensor(samples) + 100 * len(samples)

    assert GroupedCollate(collate)([[1, 2], [3]]).tolist() == [201, 202, 103]

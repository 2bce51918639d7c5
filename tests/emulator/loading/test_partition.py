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
    ProcessShare,
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


def epochs(shares, count):
    """Of each epoch the items of each process."""
    found = []
    for _ in range(count):
        for one in shares:
            one.next_epoch()
        found.append([[one[i] for i in range(len(one))] for one in shares])
    return found


def shares(length, combined, processes, drop_last, seed):
    return [ProcessShare(range(length), combined, i, processes, drop_last, seed) for i in range(processes)]


def test_without_a_seed_the_order_is_kept():
    made = shares(10, 2, 2, True, None)
    assert epochs(made, 2) == [[[0, 1, 2, 3], [4, 5, 6, 7]]] * 2
    assert [len(one) for one in made] == [4, 4]
    assert epochs(shares(5, 2, 2, False, None), 1) == [[[0, 1, 2], [3, 4]]]


def test_indices_count_from_the_first_item_and_may_leave_the_share():
    first, second = shares(10, 2, 2, True, None)
    assert (first[5], second[5]) == (5, 9)
    with pytest.raises(IndexError):
        second[6]


@pytest.mark.parametrize("drop_last", [True, False])
def test_shuffled_shares_never_meet(drop_last):
    for epoch in epochs(shares(23, 2, 3, drop_last, 5), 4):
        items = [i for one in epoch for i in one]
        assert len(items) == len(set(items)) == (18 if drop_last else 23)
        assert set(items) <= set(range(23))


def test_epochs_are_shuffled_anew_and_alike_in_every_process():
    first, second = epochs(shares(12, 1, 1, False, 5), 2)
    assert first != second and sorted(first[0]) == sorted(second[0]) == list(range(12))
    expected = torch.Generator().manual_seed(5)
    assert first[0] == torch.randperm(12, generator=expected).tolist()
    assert second[0] == torch.randperm(12, generator=expected).tolist()


@pytest.mark.parametrize(
    "drop_last, expected",
    [
        (True, [[[9, 1, 10, 5], [4, 8, 12, 0]], [[5, 6, 11, 12], [7, 2, 3, 9]]]),
        (False, [[[2, 9, 1, 10, 5, 4, 8], [12, 0, 7, 11, 6, 3]], [[5, 6, 11, 12, 7, 2, 3], [9, 4, 10, 8, 0, 1]]]),
    ],
)  # fmt: skip
def test_13_items_in_the_order_that_poptorch_gives_them(drop_last, expected):
    """Recorded of PopTorch 3.4's DataLoader: combined batches of 4 items, 2 processes, seed 3."""
    assert epochs(shares(13, 4, 2, drop_last, 3), 2) == expected


def test_too_few_items_for_all_are_refused():
    """PopTorch divides by the number of items that a process has."""
    with pytest.raises(ZeroDivisionError, match="7 items give 2 processes no combined batch of 4"):
        shares(7, 4, 2, True, None)
    assert epochs(shares(3, 4, 2, False, None), 1) == [[[0, 1], [2]]]
    assert epochs(shares(1, 4, 2, False, 0), 2) == [[[0], []]] * 2


def test_an_order_goes_on_in_another_process():
    """As pickled to workers."""
    one = ProcessShare(range(11), 2, 0, 1, True, 3)
    one.next_epoch()
    other = pickle.loads(pickle.dumps(one))
    assert epochs([one], 2) == epochs([other], 2)
    plain = pickle.loads(pickle.dumps(ProcessShare(range(4), 2, 0, 1, True)))
    assert epochs([plain], 1) == [[[0, 1, 2, 3]]]


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

"""``poptorch.DataLoader``: combined batches and shares of processes (PopTorch 3.4 user guide, "DataLoader")."""

import logging

import pytest
import torch

from ipu_train import emulator as poptorch
from ipu_train.emulator import DataLoader, DataLoaderMode, Options
from ipu_train.emulator.loading.partition import GroupedBatchSampler, concatenate, share

from ..datasets import AsDict, Increasing, Stream, nothing, stack_pairs


def options(iterations=1, replicas=1, accumulation=1, groups=None, process=(0, 1), seed=None):
    opts = Options().deviceIterations(iterations).replicationFactor(replicas)
    opts.Training.gradientAccumulation(accumulation)
    opts.Distributed.configureProcessId(*process)
    if groups is not None:
        opts.inputReplicaGrouping(groups, poptorch.CommGroupType.Consecutive)
    if seed is not None:
        opts.randomSeed(seed)
    return opts


def first_and_size(samples):
    return torch.tensor([[int(samples[0][1]), len(samples)]])


class Boxed:
    def __init__(self, content):
        self.content = content


class BoxedParser(poptorch.ICustomArgParser):
    def yieldTensors(self, struct):
        yield struct.content

    def reconstruct(self, original_structure, tensor_iterator):
        return Boxed(next(tensor_iterator))


def boxed_labels(samples):
    return Boxed(torch.tensor([int(label) for _, label in samples]))


def labels(loader):
    return [batch[1].tolist() for batch in loader]


class TestCombinedBatches:
    @pytest.mark.parametrize(
        "opts, micro_batch, combined",
        [
            (options(), 1, 1),
            (options(), 4, 4),
            (options(iterations=3), 2, 6),
            (options(replicas=4), 2, 8),
            (options(accumulation=5), 2, 10),
            (options(replicas=4, groups=2), 2, 4),
            (options(iterations=2, replicas=6, accumulation=5, groups=3), 2, 40),
        ],
    )
    def test_a_batch_holds_what_one_call_takes(self, opts, micro_batch, combined):
        loader = DataLoader(opts, Increasing(100), batch_size=micro_batch)
        assert loader.combinedBatchSize == combined
        assert len(loader) == 100 // combined
        batches = labels(loader)
        assert batches == [list(range(i, i + combined)) for i in range(0, 100 - combined + 1, combined)]

    def test_options_are_frozen(self):
        opts = options()
        loader = DataLoader(opts, Increasing(4))
        assert loader.options is opts
        with pytest.raises(AttributeError, match="Can't modify frozen Options"):
            opts.deviceIterations(2)

    def test_options_must_be_options(self):
        with pytest.raises(AssertionError):
            DataLoader({"device_iterations": 1}, Increasing(4))

    def test_the_last_batch_is_dropped_by_default(self, caplog):
        assert labels(DataLoader(options(2), Increasing(11), batch_size=2)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert not caplog.records

    def test_or_kept_short_with_a_warning(self, caplog):
        loader = DataLoader(options(2), Increasing(11), batch_size=2, drop_last=False)
        assert "drop_last" in caplog.text
        assert len(loader) == 3
        assert labels(loader)[-1] == [8, 9, 10]
        caplog.clear()
        DataLoader(options(2), Increasing(12), batch_size=2, drop_last=False)
        assert not caplog.records

    def test_without_batch_size_items_pass_as_they_are(self):
        loader = DataLoader(options(2), Increasing(3), batch_size=None, drop_last=False)
        assert loader.combinedBatchSize is None
        assert [tuple(image.shape) for image, _ in loader] == [(2,), (2,), (2,)]

    def test_without_batch_size_there_is_nothing_to_drop(self):
        """PopTorch's default goes on to torch, which refuses it."""
        with pytest.raises(ValueError, match="mutually exclusive with drop_last"):
            DataLoader(options(2), Increasing(3), batch_size=None)

    def test_order_is_torchs(self):
        torch.manual_seed(7)
        ours = labels(DataLoader(options(2), Increasing(20), batch_size=2, shuffle=True))
        torch.manual_seed(7)
        theirs = labels(torch.utils.data.DataLoader(Increasing(20), batch_size=4, shuffle=True))
        assert ours == theirs and ours != sorted(ours)

    def test_arguments_go_on_to_torch(self):
        loader = DataLoader(
            options(2), Increasing(8), batch_size=2, collate_fn=stack_pairs, sampler=[7, 6, 5, 4]
        )
        image, count = next(iter(loader))
        assert image[:, 0].tolist() == [7.0, 6.0, 5.0, 4.0] and count.tolist() == [4] * 4

    def test_it_is_a_torch_loader(self):
        loader = DataLoader(options(), Increasing(4), num_workers=0)
        assert isinstance(loader, torch.utils.data.DataLoader)
        assert not loader.persistent_workers

    def test_workers_are_kept_unless_told_otherwise(self):
        assert DataLoader(options(), Increasing(4), num_workers=1).persistent_workers
        assert not DataLoader(
            options(), Increasing(4), num_workers=1, persistent_workers=False
        ).persistent_workers

    def test_every_loop_is_an_epoch(self):
        loader = DataLoader(options(), AsDict(5), num_workers=1)
        for batch in loader:
            assert set(batch) == {"image", "label"}
            break
        for _ in range(2):
            assert [batch["label"].item() for batch in loader] == [0, 1, 2, 3, 4]


class TestIterableDataSets:
    def test_batches(self):
        loader = DataLoader(options(2), Stream(11), batch_size=2)
        assert [batch[:, 0].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_length_is_that_of_the_data_set(self):
        with pytest.raises(TypeError, match="has no len"):
            len(DataLoader(options(), Stream(11)))
        assert len(DataLoader(options(2), Stream(11, known_length=True), batch_size=2)) == 2

    def test_several_workers_would_repeat_items(self, caplog):
        with caplog.at_level(logging.WARNING):
            DataLoader(options(), Stream(4), num_workers=2)
        assert "worker_init_fn" in caplog.text
        caplog.clear()
        DataLoader(options(), Stream(4), num_workers=2, worker_init_fn=nothing)
        DataLoader(options(), Stream(4), num_workers=1)
        assert not caplog.records

    def test_they_cannot_be_partitioned(self):
        with pytest.raises(AssertionError):
            DataLoader(options(process=(0, 2)), Stream(4))
        DataLoader(options(process=(0, 2)), Stream(4), auto_distributed_partitioning=False)

    def test_they_cannot_be_shuffled(self):
        with pytest.raises(ValueError):
            DataLoader(options(), Stream(4), shuffle=True)


class TestBatchSampler:
    def sampler(self, length=11, size=2, drop_last=False):
        return torch.utils.data.BatchSampler(
            torch.utils.data.SequentialSampler(range(length)), size, drop_last
        )

    def test_batches_are_joined_to_what_one_call_takes(self):
        loader = DataLoader(options(iterations=3), Increasing(20), batch_sampler=self.sampler(14))
        assert loader.combinedBatchSize == 6
        assert labels(loader) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]

    @pytest.mark.parametrize("drop_last", [True, False])
    def test_the_length_is_the_samplers(self, drop_last):
        """PopTorch's __len__ is torch's, which counts micro-batches."""
        loader = DataLoader(
            options(iterations=3), Increasing(20), batch_sampler=self.sampler(14), drop_last=drop_last
        )
        assert len(loader) == 7

    def test_a_last_group_that_is_not_full_may_be_kept(self):
        loader = DataLoader(
            options(iterations=3), Increasing(20), batch_sampler=self.sampler(), drop_last=False
        )
        assert labels(loader) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]

    @pytest.mark.parametrize("num_workers", [0, 1])
    @pytest.mark.parametrize("drop_last", [True, False])
    def test_batches_of_different_sizes_are_collated_alone(self, num_workers, drop_last):
        """As when a collate function pads every micro-batch to one size; here it notes the size instead."""
        batches = [[0], [1, 2, 3], [4, 5], [6], [7, 8]]
        loader = DataLoader(
            options(iterations=2), Increasing(9), batch_sampler=batches, collate_fn=first_and_size,
            num_workers=num_workers, drop_last=drop_last,
        )  # fmt: skip
        expected = [[[0, 1], [1, 3]], [[4, 2], [6, 1]]] + ([] if drop_last else [[[7, 2]]])
        for _ in range(2):
            assert [batch.tolist() for batch in loader] == expected
        assert len(loader.dataset) == 9

    def test_custom_types_are_concatenated_as_their_parser_says(self):
        poptorch.registerCustomArgParser(Boxed, BoxedParser())
        try:
            loader = DataLoader(
                options(iterations=2), Increasing(8), batch_sampler=[[0, 1], [2, 3], [4, 5], [6, 7]],
                collate_fn=boxed_labels,
            )  # fmt: skip
            batches = list(loader)
        finally:
            poptorch.registerCustomArgParser(Boxed, None)
        assert all(type(batch) is Boxed for batch in batches)
        assert [batch.content.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_each_batch_is_collated_alone(self):
        loader = DataLoader(
            options(iterations=3), Increasing(20), batch_sampler=self.sampler(12), collate_fn=stack_pairs
        )
        for image, count in loader:
            assert image.shape == (6, 2) and count.tolist() == [2] * 6

    def test_samplers_need_not_be_torchs(self):
        loader = DataLoader(options(iterations=2), Increasing(20), batch_sampler=[[5, 3], [1], [2], [4, 6]])
        assert loader.combinedBatchSize == 2, (
            "without a batch size of its own micro-batches count as one item"
        )
        assert labels(loader) == [[5, 3, 1], [2, 4, 6]]

    @pytest.mark.parametrize("other", [{"batch_size": 2}, {"batch_size": None}, {"shuffle": True}])
    def test_excludes_other_ways_to_say_it(self, other):
        with pytest.raises(poptorch.Error, match="mutually exclusive"):
            DataLoader(options(), Increasing(20), batch_sampler=self.sampler(), **other)

    def test_a_sampler_is_not_shuffled(self):
        """Neither does torch, nor PopTorch, which hands both on to it."""
        with pytest.raises(ValueError, match="mutually exclusive with shuffle"):
            DataLoader(options(), Increasing(20), sampler=range(20), shuffle=True)
        assert labels(DataLoader(options(), Increasing(4), sampler=[3, 1], shuffle=False)) == [[3], [1]]

    def test_cannot_be_partitioned(self):
        opts = options(process=(0, 2))
        with pytest.raises(poptorch.Error):
            DataLoader(opts, Increasing(20), batch_sampler=self.sampler())
        DataLoader(opts, Increasing(20), batch_sampler=self.sampler(), auto_distributed_partitioning=False)

    def test_groups(self):
        assert list(GroupedBatchSampler([[1], [2], [3]], 2, drop_last=True)) == [[1, 2]]
        assert list(GroupedBatchSampler([[1], [2], [3]], 2, drop_last=False)) == [[1, 2], [3]]

    def test_structures_are_joined_along_the_first_dimension(self):
        a, b = torch.zeros(1, 2), torch.ones(3, 2)
        joined = concatenate([{"x": (a, [a])}, {"x": (b, [b])}])
        assert torch.equal(joined["x"][0], torch.cat([a, b])) and torch.equal(
            joined["x"][1][0], torch.cat([a, b])
        )


class TestProcesses:
    @pytest.mark.parametrize("length, combined, processes", [(100, 4, 3), (100, 2, 2), (7, 4, 2), (64, 8, 4)])
    def test_dropping_gives_every_process_equally_many_batches(self, length, combined, processes):
        ranges = [share(length, combined, p, processes, True) for p in range(processes)]
        each = combined * (length // (combined * processes))
        assert ranges == [(p * each, each) for p in range(processes)]

    @pytest.mark.parametrize("length, processes", [(100, 3), (7, 4), (8, 4)])
    def test_not_dropping_shares_everything_out(self, length, processes):
        ranges = [share(length, 4, p, processes, False) for p in range(processes)]
        assert [i for offset, count in ranges for i in range(offset, offset + count)] == list(range(length))
        assert [count for _, count in ranges] == [
            length // processes + (p < length % processes) for p in range(processes)
        ]

    def loaders(self, processes, length=100, shuffle=None, drop_last=True, **kwargs):
        return [
            DataLoader(
                options(process=(p, processes), seed=42),
                Increasing(length),
                batch_size=4,
                shuffle=shuffle,
                drop_last=drop_last,
                **kwargs,
            )
            for p in range(processes)
        ]

    def test_each_process_loads_its_range(self):
        loaders = self.loaders(3)
        assert [len(loader) for loader in loaders] == [8, 8, 8]
        seen = [i for loader in loaders for batch in labels(loader) for i in batch]
        assert seen == list(range(96))

    def test_not_dropping(self):
        loaders = self.loaders(3, drop_last=False)
        assert [len(loader) for loader in loaders] == [9, 9, 9]
        assert [sum(map(len, labels(loader))) for loader in loaders] == [34, 33, 33]

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_shuffling_is_global_and_new_each_epoch(self, num_workers):
        loaders = self.loaders(3, shuffle=True, num_workers=num_workers)
        epochs = []
        for _ in range(2):
            seen = [[i for batch in labels(loader) for i in batch] for loader in loaders]
            flat = [i for process in seen for i in process]
            assert len(flat) == len(set(flat)) == 96, "no item twice in an epoch"
            assert all(process != sorted(process) for process in seen)
            epochs.append(seen)
        for p in range(3):
            assert set(epochs[0][p]) != set(epochs[1][p])

    @pytest.mark.parametrize("mode", [poptorch.DataLoaderMode.Sync, poptorch.DataLoaderMode.AsyncRebatched])
    def test_the_data_set_of_a_loader_is_the_share(self, mode):
        loaders = self.loaders(3, mode=mode)
        assert [len(loader.dataset) for loader in loaders] == [32] * 3
        assert [int(loader.dataset[0][1]) for loader in loaders] == [0, 32, 64]
        assert [len(loader) for loader in loaders] == [8] * 3
        for loader in loaders:
            loader.terminate()

    def test_a_sampler_of_ones_own_counts_within_the_share(self, caplog):
        """In PopTorch it gives indices of ``_SubDataset``, which adds the share's first."""
        by_hand = [
            DataLoader(options(process=(p, 2)), Increasing(16), batch_size=2, sampler=[0, 1, 4, 5])
            for p in range(2)
        ]
        assert [labels(loader) for loader in by_hand] == [[[0, 1], [4, 5]], [[8, 9], [12, 13]]]
        assert "count from the first item of this process's share" in caplog.text
        caplog.clear()
        whole = DataLoader(
            options(process=(1, 2)), Increasing(16), batch_size=2, sampler=[0, 1], auto_distributed_partitioning=False
        )  # fmt: skip
        assert labels(whole) == [[0, 1]] and len(whole.dataset) == 16
        assert not caplog.text

    def test_a_shuffling_loader_can_load_in_another_process(self):
        """Also the default start method, a fork server, that maps pickled tensors only while their owner has them."""
        loader = DataLoader(
            options(process=(0, 2), seed=3),
            Increasing(40),
            batch_size=4,
            shuffle=True,
            mode=poptorch.DataLoaderMode.Async,
        )
        reference = DataLoader(options(process=(0, 2), seed=3), Increasing(40), batch_size=4, shuffle=True)
        for _ in range(2):
            assert labels(loader) == labels(reference)

    def test_shuffling_needs_a_common_seed(self):
        with pytest.raises(AssertionError):
            DataLoader(options(process=(0, 2)), Increasing(100), shuffle=True)

    def test_items_without_batches_cannot_be_partitioned(self):
        with pytest.raises(AssertionError):
            DataLoader(options(process=(0, 2)), Increasing(100), batch_size=None)

    def test_partitioning_can_be_left_to_the_user(self):
        loader = DataLoader(options(process=(1, 2)), Increasing(8), auto_distributed_partitioning=False)
        assert labels(loader) == [[i] for i in range(8)]

    def test_leftovers_over_all_processes_are_warned_about(self, caplog):
        self.loaders(3, length=96, drop_last=False)
        assert not caplog.records
        self.loaders(3, length=100, drop_last=False)
        assert "drop_last" in caplog.text


def test_modes_have_arguments_of_their_own():
    with pytest.raises(AssertionError):
        DataLoader(
            options(),
            Increasing(8),
            batch_size=4,
            mode=DataLoaderMode.AsyncRebatched,
            rebatched_worker_size=5,
        )
    with pytest.raises(AssertionError):
        DataLoader(
            options(),
            Increasing(8),
            batch_size=4,
            mode=DataLoaderMode.AsyncRebatched,
            async_options={"rebatched_size": 4},
        )
    with pytest.raises(AssertionError, match="batch size"):
        DataLoader(
            options(),
            Increasing(8),
            batch_size=None,
            mode=DataLoaderMode.AsyncRebatched,
            rebatched_worker_size=1,
        )
    with pytest.raises(AssertionError, match="batch_sampler"):
        DataLoader(
            options(),
            Increasing(8),
            batch_sampler=torch.utils.data.BatchSampler(range(8), 2, True),
            mode=DataLoaderMode.AsyncRebatched,
            rebatched_worker_size=1,
        )

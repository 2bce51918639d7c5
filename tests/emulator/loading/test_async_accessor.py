"""Loading in another process (PopTorch 3.4 user guide, "AsynchronousDataAccessor").

Most tests fork the worker, because that is quick; the other ways to start it have a test each.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from ipu_train import emulator as poptorch
from ipu_train.emulator import AsynchronousDataAccessor, DataLoader, DataLoaderMode, Options, SharingStrategy

from ..datasets import AsDict, Broken, Increasing, Pair, Pairs, Ragged, Random, Stream, nothing

FORK = {"sharing_strategy": SharingStrategy.Fork}


def loader(dataset, mode=DataLoaderMode.Async, iterations=1, batch_size=2, async_options=None, **kwargs):
    opts = Options().deviceIterations(iterations)
    async_options = dict(FORK, **(async_options or {}))
    return DataLoader(opts, dataset, batch_size, mode=mode, async_options=async_options, **kwargs)


def labels(batches):
    return [batch[1].tolist() for batch in batches]


def firsts(batches):
    return [batch[:, 0].tolist() for batch in batches]


def worker(data):
    return getattr(data, "_accessor", data)._worker


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


class TestEpochs:
    @pytest.mark.parametrize("strategy", list(SharingStrategy))
    def test_batches_are_those_of_the_synchronous_loader(self, strategy):
        """Shuffled, so that a sampler with a generator reaches workers that are not forked, too."""
        opts = Options().deviceIterations(2).randomSeed(1)
        opts.Distributed.configureProcessId(1, 2)
        alone = DataLoader(opts, Increasing(22), 2, shuffle=True)
        together = DataLoader(
            opts, Increasing(22), 2, shuffle=True, mode=DataLoaderMode.Async,
            async_options={"sharing_strategy": strategy},
        )  # fmt: skip
        assert len(together) == 2
        assert [labels(together), labels(together)] == [labels(alone), labels(alone)]

    @pytest.mark.parametrize("load_indefinitely", [True, False])
    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_every_loop_is_one_epoch_also_after_a_break(self, load_indefinitely, num_workers):
        data = loader(
            Increasing(9),
            batch_size=1,
            num_workers=num_workers,
            async_options={"load_indefinitely": load_indefinitely},
        )
        for stop in (0, 3, 8, None, 5, None):
            for index, batch in enumerate(data):
                assert batch[1].item() == index
                if index == stop:
                    break
            assert index == (8 if stop is None else stop)

    def test_leaving_at_the_first_batch_again_and_again(self):
        data = loader(Increasing(50), batch_size=1, async_options={"buffer_size": 2})
        for _ in range(20):
            for batch in data:
                assert batch[1].item() == 0
                break

    def test_an_iterator_is_its_own_iterator(self):
        torch.manual_seed(5)
        expected = labels(loader(Increasing(20), shuffle=True))
        torch.manual_seed(5)
        data = loader(Increasing(20), shuffle=True)
        assert labels(iter(iter(data))) == expected
        accessor = AsynchronousDataAccessor(Increasing(3), **FORK)
        iterator = iter(accessor)
        assert [item[1].item() for item in iter(iterator)] == [0, 1, 2]
        with pytest.raises(StopIteration):
            next(iterator)
        assert list(iterator) != [], "and a new loop is a new epoch"

    def test_shuffled_order_is_that_of_the_synchronous_loader(self):
        torch.manual_seed(5)
        asynchronous = labels(loader(Increasing(20), shuffle=True))
        torch.manual_seed(5)
        assert asynchronous == labels(DataLoader(Options(), Increasing(20), 2, shuffle=True))

    def test_the_data_set_sees_the_random_numbers_of_this_process(self):
        torch.manual_seed(6)
        drawn = [batch.clone() for batch in loader(Random(2), batch_size=1)]
        torch.manual_seed(6)
        expected = [batch.clone() for batch in DataLoader(Options(), Random(2), 1)]
        assert torch.equal(torch.cat(drawn), torch.cat(expected))

    def test_any_iterable_will_do(self):
        data = AsynchronousDataAccessor([torch.tensor([i]) for i in range(4)], **FORK)
        assert len(data) == 4
        for _ in range(2):
            assert [item.item() for item in data] == [0, 1, 2, 3]

    def test_iterable_data_sets(self):
        data = AsynchronousDataAccessor(Stream(3), **FORK)
        for _ in range(2):
            assert [item[0].item() for item in data] == [0, 1, 2]
        with pytest.raises(TypeError, match="has no len"):
            len(data)

    @pytest.mark.parametrize(
        "how", [{"drop_last": False}, {"mode": DataLoaderMode.AsyncRebatched}], ids=["async", "rebatched"]
    )
    def test_without_batch_size_items_pass_as_they_are(self, how):
        data = loader(Stream(3), batch_size=None, num_workers=1, **how)
        assert [tuple(item.shape) for item in data] == [(2,)] * 3

    def test_processes_have_their_share(self):
        opts = Options().randomSeed(1)
        opts.Distributed.configureProcessId(1, 2)
        data = DataLoader(opts, Increasing(8), 2, mode=DataLoaderMode.Async, async_options=FORK)
        assert len(data) == 2 and labels(data) == [[4, 5], [6, 7]]


class TestBuffers:
    def test_tensors_are_shared_and_overwritten(self):
        data = loader(Increasing(20), batch_size=1, async_options={"buffer_size": 2})
        seen, kept = [], []
        for images, _ in data:
            assert images.is_shared()
            seen.append(images)
            kept.append(images.clone())
        assert [image[0, 0].item() for image in kept] == list(range(20))
        assert len({image.data_ptr() for image in seen}) == 2
        assert seen[0][0, 0] != kept[0][0, 0]

    def test_a_batch_stays_while_it_is_worked_with(self):
        data = loader(Increasing(20), batch_size=1, async_options={"buffer_size": 2})
        for index, (images, _) in enumerate(data):
            time.sleep(0.005)  # the worker is as far ahead as it can be
            assert images[0, 0] == index

    def test_forms_of_items(self):
        item = next(iter(loader(Increasing(4))))
        assert type(item) is list and len(item) == 2
        assert torch.is_tensor(next(iter(loader(Increasing(4, labels=False)))))
        assert set(next(iter(loader(AsDict(4))))) == {"image", "label"}

    def test_registered_types_keep_their_form(self):
        class PairParser(poptorch.ICustomArgParser):
            def yieldTensors(self, struct):
                yield struct.left
                yield struct.right

            def reconstruct(self, original_structure, tensor_iterator):
                return Pair(next(tensor_iterator), next(tensor_iterator))

        poptorch.registerCustomArgParser(Pair, PairParser())
        try:
            data = AsynchronousDataAccessor(Pairs(3), **FORK)
            items = [(type(item), item.left[0].item(), item.right.item()) for item in data]
        finally:
            poptorch.registerCustomArgParser(Pair, None)
        assert items == [(Pair, i, i) for i in range(3)]

    @pytest.mark.parametrize("early, filled", [(True, 5), (False, 1)])
    def test_preloading_fills_the_buffers_before_the_first_loop(self, early, filled):
        data = loader(Increasing(10), batch_size=1, async_options={"early_preload": early, "buffer_size": 5})
        indices = worker(data)._data_buffers.indices_mem
        wait_until(lambda: sum(indices) == filled)
        time.sleep(0.1)
        assert sum(indices) == filled
        assert labels(data) == [[i] for i in range(10)]

    def test_the_next_epoch_is_loaded_unasked_only_when_loading_indefinitely(self):
        for indefinitely in (True, False):
            data = loader(
                Increasing(3),
                batch_size=1,
                async_options={"buffer_size": 3, "load_indefinitely": indefinitely},
            )
            list(data)
            indices = worker(data)._data_buffers.indices_mem
            wait_until(lambda indices=indices, n=3 * indefinitely: sum(indices) == n)


class TestRebatching:
    @pytest.mark.parametrize(
        "kind, drop_last, worker_size",
        [
            ("map", True, None), ("stream", False, None), ("stream", True, 1), ("map", False, 1),
            ("stream", True, 3), ("map", False, 3),
        ],
    )  # fmt: skip
    def test_nothing_is_lost_between_workers(self, kind, drop_last, worker_size):
        known = Increasing(23, labels=False) if kind == "map" else Stream(23, known_length=True)
        data = loader(
            known,
            DataLoaderMode.AsyncRebatched,
            iterations=2,
            drop_last=drop_last,
            rebatched_worker_size=worker_size,
            num_workers=2,
            worker_init_fn=nothing,
        )
        assert len(data) == (5 if drop_last else 6)
        for _ in range(2):
            batches = firsts(data)
            assert [len(batch) for batch in batches] == [4] * 5 + [3] * (not drop_last)
            seen = [i for batch in batches for i in batch]
            assert len(set(seen)) == len(seen) and set(seen) <= set(range(23))
        data.terminate()

    def test_workers_of_an_ordinary_loader_drop_their_own_remainder(self):
        data = loader(Stream(23), iterations=2, num_workers=2, worker_init_fn=nothing)
        assert sum(len(batch) for batch in firsts(data)) == 20, "12 and 11 items give 3 and 2 batches of 4"

    def test_the_order_of_a_map_data_set_is_kept(self):
        data = loader(Increasing(10, labels=False), DataLoaderMode.AsyncRebatched, rebatched_worker_size=1)
        assert firsts(data) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]

    def test_an_asynchronous_loader_that_keeps_the_last_batch_is_rebatched(self):
        data = loader(Increasing(7, labels=False), iterations=2, drop_last=False)
        assert [len(batch) for batch in data] == [4, 3]
        assert len(data) == 2
        single = loader(Increasing(7, labels=False), batch_size=1, drop_last=False)
        assert [len(batch) for batch in single] == [1] * 7

    def test_an_accessor_can_rebatch_by_itself(self):
        data = AsynchronousDataAccessor([torch.arange(3) + 3 * i for i in range(5)], rebatched_size=4, **FORK)
        assert len(data) == 3
        for _ in range(2):
            assert [batch.tolist() for batch in data] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]

    @pytest.mark.parametrize("drop_last", [True, False])
    def test_batches_of_a_sampler_are_joined(self, drop_last):
        sampler = torch.utils.data.BatchSampler(
            torch.utils.data.SequentialSampler(range(10)), 2, drop_last=False
        )
        data = loader(Increasing(10), batch_size=1, iterations=3, batch_sampler=sampler, drop_last=drop_last)
        assert len(data) == (5 if drop_last else 2), "micro-batches, or what the items rebatched make"
        assert labels(data) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]][: 1 if drop_last else 2]

    def test_a_break_inside_a_batch_under_construction(self):
        data = loader(
            Increasing(8, labels=False), DataLoaderMode.AsyncRebatched, batch_size=4, rebatched_worker_size=3
        )
        for _ in range(5):
            for batch in data:
                assert batch[:, 0].tolist() == [0, 1, 2, 3]
                break
        assert firsts(data) == [[0, 1, 2, 3], [4, 5, 6, 7]]


class TestRefusals:
    def test_sizes_of_one_need_no_rebatching(self):
        with pytest.raises(AssertionError):
            AsynchronousDataAccessor(Increasing(4), rebatched_size=1)

    def test_an_asynchronous_loader_has_its_accessor(self):
        with pytest.raises(poptorch.Error):
            AsynchronousDataAccessor(loader(Increasing(4)))

    def test_short_last_batches_have_no_buffer(self):
        sync = DataLoader(Options(), Increasing(5), 2, drop_last=False)
        with pytest.raises(AssertionError):
            AsynchronousDataAccessor(sync, **FORK)
        assert len(list(AsynchronousDataAccessor(DataLoader(Options(), Increasing(4), 2), **FORK))) == 2

    def test_failing_at_once(self, capfd):
        with pytest.raises(poptorch.Error, match="worker thread failed to start"):
            loader(Broken(4))
        assert "AssertionError: this item is broken" in capfd.readouterr().err

    def test_empty_data_sets(self):
        with pytest.raises(poptorch.Error, match="worker thread failed to start"):
            AsynchronousDataAccessor([], **FORK)

    def test_data_sets_smaller_than_an_item_are_told_from_what_fails(self, capfd):
        with pytest.raises(poptorch.Error, match="worker thread failed to start"):
            loader(Increasing(4), batch_size=5)
        assert "the data set is empty, or smaller than one item of the loader" in capfd.readouterr().err

    def test_failing_later_is_reported_where_it_happens(self, capfd):
        data = loader(Broken(9, at=5), batch_size=1)
        seen = []
        with pytest.raises(poptorch.Error, match="this item is broken"):
            for batch in data:
                seen.append(batch[1].item())
        assert seen == [0, 1, 2, 3, 4]
        with pytest.raises(poptorch.Error, match="terminated"):
            iter(data)

    @pytest.mark.parametrize("item", [3, [torch.zeros(1), 3], {"a": 3}, [[torch.zeros(1)]]])
    def test_items_are_tensors(self, item, capfd):
        with pytest.raises(poptorch.Error, match="failed to start"):
            AsynchronousDataAccessor([item], **FORK)
        assert "AssertionError" in capfd.readouterr().err

    def test_items_have_one_shape(self, capfd):
        data = AsynchronousDataAccessor(Ragged(3), **FORK)
        with pytest.raises(poptorch.Error, match="same shapes"):
            list(data)

    def test_items_have_one_number_of_tensors(self, capfd):
        one = torch.zeros(1)
        with pytest.raises(poptorch.Error, match="same number of tensors"):
            list(AsynchronousDataAccessor([[one, one], [one]], **FORK))

    @pytest.mark.parametrize(
        "item, reason",
        [
            ([torch.zeros(2, 3), torch.tensor(1)], "there is a 0-dim tensor"),
            ([torch.zeros(2, 3), torch.zeros(3)], "same first dimension"),
        ],
    )
    def test_rebatched_items_have_rows(self, item, reason, capfd):
        with pytest.raises(poptorch.Error):
            list(AsynchronousDataAccessor([item], rebatched_size=4, **FORK))
        assert reason in capfd.readouterr().err

    def test_a_killed_worker_is_noticed(self):
        data = loader(Increasing(100), batch_size=1)
        next(iter(data))
        os.kill(worker(data)._process.pid, signal.SIGKILL)
        with pytest.raises(poptorch.Error, match="died"):
            list(data)


class TestEnd:
    def test_terminating_ends_the_process_and_can_be_repeated(self):
        data = loader(Increasing(10), num_workers=1)
        next(iter(data))
        process = worker(data)._process
        data.terminate()
        data.terminate()
        assert not process.is_alive() and process.exitcode == 0
        with pytest.raises(poptorch.Error, match="terminated"):
            iter(data)

    def test_forgetting_a_loader_ends_its_process(self):
        data = loader(Increasing(10))
        process = worker(data)._process
        del data
        assert not process.is_alive()

    def test_a_loop_keeps_its_loader_alive(self):
        seen = []
        for batch in loader(Increasing(30), batch_size=1):
            seen.append(batch[1].item())
            time.sleep(0.002)
        assert seen == list(range(30))

    def test_a_synchronous_loader_has_nothing_to_terminate(self):
        data = DataLoader(Options(), Increasing(4))
        data.terminate()
        assert data._accessor is None and len(list(data)) == 4


# Forks a program with a loader for each line that it reads: torch is imported once for all.
PROGRAMS = """
    import os, signal, sys, time, torch
    from ipu_train import emulator as poptorch

    def program(iterate, strategy):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
        poptorch.setLogLevel("DEBUG")
        data = torch.utils.data.TensorDataset(torch.randn(100, 3, 32, 32), torch.zeros(100))
        loader = poptorch.DataLoader(poptorch.Options(), data, 16, shuffle=True, num_workers=1,
                                     mode=poptorch.DataLoaderMode.Async,
                                     async_options=dict(sharing_strategy=poptorch.SharingStrategy[strategy]))
        if iterate == "iterating":
            for _ in loader:
                pass
        try:
            print("[control] ready", flush=True)
            time.sleep(300)
        except KeyboardInterrupt:
            print("[control] stopped", flush=True)

    torch.set_num_threads(1)
    for line in sys.stdin:
        iterate, strategy, output = line.split()
        child = os.fork()
        if child == 0:
            file = os.open(output, os.O_WRONLY | os.O_CREAT)
            os.dup2(file, 1), os.dup2(file, 2)
            program(iterate, strategy)
            sys.exit()
        print(child, flush=True)
        os.waitpid(child, 0)
        print("over", flush=True)
"""


@pytest.fixture(scope="module")
def programs():
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(PROGRAMS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )
    yield process
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


@pytest.fixture
def start(programs, tmp_path):
    """Starts a program; gives its number, its worker's, what waits for its end and what reads its output."""
    output = tmp_path / "output"

    def begin(iterate, strategy):
        programs.stdin.write(f"{iterate} {strategy} {output}\n")
        programs.stdin.flush()
        pid = int(programs.stdout.readline())
        wait_until(lambda: output.exists() and "[control] ready" in output.read_text(), 300)
        match = re.search(r"AsynchronousDataAccessor worker process: (\d+)", output.read_text())
        assert match, output.read_text()
        return pid, int(match.group(1)), programs.stdout.readline, output.read_text

    return begin


class TestEndOfPrograms:
    @pytest.mark.parametrize("iterate, strategy", [("iterating", "ForkServer"), ("idle", "Fork")])
    def test_interrupting_is_quiet(self, start, iterate, strategy):
        pid, its_worker, wait, output = start(iterate, strategy)
        os.kill(its_worker, signal.SIGINT)
        os.kill(pid, signal.SIGINT)
        wait()
        lines = output().splitlines()
        unexpected = [line for line in lines if "[debug]" not in line and "[control]" not in line]
        assert not unexpected, output()
        assert "[control] stopped" in lines

    def test_a_worker_does_not_outlive_a_killed_process(self, start):
        pid, its_worker, wait, _ = start("iterating", "Fork")
        os.kill(pid, signal.SIGKILL)
        wait()

        def gone():
            try:
                os.kill(its_worker, 0)
            except ProcessLookupError:
                return True
            try:  # nobody may be left to collect it
                with open(f"/proc/{its_worker}/stat") as file:
                    return file.read().rsplit(")", 1)[1].split()[0] == "Z"
            except FileNotFoundError:
                return True

        wait_until(gone)


def _cannot_be_made():
    raise AttributeError("no such class here")


class Foreign:
    """Can be made in the worker process only."""

    def __reduce__(self):
        return _cannot_be_made, ()


class ForeignItems(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield {Foreign(): torch.ones(2)}


def test_a_worker_whose_items_cannot_arrive_ends_with_the_error():
    before = set(multiprocessing.active_children())
    with pytest.raises(AttributeError, match="no such class here"):
        poptorch.AsynchronousDataAccessor(ForeignItems())
    assert set(multiprocessing.active_children()) <= before, "no process is left to wait for"

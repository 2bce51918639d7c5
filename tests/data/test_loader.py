"""Batches through a DataLoader: whole, ordered, counted once, and the same with and without workers."""

import pickle
import time
import types

import numpy as np
import pytest
import torch

from ipu_train.config import section
from ipu_train.data import IGNORED_LABEL, DataError, EpochSampler, PaddedDataset, loader, open_data
from ipu_train.data.augment import Shift
from ipu_train.data.datasets import ArrayImages, ImageDataset


class PlainDataLoader(torch.utils.data.DataLoader):
    """PopTorch's DataLoader as far as batches go: ``options`` is the number of micro-batches it combines."""

    def __init__(self, options, dataset, batch_size, auto_distributed_partitioning, **more):
        assert auto_distributed_partitioning is False
        super().__init__(dataset, batch_size=batch_size * options, **more)


plain = types.SimpleNamespace(DataLoader=PlainDataLoader)


def dataset(n=64):
    source = np.random.default_rng(0).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
    return ArrayImages(source, np.arange(n) % 10, Shift(1, True, seed=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_items_in_the_order_of_the_sampler(workers):
    data = dataset()
    sampler = EpochSampler(len(data), 3, batch_multiple=16)
    sampler.set_position(1, 16)
    keys = [(1, index) for index in sampler.indices(1)[16:].tolist()]
    batches = list(loader(plain, 4, data, sampler, 4, workers=workers))
    assert [tuple(images.shape) for images, _ in batches] == [(16, 3, 8, 8)] * 3
    images, labels = (torch.cat(parts) for parts in zip(*batches))
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    for i, key in enumerate(keys):
        image, label = data[key]
        assert torch.equal(images[i], image) and labels[i] == label


def test_torchs_own_loader_gets_the_same_items():
    data = dataset()
    keys = [(0, 5), (2, 9), (1, 63)]
    images, labels = next(iter(torch.utils.data.DataLoader(data, batch_size=3, sampler=keys)))
    expected = data.batch(keys)
    assert torch.equal(images, expected[0]) and torch.equal(labels, expected[1])


@pytest.mark.parametrize("length", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("processes", [1, 2])
def test_padded_validation_counts_each_image_exactly_once(length, processes):
    data = ArrayImages(np.arange(length, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(length))
    padded = PaddedDataset(data, 8 * processes)
    seen = []
    for process in range(processes):
        sampler = EpochSampler(
            len(padded), 0, 8, shuffle=False, process_index=process, num_processes=processes
        )
        for images, labels in loader(plain, 2, padded, sampler, 4):
            assert len(images) == 8
            kept = labels != IGNORED_LABEL
            assert torch.equal(images.flatten()[kept].long(), labels[kept])
            seen += labels[kept].tolist()
    assert sorted(seen) == list(range(length))


def test_indices_outside_the_data_set_are_refused():
    with pytest.raises(IndexError, match="64 images"):
        dataset()[0, 64]
    assert len(list(dataset(5))) == 5  # iterating ends


class Broken(ImageDataset):
    def images(self, epochs, indices):
        raise DataError("cat/7.jpg: not a readable image (truncated); replace or delete it")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_one_line_too(workers):
    broken = Broken(np.zeros(8))
    with pytest.raises(DataError) as caught:
        next(iter(loader(plain, 1, broken, EpochSampler(8, batch_multiple=4), 4, workers=workers)))
    assert str(caught.value) == "cat/7.jpg: not a readable image (truncated); replace or delete it"


@pytest.mark.parametrize("name", ["digits", "generated", "synthetic"])
def test_data_sets_can_be_sent_to_another_process(name):
    """PopTorch's asynchronous loading starts its process afresh (fork server) and pickles the data set."""
    source = open_data(section("data", name=name))
    for part in (source.train, PaddedDataset(source.validation, 7)):
        images, labels = pickle.loads(pickle.dumps(part)).batch([(2, 5), (0, 1)])
        expected = part.batch([(2, 5), (0, 1)])
        assert torch.equal(images, expected[0]) and torch.equal(labels, expected[1])


class Sent(ImageDataset):
    """Images whose pixels are their index; written where there is room, as those of files are."""

    def __init__(self, length):
        super().__init__(np.arange(length))

    def fetch(self, epochs, indices, room=None):
        images = np.empty((len(indices), 1, 8, 8), dtype=np.uint8) if room is None else room
        images[:] = indices.reshape(-1, 1, 1, 1)
        return images, self.labels[indices]


@pytest.mark.parametrize("workers, ahead", [(1, 2), (2, 1)])
def test_workers_write_into_the_same_memory_again_but_not_into_the_batch_in_use(workers, ahead):
    data = Sent(96)
    sampler = EpochSampler(len(data), 0, batch_multiple=4)
    batches = loader(
        plain,
        2,
        data,
        sampler,
        2,
        workers=workers,
        coefficients=lambda keys: torch.tensor([[index] for _, index in keys]),
        prefetch_factor=ahead,
    )
    places = set()
    for epoch, stops_after in ((0, 7), (1, 24), (2, 24)):  # the first one is left in its middle
        sampler.set_position(epoch)
        for i, (images, labels, drawn) in enumerate(batches):
            if i == stops_after:
                break
            if i % 4 == 0:
                time.sleep(0.05)  # the workers have time to prepare all that they may
            expected = sampler.indices(epoch)[4 * i : 4 * i + 4]
            for found in (images[:, 0, 7, 7], labels, drawn[:, 0]):
                assert found.tolist() == expected.tolist()
            places.add(images.data_ptr())
    assert len(places) == workers * (ahead + 1)

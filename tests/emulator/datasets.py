"""Small data sets that other processes can import."""

import torch


class Increasing(torch.utils.data.Dataset):
    """Item i is a tensor full of i, and i as a label."""

    def __init__(self, length, shape=(2,), labels=True):
        self.length, self.shape, self.labels = length, shape, labels

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        image = torch.full(self.shape, float(index))
        return (image, torch.tensor(index)) if self.labels else image


class AsDict(Increasing):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return {"image": image, "label": label}


class Stream(torch.utils.data.IterableDataset):
    """Yields 0, 1, ...; each worker its share when there are several."""

    def __init__(self, length, known_length=False):
        self.length = length
        if known_length:
            self.__class__ = StreamWithLength

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index in range(first, self.length, step):
            yield torch.full((2,), float(index))


class StreamWithLength(Stream):
    def __len__(self):
        return self.length


class Broken(Increasing):
    """Fails at one index."""

    def __init__(self, length, at=0):
        super().__init__(length)
        self.at = at

    def __getitem__(self, index):
        assert index != self.at, "this item is broken"
        return super().__getitem__(index)


class Ragged(Increasing):
    """The last item has another shape."""

    def __getitem__(self, index):
        return torch.zeros(3 if index == self.length - 1 else 2)


class Random(Increasing):
    def __getitem__(self, index):
        return torch.rand(2)


class Pair:
    """A type of its own, to be registered with poptorch."""

    def __init__(self, left, right):
        self.left, self.right = left, right


class Pairs(Increasing):
    def __getitem__(self, index):
        return Pair(torch.full((2,), float(index)), torch.tensor([index]))


def nothing(worker_id):
    """A worker_init_fn: Stream shares itself out."""


def stack_pairs(samples):
    """A collate_fn that also says how many samples it got."""
    return torch.stack([s[0] for s in samples]), torch.full((len(samples),), len(samples))

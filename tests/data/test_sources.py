"""Each source gives uint8 images, labels and what a model must know of them."""

import gzip
import hashlib
import pickle
import pwd
import struct

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

from ipu_train.config import section
from ipu_train.data import DataError, open_data
from ipu_train.data.downloads import default_path
from ipu_train.data.sources import stratified_split


def digits(**keys):
    return open_data(section("data", name="digits", **keys))


def check_items(source):
    for dataset in (source.train, source.validation):
        image, label = dataset[0]
        assert image.dtype == torch.uint8 and label.dtype == torch.int64 and label.shape == ()
        assert image.shape == (source.channels, source.image_size, source.image_size)
        assert set(dataset.labels) <= set(range(source.num_classes))
    assert len(source.mean) == len(source.std) == source.channels
    assert len(source.class_names) == source.num_classes


def test_digits_are_scikit_learns_split_once_for_all():
    source = digits(augment="none")
    check_items(source)
    assert (source.num_classes, source.channels, source.image_size) == (10, 1, 8)
    parts = torch.cat([part.tensor.flatten(1) for part in (source.train, source.validation)]).numpy()
    original = np.round(load_digits().data * 255 / 16).astype(np.uint8)
    assert parts.max() == 255
    assert sorted(map(bytes, parts)) == sorted(map(bytes, original)), "each digit in exactly one part"
    share = np.bincount(source.validation.labels) / np.bincount(load_digits().target)
    assert np.abs(share - 0.2).max() < 0.005, "stratified"
    again = open_data(section("data", name="digits"), seed=5)
    assert np.array_equal(again.validation.tensor, source.validation.tensor), "the split depends on no seed"
    pixels = source.train.tensor.double() / 255
    assert source.mean[0] == pytest.approx(float(pixels.mean())) and source.std[0] == pytest.approx(
        float(pixels.std(unbiased=False))
    )


def test_a_class_of_one_image_cannot_be_split():
    with pytest.raises(DataError, match="class 1 has 1 image"):
        stratified_split(np.array([0, 0, 0, 1]), 0.2)


def test_images_are_resized_on_demand():
    source = digits(image_size=16, augment="none")
    check_items(source)
    small, large = digits(augment="none").train.tensor.double(), source.train.tensor.double()
    assert abs(small.mean() - large.mean()) < 1


def test_padding_larger_than_the_image_is_refused():
    with pytest.raises(DataError, match=r"data.crop_padding is 8, but images have a side of 8"):
        digits(crop_padding=8)


def test_means_must_fit_the_channels():
    assert digits(mean=[0.5], std=[0.1]).mean == (0.5,)
    with pytest.raises(DataError, match="have 3 channels, but digits images have 1"):
        digits(mean=[0.5] * 3, std=[0.1] * 3)


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(">" + "I" * array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def test_fashion_mnist_is_read_through_torchvision(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = {
        "train": rng.integers(0, 256, (30, 28, 28), np.uint8),
        "t10k": rng.integers(0, 256, (10, 28, 28), np.uint8),
    }
    for part, images in pixels.items():
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(len(images)) % 10).astype(np.uint8))
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(b""))
    config = section("data", name="fashion_mnist", path=str(tmp_path), download=False, augment="none")
    source = open_data(config)
    check_items(source)
    assert np.array_equal(source.train.tensor.numpy()[:, 0], pixels["train"])
    assert np.array_equal(source.validation.tensor.numpy()[:, 0], pixels["t10k"])


@pytest.mark.parametrize("name, classes", [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read_through_torchvision(tmp_path, monkeypatch, name, classes):
    base = getattr(torchvision.datasets, name.upper())
    folder = tmp_path / base.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    key = "labels" if classes == 10 else "fine_labels"

    def write(names):
        listed, pixels = [], []
        for file, _ in names:
            images = rng.integers(0, 256, (10, 3, 32, 32), np.uint8)
            data = pickle.dumps({"data": images.reshape(10, -1), key: list(range(10))})
            (folder / file).write_bytes(data)
            listed.append([file, hashlib.md5(data).hexdigest()])
            pixels.append(images)
        return listed, np.concatenate(pixels)

    train_list, train = write(base.train_list)
    test_list, test = write(base.test_list)
    meta = pickle.dumps({base.meta["key"]: [f"class{i}" for i in range(classes)]})
    (folder / base.meta["filename"]).write_bytes(meta)
    monkeypatch.setattr(base, "train_list", train_list)
    monkeypatch.setattr(base, "test_list", test_list)
    monkeypatch.setattr(base, "meta", {**base.meta, "md5": hashlib.md5(meta).hexdigest()})
    source = open_data(section("data", name=name, path=str(tmp_path), augment="none"))
    check_items(source)
    assert source.num_classes == classes and source.class_names[3] == "class3"
    assert np.array_equal(source.train.tensor.numpy(), train)
    assert np.array_equal(source.validation.tensor.numpy(), test)


def test_without_files_and_without_network_one_message_says_what_to_do(tmp_path, monkeypatch):
    import urllib.error
    import urllib.request

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError) as caught:
        open_data(section("data", name="cifar10", path=str(tmp_path)))
    message = str(caught.value)
    assert message.startswith(f"CIFAR-10 is not in {tmp_path} and cannot be downloaded (")
    assert "data.path" in message and "data.name=digits" in message and "\n" not in message
    with pytest.raises(DataError, match=r"set data\.download to true"):
        open_data(section("data", name="cifar10", path=str(tmp_path), download=False))
    with pytest.raises(DataError, match="there is no such folder"):
        open_data(section("data", name="cifar10", path=str(tmp_path / "x"), download=False))


def test_downloads_go_to_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "ipu-train"


def test_without_a_home_folder_somebody_must_say_where_downloads_go(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(DataError, match=r"data\.path: no home folder is known"):
        open_data(section("data", name="cifar10"))


@pytest.mark.parametrize("keys", [{}, {"channels": 1, "num_classes": 3, "image_size": 20, "length": 100}])
@pytest.mark.parametrize("name", ["generated", "synthetic"])
def test_made_images_have_the_asked_shape(name, keys):
    source = open_data(section("data", name=name, **keys))
    check_items(source)
    if keys:
        assert (source.channels, source.num_classes, source.image_size, len(source.train)) == (1, 3, 20, 100)


def test_a_generated_image_is_a_function_of_seed_and_index():
    config = section("data", name="generated", length=50)
    one, two, other = open_data(config, 1).train, open_data(config, 1).train, open_data(config, 2).train
    images, _ = one.batch([(0, i) for i in range(50)])
    assert torch.equal(two[0, 7][0], images[7]) and torch.equal(two[4, 7][0], images[7])
    assert not torch.equal(other[0, 7][0], images[7])
    assert len({bytes(image.numpy()) for image in images}) == 50


def test_generated_images_can_be_learnt():
    """Nearest class mean, learnt on the training images, judged on the validation images."""
    source = open_data(section("data", name="generated", length=1000, num_classes=5, image_size=16))
    x, y = source.train.batch(range(1000))
    means = torch.stack([x[y == label].float().mean(0) for label in range(5)]).flatten(1)
    x, y = source.validation.batch(range(len(source.validation)))
    assert (torch.cdist(x.float().flatten(1), means).argmin(1) == y).float().mean() > 0.9


def test_synthetic_images_are_the_same_each_time():
    config = section("data", name="synthetic", length=200)
    a, b = open_data(config).train.batch([(0, 3), (5, 3 + 64)])[0]
    assert torch.equal(a, b)
    assert torch.equal(open_data(config).train[3][0], a)

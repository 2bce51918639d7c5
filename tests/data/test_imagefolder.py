"""Folders of image files: splits, decoding, caching, and one clear message for each thing that is wrong."""

import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from ipu_train.cli import main
from ipu_train.config import section
from ipu_train.data import DataError, open_data
from ipu_train.data.datasets import ArrayImages
from ipu_train.data.files import FileImages


def make(root, *classes, count=5, size=(12, 10), suffix="png"):
    rng = np.random.default_rng(len(str(root)))
    for name in classes:
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(
                folder / f"{i}.{suffix}"
            )
    return root


def folder(path, **keys):
    return open_data(
        section("data", name="imagefolder", path=str(path), image_size=keys.pop("image_size", 8), **keys)
    )


def failure(path, **keys):
    with pytest.raises(DataError) as caught:
        source = folder(path, **keys)
        source.train.batch(range(len(source.train)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("validation", ["val", "validation", "valid", "test"])
def test_train_and_validation_folders_are_found(tmp_path, validation):
    make(tmp_path / "train", "cat", "dog", count=4)
    make(tmp_path / validation, "cat", "dog", count=2)
    source = folder(tmp_path)
    assert source.class_names == ["cat", "dog"] and source.num_classes == 2 and source.channels == 3
    assert (len(source.train), len(source.validation)) == (8, 4)
    assert source.train.labels.tolist() == [0] * 4 + [1] * 4
    assert source.note == ""


def test_splits_can_be_named(tmp_path):
    make(tmp_path / "a", "x", "y")
    make(tmp_path / "b", "x", count=3)
    source = folder(tmp_path, train_split="a", validation_split="b")
    assert (len(source.train), len(source.validation)) == (10, 3)
    message = failure(tmp_path, train_split="a", validation_split="c")
    assert f"{tmp_path / 'c'}: there is no such folder" in message and "a, b" in message


def test_one_root_is_split_class_by_class(tmp_path):
    make(tmp_path, "x", "y", count=10)
    source = folder(tmp_path, validation_fraction=0.3, augment="none")
    assert np.bincount(source.validation.labels).tolist() == [3, 3]
    assert np.bincount(source.train.labels).tolist() == [7, 7]
    parts = [
        {bytes(part[i][0].numpy()) for i in range(len(part))} for part in (source.train, source.validation)
    ]
    assert len(parts[0] | parts[1]) == 20 and not parts[0] & parts[1]  # every image is in one of them
    assert len(folder(tmp_path).validation) == 4
    assert "no validation folder: 20% of each class are held out" in folder(tmp_path).note
    assert "30%" in source.note


def test_images_in_deeper_folders_and_of_all_kinds_count(tmp_path):
    make(tmp_path, "x", "y", count=3)
    make(tmp_path / "x", "deep", count=1, suffix="JPEG")
    make(tmp_path / "y", "deep", count=1, suffix="bmp")
    (tmp_path / "x" / "notes.txt").write_text("no image")
    (tmp_path / "x" / "._0.png").write_text("a Mac's shadow file")
    (tmp_path / ".hidden").mkdir()
    assert len(folder(tmp_path).train) + len(folder(tmp_path).validation) == 8


def test_lossless_images_of_the_right_size_arrive_bit_for_bit(tmp_path):
    make(tmp_path / "train", "x", "y", size=(8, 8))
    make(tmp_path / "val", "x", "y", size=(8, 8))
    source = folder(tmp_path, augment="none")
    with Image.open(tmp_path / "val" / "y" / "3.png") as image:
        expected = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
    assert torch.equal(source.validation[8][0], expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    make(tmp_path, "x", "y", size=(8, 8))
    suffix = "jpg" if mode == "CMYK" else "png"
    with Image.open(tmp_path / "x" / "0.png") as image:
        image.convert(mode).save(tmp_path / "y" / f"odd.{suffix}")
    with Image.open(tmp_path / "y" / f"odd.{suffix}") as image:
        expected = torch.from_numpy(np.array(image.convert("RGB")).transpose(2, 0, 1))
    source = folder(tmp_path, augment="none")
    found = [part[i] for part in (source.train, source.validation) for i in range(len(part))]
    assert 1 in [int(label) for image, label in found if torch.equal(image, expected)]


def test_validation_images_are_resized_by_the_shorter_side_and_cropped_in_the_middle(tmp_path):
    make(tmp_path, "x", "y", size=(80, 40))
    source = folder(tmp_path, augment="none", image_size=20, cache=False)
    with Image.open(source.validation.files.paths[0]) as image:
        whole = image.resize((40, 20), Image.BILINEAR).crop((10, 0, 30, 20))
    assert np.array_equal(source.validation[0][0].numpy().transpose(1, 2, 0), np.asarray(whole))


@pytest.mark.parametrize("cache", [True, False])
def test_centre_crop_trains_on_what_is_tested_after_random_crops_the_middle_224_of_256_pixels(
    tmp_path, cache
):
    for part in ("train", "val"):
        make(
            tmp_path / part, "x", size=(64, 32)
        )  # 28 pixels are tested on the middle of a shorter side of 32
    tuned = folder(tmp_path, augment="centre_crop", image_size=28, cache=cache)
    trained = folder(tmp_path, augment="random_resized_crop", image_size=28, cache=cache)
    for part, images in (("train", tuned.train), ("val", tuned.validation), ("val", trained.validation)):
        with Image.open(tmp_path / part / "x" / "0.png") as image:
            middle = np.asarray(image.crop((18, 2, 46, 30)))
        assert np.array_equal(images[1, 0][0].numpy().transpose(1, 2, 0), middle)


@pytest.mark.parametrize("augment", ["none", "flip_crop", "random_resized_crop", "centre_crop"])
def test_cached_and_uncached_images_are_the_same(tmp_path, augment):
    make(tmp_path, "x", "y", size=(30, 21))
    cached, plain = (folder(tmp_path, augment=augment, cache=cache) for cache in (True, False))
    assert isinstance(plain.train, FileImages) and plain.train._picture is None
    assert isinstance(cached.validation, ArrayImages)
    keys = [(epoch, index) for epoch in (0, 3) for index in range(len(plain.train))]
    assert torch.equal(cached.train.batch(keys)[0], plain.train.batch(keys)[0])
    for part in (cached.validation, plain.validation):
        assert torch.equal(part[0][0], cached.validation[0][0])


def test_auto_keeps_small_sets_in_memory_and_large_ones_not(tmp_path, monkeypatch):
    make(tmp_path, "x", "y", size=(30, 30))
    assert isinstance(folder(tmp_path).train, ArrayImages)
    monkeypatch.setattr("ipu_train.data.files.CACHE_BYTES", 500)
    assert isinstance(folder(tmp_path).train, FileImages)
    assert folder(tmp_path, augment="random_resized_crop").train._picture is None


def test_random_resized_crops_depend_on_seed_epoch_and_index(tmp_path):
    make(tmp_path, "x", "y", size=(40, 40))
    train = folder(tmp_path, augment="random_resized_crop").train
    keys = [(1, 0), (1, 1), (2, 0)]
    batch = train.batch(keys)[0]
    assert torch.equal(train[1, 1][0], batch[1])
    assert not torch.equal(batch[0], batch[2])


class Counted(np.ndarray):
    """Arrays that know how many of them there are."""

    alive = most = 0

    def __new__(cls, side):
        made = np.zeros((side, side, 3), np.uint8).view(cls)
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)
        weakref.finalize(made, cls.gone)
        return made

    @classmethod
    def gone(cls):
        Counted.alive -= 1


@pytest.mark.parametrize("side, most", [(1500, 1), (1000, 2)])
def test_pictures_are_gone_before_more_are_decoded_than_the_caches_hold(tmp_path, monkeypatch, side, most):
    """Of 6.75 and of 3 MB: large photographs must not be in memory twice."""
    make(tmp_path, "train/ant", "train/bee", "val/ant", "val/bee", count=4)
    images = folder(tmp_path, cache=False).train
    monkeypatch.setattr(images, "picture", lambda index: Counted(side))
    monkeypatch.setattr(Counted, "most", 0)
    assert images.fetch(np.zeros(7, int), np.arange(7))[1].tolist() == [0] * 4 + [1] * 3
    assert Counted.most == most


def test_a_wrong_path_is_named(tmp_path):
    assert failure(tmp_path / "nowhere").startswith(
        f"{tmp_path / 'nowhere'}: there is no such folder; set data.path"
    )
    (tmp_path / "file").write_text("")
    assert "is a file" in failure(tmp_path / "file")


def test_a_folder_without_classes_is_named(tmp_path):
    assert "holds no class folders" in failure(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert "a.png and the like belong into one sub-folder a class" in failure(tmp_path)


def test_an_empty_class_is_named(tmp_path):
    make(tmp_path, "x", "y")
    (tmp_path / "z").mkdir()
    assert failure(tmp_path).startswith(f"{tmp_path / 'z'}: the class folder has no images")


def test_a_class_that_training_does_not_know_is_named(tmp_path):
    make(tmp_path / "train", "x", "y")
    make(tmp_path / "val", "x", "q")
    assert failure(tmp_path) == f"{tmp_path / 'val' / 'q'}: the training images have no class of this name"


def test_a_fraction_beside_a_validation_folder_is_refused(tmp_path):
    make(tmp_path / "train", "x", "y")
    make(tmp_path / "val", "x", "y")
    assert "data.validation_fraction must go" in failure(tmp_path, validation_fraction=0.5)


def test_a_class_too_small_to_split_is_named(tmp_path):
    make(tmp_path, "x", "y", count=1)
    assert failure(tmp_path).startswith(f"{tmp_path}: class x has 1 image")


def test_one_class_alone_is_not_trained_on_and_a_check_says_so(tmp_path, capsys):
    root = make(tmp_path / "images", "only")
    assert main(["data", "check", str(root)]) == 0
    assert "holds one class only" in capsys.readouterr().out
    recipe = tmp_path / "one.yaml"
    recipe.write_text(
        f"model: {{name: resnet8}}\ndata: {{name: imagefolder, path: {root}, image_size: 8}}\n"
        "training: {epochs: 1, micro_batch_size: 1}\n"
    )
    assert main(["--config", str(recipe), f"run_dir={tmp_path / 'run'}"]) == 2
    assert "data.path: holds images of one class only (only)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("augment", ["none", "random_resized_crop"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_broken_image_is_named(tmp_path, damage, augment, cache):
    make(tmp_path / "train", "x", "y", size=(64, 64), suffix="jpg")
    make(tmp_path / "val", "x", "y", size=(64, 64), suffix="jpg")
    path = tmp_path / "train" / "y" / "3.jpg"
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "text": b"hello"}[damage])
    message = failure(tmp_path, augment=augment, cache=cache)
    assert message.startswith(f"{path}: not a readable image (") and message.endswith("replace or delete it")


def test_an_unreadable_image_is_named(tmp_path, monkeypatch):
    make(tmp_path, "x", "y")

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("ipu_train.data.pixels.os.open", refuse)
    assert "not a readable image (Permission denied)" in failure(tmp_path)

"""Augmentations of torchvision as functions of (seed, epoch, index), repeats, crops that show the object."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms

from ipu_train.config import section
from ipu_train.data import DataError, EpochSampler, keyed, loader, open_data
from ipu_train.data.augment import random_resized_crop
from ipu_train.data.boxes import read_boxes, shows
from ipu_train.data.policies import Drawn
from ipu_train.data.resizing import Resizing, crop_and_resize, resize
from ipu_train.plugins.datasets import OWN, OwnDataset

ALL = {"color_jitter": [0.4, 0.4, 0.4, 0.1], "random_erasing": 0.5}
POLICIES = ["randaugment", "trivialaugment", "autoaugment", "autoaugment_cifar10", "autoaugment_svhn"]


def generated(**keys):
    return open_data(section("data", name="generated", length=40, image_size=24, **keys), 7).train


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", POLICIES)
def test_images_depend_on_seed_epoch_and_index_alone(name, channels):
    train = generated(auto_augment=name, channels=channels, **ALL)
    keys = [(epoch, index) for epoch in (0, 5) for index in range(12)]
    before = torch.get_rng_state()
    whole, _ = train.batch(keys)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's numbers change
    torch.manual_seed(123)
    backwards = torch.stack([train[key][0] for key in keys[::-1]]).flip(0)
    assert torch.equal(whole, backwards)
    assert (whole[:12] != whole[12:]).flatten(1).any(1).float().mean() > 0.8
    plain, _ = generated(channels=channels).batch(keys)
    assert (whole != plain).flatten(1).any(1).float().mean() > 0.8


def test_workers_change_nothing(poptorch):
    train = generated(auto_augment="randaugment", augment="flip_crop", **ALL)
    batches = []
    for workers in (0, 2):
        loaded = loader(poptorch, poptorch.Options(), train, EpochSampler(40, 1, 8), 8, workers=workers)
        batches.append(torch.cat([images for images, _ in loaded]))
    assert torch.equal(*batches)


@pytest.mark.parametrize(
    "keys, transform",
    [
        (
            {"auto_augment": "randaugment", "randaugment_ops": 3, "randaugment_magnitude": 15},
            transforms.RandAugment(3, 15, interpolation=transforms.InterpolationMode.BILINEAR),
        ),
        (
            {"auto_augment": "trivialaugment"},
            transforms.TrivialAugmentWide(interpolation=transforms.InterpolationMode.BILINEAR),
        ),
    ],
)
def test_they_are_torchvisions_own(keys, transform):
    images, plain = generated(**keys).batch(range(8))[0], generated().batch(range(8))[0]
    seeds = keyed.bits(7, keyed.POLICY, 0, np.arange(8))[:, 0] >> np.uint64(1)
    for image, before, seed in zip(images, plain, seeds.tolist()):
        torch.manual_seed(seed)
        expected = np.asarray(transform(Image.fromarray(before.permute(1, 2, 0).numpy())))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_what_is_erased_is_the_mean_and_as_often_as_asked_for():
    keys = {"mean": [0.5, 0.25, 0.75], "std": [0.2, 0.2, 0.2]}
    plain = generated(**keys).batch(range(40))[0]
    erased = generated(random_erasing=0.5, **keys).batch(
        [(epoch, i) for epoch in range(10) for i in range(40)]
    )[0]
    changed = (erased != plain.repeat(10, 1, 1, 1)).any(1)
    share = changed.flatten(1).any(1).double().mean().item()
    assert abs(share - 0.5) < 4 * (0.25 / 400) ** 0.5
    fill = torch.tensor([128, 64, 191], dtype=torch.uint8).view(3, 1)
    for image, mask in zip(erased, changed):
        assert bool((image[:, mask] == fill).all()) and mask.double().mean() < 0.4


def test_a_transform_sees_each_image_with_numbers_of_its_own():
    drawn = Drawn(lambda image: image * 0 + torch.randint(256, ()).byte(), 0, keyed.POLICY, on_tensors=True)
    values = drawn(np.zeros((500, 1, 1, 1), np.uint8), np.zeros(500, int), np.arange(500)).ravel()
    assert 170 < len(set(values.tolist())) < 256  # 256 (1 - exp(-500 / 256)) = 220 are expected


# -- repeated augmentation ---------------------------------------------------------------------------------------


def test_copies_follow_each_other_and_each_is_augmented_anew():
    sampler = EpochSampler(20, 3, 4, repeats=3)
    sampler.set_position(2)
    keys = list(sampler)
    assert len(keys) == 20 and len(set(keys)) == 20
    indices = [index for _, index in keys]
    assert indices == [i for i in indices[::3] for _ in range(3)][:20] and len(set(indices)) == 7
    assert [epoch for epoch, _ in keys] == ([6, 7, 8] * 7)[:20]
    later = list(sampler)
    assert not set(keys) & set(later)  # no key twice over the epochs
    sampler.set_position(2, 8)
    assert list(sampler) == keys[8:]


def test_processes_share_the_copies_among_them():
    whole = EpochSampler(64, 3, 16, repeats=2)
    parts = [EpochSampler(64, 3, 8, process_index=i, num_processes=2, share=2, repeats=2) for i in (0, 1)]
    dealt = [list(part) for part in parts]
    expected = list(whole)
    for start in range(0, 64, 4):
        assert expected[start : start + 2] == dealt[0][start // 2 : start // 2 + 2]
        assert expected[start + 2 : start + 4] == dealt[1][start // 2 : start // 2 + 2]


# -- crops that show the object ------------------------------------------------------------------------------------


def test_crops_are_drawn_again_until_they_show_the_object():
    box = np.array([0.8, 0.8, 1.0, 1.0], np.float32)

    def share(accepts):
        crops = [random_resized_crop(100, 80, 1, 0, index, accepts) for index in range(400)]
        return np.mean([shows(box, 100, 80, crop.box) for crop in crops]), crops

    without, plain = share(None)
    with_boxes, drawn = share(lambda crop: shows(box, 100, 80, crop))
    # ten tries with a chance of p each fail with (1 - p)^10
    assert with_boxes > without and abs(with_boxes - (1 - (1 - without) ** 10)) < 0.05
    assert [a == b for a, b in zip(plain, drawn) if shows(box, 100, 80, a.box)].count(False) == 0
    assert random_resized_crop(100, 80, 1, 0, 5, lambda crop: True) == plain[5]


def test_how_much_of_a_crop_the_object_fills():
    box = np.array([0.0, 0.0, 0.5, 0.5])  # 50 x 40 pixels
    assert shows(box, 100, 80, (0, 0, 100, 80)) and not shows(box, 100, 80, (60, 50, 100, 80))
    assert shows(box, 100, 80, (40, 0, 140, 40)) and not shows(box, 100, 80, (41, 0, 141, 40))
    assert shows(np.full(4, np.nan), 100, 80, (60, 50, 100, 80)) and shows(None, 100, 80, (60, 50, 100, 80))


def test_boxes_are_found_by_the_names_of_files(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("file,xmin,ymin,xmax,ymax\na.JPEG,0.1,0.2,0.3,0.4\na.JPEG,0,0,1,1\nb.JPEG,0,0,1,0.5\n")
    boxes = read_boxes(path, ["train/n1/b.JPEG", "train/n1/c.JPEG", "a.JPEG"])
    assert np.allclose(boxes[[0, 2]], [[0, 0, 1, 0.5], [0.1, 0.2, 0.3, 0.4]]) and np.isnan(boxes[1]).all()
    path.write_text("a.JPEG,0.1,0.2,0.3,0.4\nb.JPEG,x\n")
    with pytest.raises(DataError, match="line 2 is not"):
        read_boxes(path, [])
    path.write_text('a.JPEG,"' + "1" * 200_000)  # a quote that never closes: a field longer than csv reads
    with pytest.raises(DataError, match="cannot be read"):
        read_boxes(path, [])


def test_a_folder_with_boxes_uses_them_unless_told_not_to(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part / "x").mkdir(parents=True)
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / part / "x" / "a.png")

    def boxes(**keys):
        data = section("data", name="imagefolder", path=str(tmp_path), image_size=96, cache=False, **keys)
        return open_data(data).train.preparation.boxes

    assert boxes() is None
    with pytest.raises(DataError, match="cannot be read"):
        boxes(bounding_boxes=True)
    (tmp_path / "imagenet_2012_bounding_boxes.csv").write_text("a.png,0.5,0.5,1,1\n")
    assert boxes().tolist() == [[0.5, 0.5, 1.0, 1.0]] and boxes(bounding_boxes=False) is None


# -- resizing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_only_what_is_needed_is_copied_and_the_pixels_are_those_of_the_whole(name):
    pixels = np.random.default_rng(0).integers(0, 256, (150, 210, 3), np.uint8)
    for index in range(12):
        crop = random_resized_crop(210, 150, 4, 0, index)
        whole = Image.fromarray(pixels)
        for how in (Resizing(name), Resizing(name, name == "lanczos")):
            assert np.array_equal(resize(pixels, crop, 32, how), resize(whole, crop, 32, how))
        for x in (crop, crop._replace(left=crop.left + 0.25, bottom=crop.bottom - 0.5)):
            assert np.array_equal(resize(pixels, x, 200), resize(whole, x, 200))


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("antialias", [True, False])
def test_random_crops_are_cut_out_first_and_resized_to_within_two_levels_of_pillow(name, antialias):
    pixels = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).resize((400, 300))
    )
    how = Resizing(name, antialias or name == "lanczos")
    for index in range(12):
        crop = random_resized_crop(400, 300, 4, 0, index)
        got = crop_and_resize(pixels, crop, 96, how)
        assert np.array_equal(got, crop_and_resize(Image.fromarray(pixels), crop, 96, how))
        cut = Image.fromarray(pixels).crop(crop.box)
        whole = (0, 0, *cut.size)
        method = getattr(Image, name.upper())
        plain = cut.transform((96, 96), Image.EXTENT, whole, method) if not how.antialias else None
        wanted = cut.resize((96, 96), method) if plain is None else plain
        wanted = np.asarray(wanted)[:, ::-1] if crop.flip else np.asarray(wanted)
        assert np.abs(got.transpose(1, 2, 0).astype(int) - wanted).max() <= 2


def test_without_antialiasing_single_points_are_sampled_as_torch_does():
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    crop = random_resized_crop(96, 96, 0, 0, 0)._replace(left=0, top=0, right=96, bottom=96, flip=False)
    plain, smooth = resize(pixels, crop, 24, Resizing(antialias=False)), resize(pixels, crop, 24)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    expected = [
        F.interpolate(image, (24, 24), mode="bilinear", antialias=a)[0].numpy() for a in (False, True)
    ]
    assert np.abs(plain - expected[0]).max() <= 1.01 and np.abs(smooth - expected[1]).max() <= 1.01
    assert smooth.astype(float).std() < 0.5 * plain.astype(float).std()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("keys", [{"auto_augment": "randaugment"}, {"color_jitter": [0.4, 0.4, 0.4, 0.1]}])
def test_colours_are_those_of_grey_and_rgb_pictures(monkeypatch, channels, keys):
    items = [(np.full((channels, 8, 8), 200, np.uint8), label) for label in (0, 1)]
    own = OwnDataset(lambda image_size, seed: (items, items), 2, channels, 8)
    monkeypatch.setitem(OWN, "mine", own)
    if channels in (1, 3):
        source = open_data(section("data", name="registered", dataset="mine", **keys))
        assert source.train.batch([0, 1])[0].shape == (2, channels, 8, 8)
    else:
        with pytest.raises(
            ValueError, match=f"changes grey or RGB pictures, and mine has images of {channels}"
        ):
            section("data", name="registered", dataset="mine", **keys)


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"auto_augment": "none", "randaugment_ops": 2}, "not read by auto_augment none"),
        ({"color_jitter": [0, 0, 0, 0.6]}, "hue, must be at most 0.5"),
        ({"color_jitter": [0.4]}, "color_jitter"),
        ({"random_erasing": 1.5}, "random_erasing"),
        ({"repeats": 0}, "repeats"),
    ],
)
def test_settings_that_cannot_be_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        generated(**keys)


def test_validation_sees_the_share_of_the_image_that_is_asked_for(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for part in ("train", "val"):
        (tmp_path / part / "x").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / part / "x" / "a.png")
    data = section(
        "data", name="imagefolder", path=str(tmp_path), image_size=20, augment="none", test_crop=0.5
    )
    source = open_data(data)
    assert np.array_equal(source.validation[0][0].permute(1, 2, 0).numpy(), pixels[10:30, 20:40])
    assert source.centre_share == 0.5


@pytest.mark.parametrize("decoder", ["pillow", "auto"])
def test_large_photographs_may_be_decoded_at_less_than_their_size(tmp_path, decoder):
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((800, 600), Image.BICUBIC)
    for part in ("train", "val"):
        (tmp_path / part / "x").mkdir(parents=True)
        for i in range(6):
            photo.rotate(30 * i).save(tmp_path / part / "x" / f"{i}.jpg", quality=95)

    def train(scaled):
        keys = {
            "augment": "random_resized_crop",
            "cache": False,
            "scaled_decoding": scaled,
            "decoder": decoder,
        }
        return open_data(section("data", name="imagefolder", path=str(tmp_path), image_size=64, **keys)).train

    keys = [(epoch, index) for epoch in range(3) for index in range(6)]
    whole, fast = (train(scaled).batch(keys)[0].double() for scaled in (False, True))
    assert not torch.equal(whole, fast)
    assert (whole - fast).abs().mean() < 3  # the same places of the pictures, to within a pixel

"""Broken data: each kind is named, or skipped and counted; no pixel changes without a word."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from ipu_train.config import section
from ipu_train.data import IGNORED_LABEL, DataError, EpochSampler, check, loader, open_data
from ipu_train.data.pixels import Rules, decode

from . import broken
from .broken import SIDE, grey_tiff, pixels, png, saved

KINDS = broken.file_kinds()


def photos(root, *classes, count=4):
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels(10 * number + i)).save(root / name / f"{i}.png")
    return root


def source(root, **keys):
    keys = {"augment": "none", "most_skipped": 0.5, **keys}
    return open_data(section("data", name="imagefolder", path=str(root), image_size=SIDE, **keys))


def read(data, **rules):
    return np.asarray(decode(data, "picture", Rules(**rules)))


@pytest.mark.parametrize("decoder", ["pillow", "auto"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_broken_file_is_named(kind, decoder):
    name, data, words = KINDS[kind]
    if decoder == "pillow" and "orrupt" in words:
        pytest.skip("Pillow passes over damage that libjpeg only warns of")
    with pytest.raises(DataError) as caught:
        decode(data, name, Rules(decoder=decoder))
    message = str(caught.value)
    assert words in message.replace("image file is truncated", "remature end") and message.isprintable()


def test_there_are_sixty_kinds(tmp_path):
    assert len(KINDS) + len(broken.place_kinds(tmp_path)) >= 60


def test_every_kind_of_file_is_found_by_a_check_and_skipped_and_counted_in_training(tmp_path, caplog):
    photos(tmp_path / "train", "x", "y", count=len(KINDS))
    photos(tmp_path / "val", "x", "y")
    good = source(tmp_path).train
    folder = tmp_path / "train" / "y"
    for number, kind in enumerate(sorted(KINDS)):
        name, data, _ = KINDS[kind]
        (folder / f"z{number} {name}").write_bytes(data)
    parts = check.open_parts(tmp_path)
    found = check.find(parts, list(check.examine_all(parts, Rules(), 1, progress=False)))
    assert len(found.problems) == len(KINDS) and len(found.records) == len(good) + len(KINDS) + 8
    assert {record.file for record in found.records if record.problem} == {
        str(path) for path in folder.iterdir() if path.name[0] == "z"
    }
    with caplog.at_level(logging.WARNING):
        train = source(tmp_path, on_error="skip", cache=False).train
        images, labels = train.batch(range(len(train)))
    assert train.faults.count == len(KINDS) and len(train) == len(good) + len(KINDS)
    # the usable images are where they were, bit for bit, and another one stands in for each that is not
    assert torch.equal(images[: len(good)], good.batch(range(len(good)))[0])
    assert torch.equal(images[len(good) :], images[:1].expand(len(KINDS), -1, -1, -1))
    assert labels[len(good) :].unique().tolist() == [0]
    assert "skipped: " in caplog.text and str(train.faults).startswith(f"{len(KINDS)} of {len(train)} images")


@pytest.mark.parametrize("number", range(9))
def test_what_is_no_file_is_named_and_skipped(tmp_path, number):
    photos(tmp_path / "train", "x", "y")
    photos(tmp_path / "val", "x", "y")
    kinds = broken.place_kinds(tmp_path / "train" / "y")
    assert len(kinds) == 9
    make, words = list(kinds.values())[number]
    make()
    with pytest.raises(DataError, match=words):
        source(tmp_path)
    train = source(tmp_path, on_error="skip").train
    assert len(train) == 8 and train.faults.count == 1
    (part, _) = check.open_parts(tmp_path)
    assert len(part.unlisted) == 1 and words in str(part.unlisted[0])


def test_a_folder_that_two_links_lead_to_counts_once(tmp_path):
    photos(tmp_path / "elsewhere", "deep")
    photos(tmp_path / "data", "x", "y")
    (tmp_path / "data" / "x" / "more").symlink_to("../../elsewhere")
    assert len(source(tmp_path / "data", validation_fraction=0.25).train) == 9
    (tmp_path / "data" / "y" / "more").symlink_to("../../elsewhere/deep")
    with pytest.raises(DataError, match="count twice"):
        source(tmp_path / "data")


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("augment", ["none", "random_resized_crop"])
def test_skipping_is_the_same_with_and_without_a_cache_and_with_workers(tmp_path, augment, cache, poptorch):
    photos(tmp_path / "train", "x", "y")
    photos(tmp_path / "val", "x", "y")
    (tmp_path / "train" / "x" / "1.png").write_bytes(b"")
    (tmp_path / "train" / "x" / "2.png").write_bytes(b"")
    train = source(tmp_path, on_error="skip", augment=augment, cache=cache).train
    images, labels = train.batch([(5, index) for index in range(8)])
    reference = source(tmp_path, on_error="skip", augment=augment, cache=False).train
    expected, _ = reference.batch([(5, index) for index in range(8)])
    assert torch.equal(images, expected) and labels.tolist() == [0] * 4 + [1] * 4
    if augment == "none":
        assert torch.equal(images[1], images[3]) and torch.equal(images[2], images[3])
    sampler = EpochSampler(8, 0, 4)
    sampler.set_position(5)
    options = poptorch.Options()
    loaded = list(loader(poptorch, options, train, sampler, 4, workers=1))
    order = sampler.indices(5)
    assert torch.equal(torch.cat([batch[0] for batch in loaded])[np.argsort(order)], images)
    assert train.faults.indices.tolist() == [1, 2]


@pytest.mark.parametrize("scaled", [True, False])
def test_what_stands_in_for_a_skipped_image_is_cropped_to_its_own_object(tmp_path, scaled):
    """As an image with the same pixels and the same object in its place would be."""
    wide = np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8)

    def crops(name, first_box):
        photos(tmp_path / name / "val", "x")
        folder = tmp_path / name / "train" / "x"
        folder.mkdir(parents=True)
        for file in ("a.jpg", "b.jpg"):
            Image.fromarray(wide).save(folder / file)
        if name == "broken":
            (folder / "a.jpg").write_bytes(b"")
        lines = [f"a.jpg,{first_box}", "b.jpg,0.8,0.8,1,1"]
        (tmp_path / name / "imagenet_2012_bounding_boxes.csv").write_text("\n".join(lines))
        keys = {
            "augment": "random_resized_crop",
            "on_error": "skip",
            "cache": False,
            "scaled_decoding": scaled,
        }
        return source(tmp_path / name, **keys).train.batch([(epoch, 0) for epoch in range(20)])[0]

    assert torch.equal(crops("broken", "0,0,0.2,0.2"), crops("whole", "0.8,0.8,1,1"))


@pytest.mark.parametrize("cache", [True, False])
def test_validation_counts_without_what_is_skipped(tmp_path, cache):
    photos(tmp_path / "train", "x", "y")
    photos(tmp_path / "val", "x", "y")
    (tmp_path / "val" / "y" / "0.png").write_bytes(b"")
    validation = source(tmp_path, on_error="skip", cache=cache).validation
    assert validation.batch(range(8))[1].tolist() == [0] * 4 + [IGNORED_LABEL] + [1] * 3


def test_more_than_the_allowed_share_ends_the_run(tmp_path):
    photos(tmp_path / "train", "x", "y", count=10)
    photos(tmp_path / "val", "x", "y")
    for i in range(3):
        (tmp_path / "train" / "x" / f"{i}.png").write_bytes(b"")
    keys = {"on_error": "skip", "cache": False}
    assert len(source(tmp_path, most_skipped=0.15, **keys).train.batch(range(20))[1]) == 20
    with pytest.raises(DataError, match="2 of 20 images cannot be used, more than data.most_skipped"):
        source(tmp_path, most_skipped=0.0, **keys).train.batch(range(20))


# -- pictures that are whole, and mean something else than their bytes -------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind, keys", [("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {})])
def test_pictures_stand_upright(kind, keys, orientation):
    upright = pixels()[:, :32]
    # by EXIF 2.3, tag 0x0112: which side of the stored rows and columns is the top and the left one
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = read(saved(kind, Image.fromarray(np.ascontiguousarray(stored)), exif=exif, **keys))
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).mean() < (4 if kind == "JPEG" else 1e-9)


@pytest.mark.parametrize(
    "between",
    [b"\xff" * 7, (b"\xff\xfe\xff\xff" + bytes(65533)) * 2, b"stray"],
    ids=["fill bytes", "long comments", "stray bytes"],
)
def test_pictures_stand_upright_whatever_comes_before_their_exif_part(between):
    exif = Image.Exif()
    exif[0x0112] = 3
    data = saved("JPEG", Image.fromarray(pixels()[::-1, ::-1].copy()), exif=exif, quality=95, subsampling=0)
    at = data.index(b"Exif") - 4  # its marker and length
    got = read(data[:at] + between + data[at:])
    assert np.abs(got.astype(int) - pixels()).mean() < 4


def test_sixteen_bits_are_scaled_to_eight():
    deep = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    expected = np.round(deep / 257.0)
    rows = [row.astype(">u2").tobytes() for row in deep]
    pgm = b"P5 %d %d 65535\n" % (SIDE, SIDE) + deep.astype(">u2").tobytes()
    for data in (png(SIDE, SIDE, 16, 0, rows), saved("TIFF", Image.fromarray(deep)), pgm):
        got = read(data)
        assert got.shape == (SIDE, SIDE, 3) and np.abs(got[:, :, 1] - expected).max() <= 0.5
    colours = np.repeat(deep[:, :, None], 3, 2)
    got = read(png(SIDE, SIDE, 16, 2, [row.astype(">u2").tobytes() for row in colours]))
    assert np.abs(got - expected[:, :, None]).max() <= 1


@pytest.mark.parametrize("bits, photometric", [(12, 1), (16, 1), (16, 0)])
def test_white_is_white_in_tiff_files_of_many_bits(bits, photometric):
    most = 2**bits - 1
    values = [0, most, most // 2, most // 4]
    digits = "".join(f"{value:0{bits}b}" for value in values)
    data = int(digits, 2).to_bytes(len(digits) // 8, "big")
    if bits == 16:
        data = np.array(values, "<u2").tobytes()
    got = read(grey_tiff(4, 1, bits, photometric, data))[0, :, 0]
    shown = [value if photometric else most - value for value in values]
    assert np.abs(got - np.array(shown) * (255 / most)).max() <= 0.5


@pytest.mark.parametrize("ground, colour", [("black", 0), ("white", 255)])
def test_transparent_pictures_are_laid_on_the_colour_that_is_asked_for(ground, colour):
    image = np.dstack([pixels(), np.full((SIDE, SIDE), 64, np.uint8)])
    got = read(saved("PNG", Image.fromarray(image)), transparency=ground)
    expected = pixels() * (64 / 255) + colour * (191 / 255)
    assert np.abs(got - expected).max() <= 1
    opaque = np.dstack([pixels(), np.full((SIDE, SIDE), 255, np.uint8)])
    assert np.array_equal(read(saved("PNG", Image.fromarray(opaque))), pixels())


def test_unusual_but_whole_files_are_read_as_they_are():
    whole = pixels()
    image = Image.fromarray(whole)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        assert np.array_equal(read(saved(kind)), whole)
    assert np.array_equal(read(saved("WEBP", lossless=True)), whole)
    assert np.array_equal(read(saved("PNG") + b"appended by a camera"), whole)
    jpeg = saved("JPEG", quality=90)
    assert np.array_equal(read(jpeg + b"more"), read(jpeg))
    assert np.array_equal(read(jpeg[:-2] + b"\0\0" + jpeg[-2:]), read(jpeg))  # stray bytes before the end
    grey = image.convert("L")
    assert np.array_equal(read(saved("PNG", grey)), np.asarray(grey.convert("RGB")))
    bits = image.convert("1")
    assert np.array_equal(read(saved("PNG", bits)), np.asarray(bits.convert("RGB")))
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert np.array_equal(read(saved("PNG", Image.fromarray(black))), black)
    one = Image.fromarray(whole[:1, :1])
    assert read(saved("PNG", one)).tolist() == whole[:1, :1].tolist()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_both_decoders_give_the_same_pixels(subsampling, progressive):
    data = saved("JPEG", quality=80, subsampling=subsampling, progressive=progressive)
    assert np.array_equal(read(data, decoder="pillow"), read(data))

"""Folders, tar shards and the packed form of the same images train alike: same pixels, same order, same resume."""

import hashlib
import io
import json
import os
import pwd
import shlex
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ipu_train.cli import main
from ipu_train.config import section
from ipu_train.data import DataError, EpochSampler, check, loader, open_data, shards
from ipu_train.data.folder import scan
from ipu_train.data.packed import describe, open_part

from .broken import pixels, saved

CLASSES = ["ant", "bee", "cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for part, count in (("train", 8), ("val", 3)):
        for number, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(pixels(100 * number + 10 * count + i)[: 40 - i])
                kind, ending = (("PNG", "png"), ("JPEG", "jpg"))[i % 2]
                (root / part / name / f"{name}{i}.{ending}").write_bytes(saved(kind, picture))
    return root


def as_shards(root, target, per_shard=5):
    """WebDataset's layout of the images of a folder, in the folder's order."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for part in ("train", "val"):
        files = scan(root / part)
        for start in range(0, len(files.paths), per_shard):
            with tarfile.open(target / f"{part}-{start // per_shard:06d}.tar", "w") as tar:
                for index in range(start, min(start + per_shard, len(files.paths))):
                    ending = files.paths[index].rpartition(".")[2]
                    add(tar, f"{index:06d}.{ending}", files.read(index))
                    add(tar, f"{index:06d}.cls", str(files.labels[index]).encode())
    return target


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def all_forms(folder, tmp_path_factory):
    """name: the data section's own keys."""
    tmp = tmp_path_factory.mktemp("forms")
    for form in ("pixels", "files"):
        assert (
            main(["data", "pack", str(folder), "--out", str(tmp / form), "--form", form, "--processes", "1"])
            == 0
        )
    return {
        "imagefolder": {"name": "imagefolder", "path": str(folder)},
        "webdataset": {"name": "webdataset", "path": str(as_shards(folder, tmp / "shards"))},
        "pixels": {"name": "packed", "path": str(tmp / "pixels")},
        "files": {"name": "packed", "path": str(tmp / "files")},
    }


def opened(keys, **more):
    return open_data(section("data", **{"image_size": 16, **keys, **more}), 5)


@pytest.mark.parametrize("augment", ["none", "random_resized_crop"])
@pytest.mark.parametrize("cache", [True, False])
def test_every_form_has_the_same_pixels_and_labels(all_forms, augment, cache):
    sources = {name: opened(keys, augment=augment, cache=cache) for name, keys in all_forms.items()}
    expected = sources.pop("imagefolder")
    keys = [(2, index) for index in range(24)]
    for name, source in sources.items():
        for got, wanted in ((source.train, expected.train), (source.validation, expected.validation)):
            images, labels = got.batch(keys[: len(got)])
            assert torch.equal(images, wanted.batch(keys[: len(got)])[0]), name
            assert labels.tolist() == wanted.labels.tolist()
        assert source.class_names == CLASSES


@pytest.mark.parametrize("form", ["imagefolder", "webdataset", "pixels", "files"])
def test_each_epoch_has_each_image_once_over_processes_and_after_a_kill(all_forms, form, poptorch):
    train = opened(all_forms[form], augment="random_resized_crop", cache=False).train
    everything = [image.numpy().tobytes() for image in train.batch([(1, i) for i in range(24)])[0]]
    got = []
    for process in (0, 1):
        sampler = EpochSampler(24, 5, 4, process_index=process, num_processes=2)
        options = poptorch.Options()
        # killed after two of three batches, in the middle of a shard, and begun anew
        sampler.set_position(1)
        first = [images for images, _ in loader(poptorch, options, train, sampler, 4)][:2]
        sampler.set_position(1, 8)
        rest = [images for images, _ in loader(poptorch, options, train, sampler, 4, workers=1)]
        assert len(rest) == 1
        got += [image.numpy().tobytes() for image in torch.cat([*first, *rest])]
    assert sorted(got) == sorted(everything) and len(set(got)) == 24


def test_without_validation_images_shards_hold_out_the_same_as_folders(folder, tmp_path):
    wanted = opened(
        {"name": "imagefolder", "path": str(folder / "train")}, validation_fraction=0.25
    ).validation
    target = as_shards(folder, tmp_path / "s")
    for path in target.glob("val*.tar"):
        path.unlink()
    got = opened({"name": "webdataset", "path": str(target)}, validation_fraction=0.25).validation
    assert torch.equal(got.batch(range(6))[0], wanted.batch(range(6))[0])


@pytest.mark.parametrize(
    "form, split",
    [("imagefolder", "val"), ("imagefolder", "val/"), ("webdataset", "val-*.tar"), ("pixels", "val")],
)
def test_training_on_the_validation_images_holds_some_of_them_out(all_forms, form, split):
    source = opened(all_forms[form], train_split=split, cache=False)
    names = [
        {images.files.name(i) for i in range(len(images))} for images in (source.train, source.validation)
    ]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 9


@pytest.mark.parametrize("key", ["form", "class_names", "parts"])
def test_a_description_that_lacks_something_is_one_message(tmp_path, key):
    whole = {"version": 1, "form": {}, "class_names": [], "parts": {}}
    (tmp_path / "pack.json").write_text(json.dumps({**whole, key: None}))
    describe(tmp_path)
    del whole[key]
    (tmp_path / "pack.json").write_text(json.dumps(whole))
    with pytest.raises(DataError, match=f"lacks {key}; pack the data set again"):
        describe(tmp_path)


# -- shards ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys, train, validation",
    [
        ({}, {"my-test-train-0", "my-test-train-1"}, {"my-test-val-0"}),
        ({"train_split": "*-0.tar"}, {"my-test-train-0", "my-test-val-0"}, {"my-test-train-1"}),
        ({"validation_split": "*train-1.tar"}, {"my-test-train-0"}, {"my-test-train-1"}),
    ],
)
def test_no_shard_is_in_both_parts_unless_asked_for(tmp_path, keys, train, validation):
    (tmp_path / "test").mkdir()  # without shards, it hides none
    for name in ("my-test-train-0", "my-test-train-1", "my-test-val-0"):
        (tmp_path / f"{name}.tar").touch()
    found = shards.find_shards(tmp_path, keys.get("train_split"), keys.get("validation_split"))
    assert {path.stem for path in found.train} == train
    assert {path.stem for path in found.validation} == validation


@pytest.mark.parametrize("pattern", ["**.tar", "/somewhere/train-*.tar"])
def test_a_pattern_that_is_none_is_one_message(folder, tmp_path, pattern):
    if pattern == "**.tar" and sys.version_info >= (3, 13):
        pytest.skip("a pattern like any other")
    keys = {"name": "webdataset", "path": str(as_shards(folder, tmp_path))}
    with pytest.raises(DataError, match="is no pattern of names in this folder"):
        opened(keys, train_split=pattern)


def test_names_of_classes_in_another_encoding_are_one_message(folder, tmp_path):
    root = as_shards(folder, tmp_path)
    (root / "classes.txt").write_bytes("K\xf6ln".encode("latin-1"))
    with pytest.raises(DataError, match="classes.txt: cannot be read .* in UTF-8"):
        shards.open_shards(sorted(root.glob("train-*.tar")))


def test_each_line_names_the_class_of_its_label(folder, tmp_path):
    keys = {"name": "webdataset", "path": str(as_shards(folder, tmp_path)), "cache": False}
    (tmp_path / "classes.txt").write_text("\ufeffant\r\nbee \r\ncat\r\n\r\n", encoding="utf-8")
    assert opened(keys).class_names == CLASSES
    (tmp_path / "classes.txt").write_text("ant\n\nbee\ncat\n")
    with pytest.raises(DataError, match="line 2 is empty, and line 2 names the class of label 1"):
        opened(keys)


def test_folders_cannot_tell_classes_of_one_name_apart(folder):
    """As two of ImageNet's are."""
    with pytest.raises(DataError, match="bee: there are 2 classes of this name"):
        scan(folder / "val", [*CLASSES, "bee"])


def test_the_index_is_made_once_and_anew_when_a_shard_changes(folder, tmp_path, monkeypatch):
    root = as_shards(folder, tmp_path)
    paths = sorted(root.glob("train-*.tar"))
    first = shards.open_shards(paths)
    assert list(root.glob(".ipu-train-index-*.npz"))
    monkeypatch.setattr(shards.tarfile, "open", lambda *_: pytest.fail("the headers were read again"))
    again = shards.open_shards(paths)
    assert [again.read(i) for i in range(24)] == [first.read(i) for i in range(24)]
    monkeypatch.undo()
    with tarfile.open(paths[-1], "a") as tar:
        add(tar, "more.png", saved("PNG"))
        add(tar, "more.cls", b"2")
    assert len(shards.open_shards(paths).labels) == 25


def test_the_index_goes_to_the_users_cache_where_shards_are_read_only(folder, tmp_path, monkeypatch):
    root = as_shards(folder, tmp_path / "shards")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write = shards.durable.write

    def refuse(path, data):
        if path.parent == root:
            raise PermissionError(13, "Permission denied")
        write(path, data)

    monkeypatch.setattr(shards.durable, "write", refuse)
    paths = sorted(root.glob("train-*.tar"))
    shards.open_shards(paths)
    monkeypatch.setattr(shards.tarfile, "open", lambda *_: pytest.fail("the headers were read again"))
    assert len(shards.open_shards(paths).labels) == 24 and not list(root.glob(".ipu*"))


def test_shards_are_read_where_no_home_folder_is_known(folder, tmp_path, monkeypatch):
    root = as_shards(folder, tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert len(shards.open_shards(sorted(root.glob("train-*.tar"))).labels) == 24


def test_labels_may_be_json_and_keys_lie_in_folders(tmp_path):
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        add(tar, "a/x.jpg", saved("JPEG"))
        add(tar, "b/x.jpg", saved("JPEG", Image.fromarray(pixels(1))))
        add(tar, "a/x.json", b'{"label": 1, "url": "y"}')
        add(tar, "b/x.cls", b"0\n")
        add(tar, "b/x.txt", b"a caption")
    found = shards.open_shards([tmp_path / "train.tar"])
    assert found.labels.tolist() == [1, 0] and found.class_names == ["0", "1"]
    assert found.read(0) == saved("JPEG") and found.name(1).endswith("train.tar/b/x.jpg")


def test_the_image_of_a_sample_is_not_its_mask(tmp_path):
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for name, data in (("a.mask.png", saved("PNG")), ("a.png", b"itself"), ("a.cls", b"0")):
            add(tar, name, data)
        for name, data in (("b.rgb.png", b"named"), ("b.cls", b"1")):  # the only one
            add(tar, name, data)
    found = shards.open_shards([tmp_path / "train.tar"])
    assert [found.read(0), found.read(1)] == [b"itself", b"named"]


def test_more_shards_than_may_be_open_at_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_MOST_OPEN", 2)
    found = shards.open_shards(sorted(as_shards(folder, tmp_path, 1).glob("train-*.tar")))
    files = scan(folder / "train")
    assert all(found.read(i) == files.read(i) for i in np.random.default_rng(0).permutation(24))
    assert len(found._open) == 2


def test_shards_are_closed_when_nobody_reads_them_any_more(folder, tmp_path):
    found = shards.open_shards(sorted(as_shards(folder, tmp_path).glob("train-*.tar")))
    some = found.chosen(np.arange(3))
    for images in (some, found):
        assert all(images.read(index) for index in range(len(images.labels)))
    numbers = list(found._open.values())
    assert len(numbers) == 5 and all(os.fstat(number) for number in numbers)
    del found, images
    for number in numbers:
        with pytest.raises(OSError):
            os.fstat(number)
    assert some.read(0) == scan(folder / "train").read(0)


@pytest.mark.parametrize(
    "damage, message",
    [
        ("truncated", "is no whole tar file"),
        ("text", "is no whole tar file"),
        ("no label", "has no label"),
        ("label is no number", "has no label"),
        ("too large a label", "there are 3 classes"),
        ("no class at all", "has the label 4294967295, and there can be 1,000,000 classes"),
        ("no number of a machine", f"has the label {10**30}, and"),
        ("changed later", "ends within this image"),
        ("compressed", "is compressed"),
        ("nothing", "holds no shards"),
    ],
)
def test_what_is_wrong_with_shards_is_named(folder, tmp_path, damage, message):
    root = as_shards(folder, tmp_path)
    path = root / "train-000001.tar"
    keys = {"name": "webdataset", "path": str(root), "cache": False}
    if damage in ("truncated", "text"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"no tar file" * 99)
    elif damage == "changed later":
        train = opened(keys).train
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(DataError, match=message):
            train.batch(range(24))
        return
    elif damage in ("compressed", "nothing"):
        for shard in root.glob("*.tar"):
            shard.rename(f"{shard}.gz") if damage == "compressed" else shard.unlink()
    else:
        with tarfile.open(path, "w") as tar:
            add(tar, "a.png", saved("PNG"))
            label = {"too large a label": "7", "no class at all": 2**32 - 1, "no number of a machine": 10**30}
            if damage != "no label":
                add(tar, "a.cls", str(label.get(damage, "seven")).encode())
    with pytest.raises(DataError, match=message) as caught:
        opened(keys)
    assert str(root) in str(caught.value)


def test_skipping_goes_on_without_a_broken_shard(folder, tmp_path, capsys):
    root = as_shards(folder, tmp_path)
    (root / "train-000001.tar").write_bytes(b"no tar file" * 99)
    source = opened({"name": "webdataset", "path": str(root)}, on_error="skip")
    assert len(source.train) == 19 and source.train.faults.count == 1
    assert main(["data", "check", str(root), "--processes", "1"]) == 2
    assert "is no whole tar file" in capsys.readouterr().out


# -- the packed form ---------------------------------------------------------------------------------------------------


def test_packed_files_keep_their_bytes_and_pictures_may_be_made_smaller(folder, tmp_path):
    assert (
        main(
            ["data", "pack", str(folder), "--out", str(tmp_path / "a"), "--form", "files", "--processes", "1"]
        )
        == 0
    )
    packed, files = open_part(tmp_path / "a", "train"), scan(folder / "train")
    assert all(packed.read(i) == files.read(i) for i in range(24))
    small = ["--shorter-side", "20", "--processes", "1"]
    assert main(["data", "pack", str(folder), "--out", str(tmp_path / "b"), *small]) == 0
    packed = open_part(tmp_path / "b", "train")
    shapes = {packed.picture(i).shape for i in range(24)}
    assert all(min(shape[:2]) == 20 for shape in shapes) and len(shapes) > 1
    with Image.open(files.paths[4]) as image:
        share = 20 / min(image.size)
        wanted = image.resize((round(image.width * share), 20), Image.LANCZOS)
    assert np.array_equal(packed.picture(4), np.asarray(wanted))


def test_pixels_of_a_pack_are_kept_in_memory_where_that_is_asked_for(all_forms, tmp_path):
    shutil.copytree(all_forms["pixels"]["path"], tmp_path / "p")
    keys = {"name": "packed", "path": str(tmp_path / "p"), "augment": "random_resized_crop"}
    kept, mapped = opened(keys, cache=True).train, opened(keys).train
    before = kept.batch(range(24))[0]
    assert torch.equal(mapped.batch(range(24))[0], before)
    data = tmp_path / "p" / "train.data"
    with data.open("r+b") as file:
        file.write(bytes(data.stat().st_size))
    assert torch.equal(kept.batch(range(24))[0], before)


def test_a_pack_is_trained_on_as_it_says(tmp_path, capsys):
    """In a folder with a space in its name, with files that keep their transparent pixels."""
    root = tmp_path / "my images"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGBA", (20, 20), (255, 0, 0, 40 * i)).save(root / name / f"{i}.png")
    arguments = [
        "--out",
        str(tmp_path / "my pack"),
        "--form",
        "files",
        "--transparency",
        "white",
        "--processes",
        "1",
    ]
    assert main(["data", "pack", str(root), *arguments]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1].partition("--config X ")[2])
    keys = dict(word[len("data.") :].split("=", 1) for word in words)
    assert opened(keys).train.batch([0])[0].max() == 255


def test_a_pack_is_checked_and_what_is_wrong_with_it_is_named(all_forms, tmp_path, capsys):
    shutil.copytree(all_forms["pixels"]["path"], tmp_path / "p")
    root = tmp_path / "p"
    assert main(["data", "check", str(root), "--processes", "1"]) == 0
    data = bytearray((root / "train.data").read_bytes())
    data[5000] ^= 1
    (root / "train.data").write_bytes(data)
    assert main(["data", "check", str(root), "--processes", "1"]) == 2
    assert "its checksum is wrong" in capsys.readouterr().out
    (root / "train.data").write_bytes(data[:-1])
    with pytest.raises(DataError, match="is not as long as it was"):
        opened({"name": "packed", "path": str(root)})
    (root / "pack.json").write_text("{}")
    with pytest.raises(DataError, match="pack the data set again"):
        opened({"name": "packed", "path": str(root)})
    (root / "pack.json").unlink()
    with pytest.raises(DataError, match="no packed data set"):
        opened({"name": "packed", "path": str(root)})


def test_packing_names_what_it_cannot_use_or_leaves_it_out(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "d")
    (tmp_path / "d" / "train" / "bee" / "bee1.jpg").write_bytes(b"")
    line = ["data", "pack", str(tmp_path / "d"), "--processes", "1", "--out"]
    assert main([*line, str(tmp_path / "a")]) == 2
    assert "bee1.jpg: not a readable image (the file is empty)" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    shutil.copytree(folder, tmp_path / "late")  # the parts are train and val, in this order
    next((tmp_path / "late" / "val").rglob("*.jpg")).write_bytes(b"")
    late = ["data", "pack", str(tmp_path / "late"), "--processes", "1", "--out", str(tmp_path / "a")]
    assert main(late) == 2 and not (tmp_path / "a").exists()
    assert main([*line, str(tmp_path / "b"), "--skip"]) == 0
    assert len(open_part(tmp_path / "b", "train").labels) == 23
    assert main([*line, str(tmp_path / "b")]) == 2 and "is there already" in capsys.readouterr().err


def test_splits_with_names_of_their_own_are_checked_and_packed(folder, tmp_path, capsys):
    """As ``data.train_split`` and ``data.validation_split`` say; the usual names would make two classes of them."""
    root = tmp_path / "d"
    shutil.copytree(folder / "train", root / "lessons")
    shutil.copytree(folder / "val", root / "exam")
    splits = ["--train-split", "lessons", "--validation-split", "exam", "--processes", "1"]
    assert main(["data", "check", str(root), *splits]) == 0
    assert "33 images in 3 classes (train 24, exam 9)" in capsys.readouterr().out
    assert main(["data", "pack", str(root), "--out", str(tmp_path / "p"), *splits]) == 0
    named = {"train_split": "lessons", "validation_split": "exam"}
    source = opened({"name": "imagefolder", "path": str(root), **named})
    packed = opened({"name": "packed", "path": str(tmp_path / "p")})
    assert torch.equal(packed.train.batch(range(24))[0], source.train.batch(range(24))[0])
    assert torch.equal(packed.validation.batch(range(9))[1], source.validation.batch(range(9))[1])
    assert main(["data", "check", str(root), "--train-split", "lesson", "--processes", "1"]) == 2
    assert 'did you mean "lessons"?' in capsys.readouterr().err


def test_a_check_of_each_form_finds_every_image(all_forms, capsys):
    for keys in all_forms.values():
        parts = check.open_parts(Path(keys["path"]))
        assert [len(part.files.labels) for part in parts] == [24, 9]
        assert main(["data", "check", keys["path"], "--processes", "1"]) == 0
        assert "33 images in 3 classes" in capsys.readouterr().out


@pytest.mark.parametrize("moved", [False, True])
def test_a_check_names_what_has_changed_since_the_last_one(folder, tmp_path, capsys, moved):
    root = tmp_path / "d"
    shutil.copytree(folder, root)
    check_again = ["data", "check", str(root), "--processes", "1"]
    for _ in range(2):
        assert main(check_again) == 0
        assert "changed since" not in capsys.readouterr().out
    if moved:
        root = root.rename(tmp_path / "elsewhere")
        check_again[2] = str(root)
    bee = root / "train" / "bee"
    (bee / "bee0.png").unlink()
    shutil.copy(bee / "bee2.png", bee / "bee4.png")
    shutil.copy(bee / "bee6.png", bee / "new.png")
    assert main(check_again) == 0
    said = capsys.readouterr().out
    assert "changed since the last check: 3\n" in said
    for line in ("bee4.png: is another file than before", "new.png: is new", "bee0.png: is gone"):
        assert f"  {os.path.join('train', 'bee', line)}\n" in said


def test_a_check_s_manifest_may_go_to_a_device(folder):
    assert main(["data", "check", str(folder), "--processes", "1", "--manifest", "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()


def test_a_check_leaves_read_only_folders_as_they_are(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "d")
    (tmp_path / "d").chmod(0o555)
    assert main(["data", "check", str(tmp_path / "d"), "--processes", "1"]) == 0
    assert "not written, the folder is read-only" in capsys.readouterr().out
    assert (
        main(["data", "check", str(tmp_path / "d"), "--processes", "1", "--manifest", str(tmp_path / "m")])
        == 0
    )
    lines = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]
    assert len(lines) == 33 and {line["problem"] for line in lines} == {None}
    assert hashlib.sha256(Path(lines[5]["file"]).read_bytes()).hexdigest() == lines[5]["sha256"]
    (tmp_path / "d").chmod(0o755)


def test_a_benchmark_says_what_one_core_does_and_whether_it_feeds_the_plan(all_forms, capsys):
    for keys in all_forms.values():
        assert main(["data", "bench", keys["path"], "--seconds", "1", "data.image_size=32"]) == 0
        said = capsys.readouterr().out
        assert "24 training images at 32 x 32, augment random_resized_crop" in said and "one core: " in said
        assert "none kept in memory (data.cache=false)" in said
    line = ["data", "bench", all_forms["pixels"]["path"], "--seconds", "1", "--config", "quickstart"]
    assert main([*line, "model.norm_groups=2", "data.image_size=8"]) == 0
    assert "the plan takes" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "check", all_forms["pixels"]["path"], "data.image_size=8"])

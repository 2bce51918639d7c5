"""`ipu-train predict` against plain torch."""

import csv
import json
import os
import shutil

import pytest
import torch
from PIL import Image

from ipu_train.cli import main
from ipu_train.inference.files import files_in

from ..photographs import CLASSES, by_hand


def predict(tmp_path, *arguments):
    path = tmp_path / "said.json"
    assert main(["predict", *map(str, arguments), "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_a_folder_s_images_get_the_probabilities_of_plain_torch(trained_run, images, tmp_path, capsys):
    """21 images in calls of 3, the last one not full; the run's own data is not needed."""
    table = tmp_path / "said.csv"
    said = predict(tmp_path, "--run", trained_run, images / "val", "data.path=nowhere", "--csv", table)
    _, logits = by_hand(trained_run, images / "val")
    probabilities = logits.double().softmax(1)
    assert [one["image"] for one in said] == [
        str(path) for name in CLASSES for path in sorted((images / "val" / name).iterdir())
    ]
    for one, expected in zip(said, probabilities):
        assert one["class"] == CLASSES[int(expected.argmax())]
        assert one["probability"] == pytest.approx(expected.max().item(), abs=1e-5)
        assert [row["class"] for row in one["top"]] == [CLASSES[i] for i in expected.argsort(descending=True)]
        assert sum(row["probability"] for row in one["top"]) == pytest.approx(1)
    printed = capsys.readouterr().out
    assert all(one["image"] in printed for one in said)
    head, *rows = csv.reader(table.open())
    assert head == ["image", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    assert [row[1] for row in rows] == [one["class"] for one in said]


def test_single_images_in_the_order_given(trained_run, images, tmp_path):
    two = [images / "val" / "cedar" / "3.png", images / "val" / "ash" / "0.png"]
    said = predict(tmp_path, "--run", trained_run, *two, "--top", "1", "--weights", "averaged")
    assert [one["image"] for one in said] == [str(path) for path in two]
    assert all(len(one["top"]) == 1 for one in said)


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_dash_is_standard_output_which_then_holds_nothing_else(
    trained_run, images, tmp_path, capfd, option
):
    """``ipu-train predict ... --json - | jq``: the table for people goes to standard error."""
    photograph = images / "val" / "cedar" / "3.png"
    file = tmp_path / "said"
    arguments = ["predict", "--run", str(trained_run), str(photograph), option]
    assert main([*arguments, str(file)]) == 0
    assert str(photograph) in capfd.readouterr().out
    assert main([*arguments, "-"]) == 0
    printed = capfd.readouterr()
    assert printed.out.encode() == file.read_bytes() and str(photograph) in printed.err


def test_unreadable_images_of_a_folder_are_named_and_the_others_predicted(
    trained_run, images, tmp_path, capsys, caplog
):
    """As with a camera card: 7 photographs, a text and half a file. Status 2 tells a script that some are missing."""
    card = tmp_path / "card"
    shutil.copytree(images / "val" / "ash", card)
    whole = sorted(card.iterdir())
    expected = predict(tmp_path, "--run", trained_run, card)
    (card / "0a.png").write_bytes(b"no image")
    (card / "9z.png").write_bytes(whole[0].read_bytes()[:200])
    said, lines = tmp_path / "said.json", tmp_path / "said.csv"
    assert (
        main(["predict", "--run", str(trained_run), str(card), "--json", str(said), "--csv", str(lines)]) == 2
    )
    assert json.loads(said.read_text()) == expected
    assert [row[0] for row in csv.reader(lines.open())][1:] == [str(path) for path in whole]
    assert "0a.png: not a readable image" in caplog.text and "9z.png" in caplog.text
    assert f"2 of {len(whole) + 2} images could not be read" in capsys.readouterr().err


def test_names_of_any_bytes_are_shown_and_written_escaped(trained_run, images, tmp_path, capsys):
    """A camera's Latin-1 name, a line break, a comma: one row each in the table and the files."""
    card = tmp_path / "card"
    card.mkdir()
    for name in (b"caf\xe9.png", b"two\nlines.png", b'a,"b".png'):
        shutil.copy(images / "val" / "ash" / "0.png", os.path.join(os.fsencode(card), name))
    said = predict(tmp_path, "--run", trained_run, card, "--csv", tmp_path / "said.csv")
    assert {os.fsencode(one["image"]) for one in said} == set(_paths(card))  # JSON loses nothing
    rows = list(csv.reader((tmp_path / "said.csv").open(newline="", encoding="utf-8")))
    assert [row[0] for row in rows[1:]] == [
        str(card / name) for name in ('a,"b".png', "caf\\udce9.png", "two\nlines.png")
    ]
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 + 3 and "two\\nlines.png" in out[4]


def _paths(folder):
    return [os.path.join(os.fsencode(folder), name) for name in os.listdir(os.fsencode(folder))]


def test_a_folder_holds_what_training_would_find_in_it(images, tmp_path):
    """Links to folders are followed, once each; hidden files (macOS leaves ._x.png) and folders are not looked at."""
    card, elsewhere = tmp_path / "card", tmp_path / "elsewhere"
    shutil.copytree(images / "val" / "ash", card / "ash.jpg")  # a folder whose name ends like an image's
    shutil.copytree(images / "val" / "birch", elsewhere)
    (card / "linked").symlink_to(elsewhere)
    (card / "loop").symlink_to(card)
    (card / "again").symlink_to(card / "ash.jpg")
    (card / "ash.jpg" / "._0.png").write_bytes(b"no image")
    shutil.copytree(card / "ash.jpg", card / ".thumbnails")
    (card / "nowhere.png").symlink_to("nothing")  # named as unreadable later
    numbers = range(7)
    expected = [card / "ash.jpg" / f"{n}.png" for n in numbers] + [
        card / "linked" / f"{n}.png" for n in numbers
    ]
    assert files_in([str(card)]) == [*map(str, expected), str(card / "nowhere.png")]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.png"], "nowhere.png: there is no such image or folder"),
        (["{broken}"], "broken.png: not a readable image"),
        (["{empty}"], "the folder has no images"),
        (["{broken}", "--top", "0"], "--top: must be a whole number"),
        (["{broken}", "--csv", "nowhere/x.csv"], "there is no folder"),
    ],
)
def test_what_cannot_be_predicted_is_told(trained_run, tmp_path, capsys, caplog, arguments, message):
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    words = [a.format(broken=tmp_path / "broken.png", empty=tmp_path / "empty") for a in arguments]
    try:
        status = main(["predict", "--run", str(trained_run), *words])
    except SystemExit as end:  # argparse
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err + caplog.text


def test_settings_about_several_replicas_do_not_hinder_a_prediction(trained_run, images, tmp_path):
    """A few images are predicted on one replica, whatever the run had."""
    photo = images / "val" / "ash" / "0.png"
    several = ["training.replicas=2", "device.sync_pattern=replica_and_ladder"]
    assert predict(tmp_path, "--run", trained_run, photo, *several) == predict(
        tmp_path, "--run", trained_run, photo
    )


def test_overrides_say_how_images_are_prepared(trained_run, images, tmp_path, caplog):
    """As the message about a transparent picture advises."""
    picture = Image.open(images / "val" / "ash" / "0.png").convert("RGBA")
    picture.putalpha(90)
    picture.save(tmp_path / "clear.png")
    white = Image.new("RGBA", picture.size, "white")
    Image.alpha_composite(white, picture).convert("RGB").save(tmp_path / "on_white.png")
    assert main(["predict", "--run", str(trained_run), str(tmp_path / "clear.png")]) == 2
    assert "set data.transparency" in caplog.text
    (on_white,) = predict(tmp_path, "--run", trained_run, tmp_path / "on_white.png")
    (told,) = predict(tmp_path, "--run", trained_run, tmp_path / "clear.png", "data.transparency=white")
    assert told["probability"] == pytest.approx(on_white["probability"], abs=2e-3)  # of 255 levels, one
    (middle,) = predict(tmp_path, "--run", trained_run, tmp_path / "on_white.png", "data.test_crop=0.5")
    assert abs(middle["probability"] - on_white["probability"]) > 1e-4


def test_images_of_other_channels_than_files_have_are_refused(tmp_path):
    from ipu_train.inference.errors import UseError
    from ipu_train.inference.files import PreparedFiles, labelled
    from ipu_train.training.prepared import Prepared

    about = {"centre_share": 1.0, "mean": [0.3] * 4, "std": [0.4] * 4, "class_names": ["0", "1"]}
    prepared = Prepared(source="satellites", channels=4, image_size=8, **about)
    (tmp_path / "0").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "0" / "d.png")
    with pytest.raises(UseError, match="takes images of 4 channels, and image files are read as colour"):
        PreparedFiles([str(tmp_path / "0" / "d.png")], prepared)
    with pytest.raises(UseError, match="takes images of 4 channels"):
        labelled(tmp_path, prepared)


def test_grey_images_of_a_grey_network(tmp_path):
    """scikit-learn's digits, written to files and read again, are what the network has seen."""
    import numpy as np

    from ipu_train.inference.files import PreparedFiles
    from ipu_train.training.prepared import Prepared

    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "d.png")
    about = {"centre_share": 1.0, "mean": [0.3], "std": [0.4], "class_names": ["0", "1"]}
    prepared = Prepared(source="digits", channels=1, image_size=8, **about)
    images, _ = PreparedFiles([str(tmp_path / "d.png")], prepared).batch([0])
    assert torch.equal(images, torch.from_numpy(pixels)[None, None])

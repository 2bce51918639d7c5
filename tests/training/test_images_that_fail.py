"""An image that cannot be used does not cost the steps before it, and can be mended or skipped."""

import json

import pytest
import torch
from safetensors.torch import load_file

import ipu_train.trainer as trainer
from ipu_train import config
from ipu_train.data import DataError
from ipu_train.training import checkpoint, validation

from ..data.broken import SIDE, pixels, saved

RECIPE = """
model: {name: resnet8, options: {width: 0.25}}
data: {name: imagefolder, path: PATH, image_size: 16, cache: false}
training: {epochs: 2, micro_batch_size: 4, seed: 1}
logging: {progress: false, plots: false}
device: {threads: 1}
"""


@pytest.fixture()
def photos(tmp_path):
    from PIL import Image

    assert SIDE >= 16
    for part, count in (("train", 8), ("val", 2)):
        for number, name in enumerate("xy"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.png").write_bytes(saved("PNG", Image.fromarray(pixels(100 * number + i))))
    (tmp_path / "my.yaml").write_text(RECIPE.replace("PATH", str(tmp_path / "data")))
    return tmp_path


def run(photos, name, *overrides, resume=False):
    folder = photos / name
    resolved = config.load(photos / "my.yaml", [*overrides, f"run_dir={folder}"])
    trainer.train(resolved, resume=resume)
    return load_file(str(checkpoint.newest(folder / "checkpoints") / "weights.safetensors"))


@pytest.mark.parametrize("image", ["train/y/3.png", "val/y/1.png"])
def test_the_run_is_saved_and_goes_on_exactly_once_the_image_is_mended(photos, image):
    whole = run(photos, "whole")
    path = photos / "data" / image
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        DataError, match=r"truncated.*The run ends (saved at step [1-4]|before its first step)"
    ):
        run(photos, "broken")
    path.write_bytes(data)
    mended = run(photos, "broken", resume="auto")
    assert all(torch.equal(mended[name], whole[name]) for name in whole)


def test_weights_in_training_are_saved_where_an_image_fails_while_the_average_is_validated(
    photos, monkeypatch
):
    """As on a network's disk that goes away between the two."""
    averaging = ["averaging.name=exponential", "optimizer.learning_rate=0.05"]
    whole = run(photos, "whole", *averaging)
    path = photos / "data" / "val" / "y" / "1.png"
    data, measure, done = path.read_bytes(), validation.measure, []

    def measured(*args, **options):
        done.append(measure(*args, **options))
        if len(done) == 3:  # two an epoch, and the first average is the weights themselves
            path.write_bytes(data[: len(data) // 2])
        return done[-1]

    monkeypatch.setattr(validation, "measure", measured)
    with pytest.raises(DataError, match="The run ends saved at step 8"):
        run(photos, "broken", *averaging)
    path.write_bytes(data)
    monkeypatch.undo()
    mended = run(photos, "broken", *averaging, resume="auto")
    assert all(torch.equal(mended[name], whole[name]) for name in whole)


def test_a_run_that_skips_says_how_many(photos, capsys):
    (photos / "data" / "train" / "y" / "3.png").write_bytes(b"")
    run(photos, "skipping", "data.on_error=skip", "data.most_skipped=0.1")
    assert "training: 1 of 16 images could not be used and were skipped" in capsys.readouterr().err


@pytest.mark.parametrize("before", [None, "pipeline 1, Pillow 9.0.0"])
def test_pixels_that_other_code_has_made_are_not_gone_on_from_as_exact(photos, capsys, before):
    """None: of a version whose checkpoints did not tell."""
    run(photos, "run", "training.epochs=1")
    newest = checkpoint.newest(photos / "run" / "checkpoints")
    state = json.loads((newest / "state.json").read_text())
    now = state["environment"].pop("pixels")
    assert now.startswith("pipeline ") and "Pillow" in now
    if before is not None:
        state["environment"]["pixels"] = before
    (newest / "state.json").write_text(json.dumps(state))
    (newest / "SHA256SUMS").write_bytes(checkpoint._sums(newest))
    capsys.readouterr()
    run(photos, "run", "training.epochs=1", resume=True)
    said = f"not bit-exact, because pixels: {before or 'not known'} -> {now}"
    assert said in capsys.readouterr().err


def test_a_resume_over_other_images_says_so_and_over_other_classes_is_refused(photos, capsys):
    from PIL import Image

    train = photos / "data" / "train"
    more = ("schedule.name=constant", "training.epochs=1")
    run(photos, "run", *more)
    longer = ("schedule.name=constant", "training.epochs=2")
    (train / "x" / "more.png").write_bytes(saved("PNG", Image.fromarray(pixels(7))))  # as many calls an epoch
    capsys.readouterr()
    run(photos, "run", *longer, resume=True)
    assert "not bit-exact, because training images: 16 with labels" in capsys.readouterr().err
    run(photos, "more", *more)
    for part in ("train", "val"):
        (photos / "data" / part / "y").rename(photos / "data" / part / "w")  # sorts before x
    with pytest.raises(ValueError, match="class 0 was 'x' and is 'w' in the data"):
        run(photos, "more", *longer, resume=True)

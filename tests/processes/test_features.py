"""What several processes do beside steps: images that fail, early ends, callbacks, best checkpoints, wandb."""

import json

import pytest
from PIL import Image

from ipu_train.data import EpochSampler
from ipu_train.training import checkpoint

from ..data.broken import pixels, saved
from .conftest import difference, told
from .test_several import FLOAT32, RECIPE

PHOTOS = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: imagefolder, path: PATH, image_size: 16, cache: false}
optimizer: {learning_rate: 0.02}
training: {epochs: 2, micro_batch_size: 2, replicas: 2, seed: 1}
checkpoint: {keep: 99}
logging: {progress: false, plots: false, every_steps: 1}
device: {target: emulator, threads: 1}
"""
FAILS = "train/y/3.png"
FAILS_AT = 8 + 3  # in the order of the folder


@pytest.fixture()
def photos(tmp_path):
    for part, count in (("train", 8), ("val", 2)):
        for number, name in enumerate("xy"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.png").write_bytes(saved("PNG", Image.fromarray(pixels(100 * number + i))))
    (tmp_path / "photos.yaml").write_text(PHOTOS.replace("PATH", str(tmp_path / "data")))
    return tmp_path


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return lambda: path.write_bytes(data)


def check_an_image_that_fails(run, photos, image, step, overrides=()):
    recipe, one, two = photos / "photos.yaml", photos / "one", photos / "two"
    assert run(1, recipe, photos / "whole", overrides) == [0]
    mend = truncate(photos / "data" / image)
    assert run(1, recipe, one, overrides) == [2]
    assert run(2, recipe, two, overrides) == [2, 2]
    newest = checkpoint.newest(two / "checkpoints")
    assert newest is not None and newest.name == f"step_{step:08}"
    apart = difference(one, two)
    assert apart["other"] == [] and apart["weights"] <= FLOAT32 and apart["loss"] <= FLOAT32
    said = "".join(told(two, 2))
    assert said.count(f"The run ends saved at step {step}") == 1 and image in said
    assert "another process" not in said and "Traceback" not in said
    mend()
    assert run(2, recipe, two, overrides, resume=True) == [0, 0], told(two, 2)
    apart = difference(photos / "whole", two)
    assert apart["other"] == [] and apart["weights"] <= FLOAT32 and apart["loss"] <= FLOAT32


def test_an_image_that_one_process_cannot_use_ends_all_with_the_state_that_one_would_save(run, photos):
    done = EpochSampler(16, 1, 4).indices(0).tolist().index(FAILS_AT) // 4
    assert done >= 1, "the image is wanted after the first step"
    check_an_image_that_fails(run, photos, FAILS, done)


@pytest.mark.long
@pytest.mark.parametrize("image, step", [("val/y/1.png", 4), (FAILS, None)])
def test_so_does_one_of_validation_and_one_that_a_worker_loads(run, photos, image, step):
    if step is None:
        step = EpochSampler(16, 1, 4).indices(0).tolist().index(FAILS_AT) // 4
    check_an_image_that_fails(run, photos, image, step, ["data.workers=2"])


@pytest.mark.long
def test_images_are_skipped_as_in_one_process(run, photos):
    truncate(photos / "data" / FAILS)
    truncate(photos / "data" / "val/x/0.png")
    overrides = ["data.on_error=skip", "data.most_skipped=0.5"]
    assert run(1, photos / "photos.yaml", photos / "one", overrides) == [0]
    assert run(2, photos / "photos.yaml", photos / "two", overrides) == [0, 0]
    apart = difference(photos / "one", photos / "two")
    assert apart["other"] == [] and apart["weights"] <= FLOAT32 and apart["loss"] <= FLOAT32
    said = "".join(told(photos / "two", 2))
    for part, images in (("training", 16), ("validation", 4)):
        assert said.count(f"{part}: 1 of {images} images could not be used and were skipped") == 1


def lines(folder, split):
    every = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["split"] == split]


def test_validation_ends_a_run_early_and_keeps_its_best_checkpoint(run, tmp_path):
    """At a learning rate below float32's resolution nothing improves after the first validation."""
    tiny, folder = tmp_path / "tiny.yaml", tmp_path / "run"
    tiny.write_text(RECIPE)
    overrides = [
        "optimizer.learning_rate=1e-12", "training.epochs=9", "validation.patience=2", "checkpoint.keep=1",
        "checkpoint.keep_best=true", "checkpoint.every_epochs=1",
    ]  # fmt: skip
    assert run(2, tiny, folder, overrides) == [0, 0]
    assert [line["epoch"] for line in lines(folder, "validation")] == [1, 2, 3]
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == ["step_00000006", "step_00000018"]  # the best one and the last one
    said = "".join(told(folder, 2))
    assert said.count("the run ends") == 1 and not told(folder, 2)[1]


def test_callbacks_of_the_first_process_are_told_and_may_end_the_run(run, tmp_path):
    tiny, folder = tmp_path / "tiny.yaml", tmp_path / "run"
    tiny.write_text(RECIPE)
    assert run(2, tiny, folder, ["training.epochs=3"], with_callback=True) == [0, 0]
    noted = (tmp_path / "run.0.noted").read_text().splitlines()
    assert noted == ["started", "training 2", "training 4", "training 6", "validation 1", "finished 0"]
    assert not (tmp_path / "run.1.noted").exists()


@pytest.mark.parametrize(
    "ended_by, status, said",
    [("7", 7, ""), ("0", 0, ""), ("text", 1, "enough"), ("interrupt", 130, "KeyboardInterrupt")],
)
def test_a_callback_of_the_first_process_that_exits_ends_all_in_agreement(
    run, tmp_path, ended_by, status, said
):
    tiny, folder = tmp_path / "tiny.yaml", tmp_path / "run"
    tiny.write_text(RECIPE)
    assert run(2, tiny, folder, ended_by=ended_by) == [status, status]
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest.name == "step_00000006"  # the others hear in the next call
    first, second = told(folder, 2)
    assert second == "" and "all 6 steps are saved" in first
    assert "another process" not in first and "Traceback" not in first
    assert first.rstrip().endswith(said)


@pytest.mark.long
def test_weights_and_biases_gets_one_run_of_several_processes(run, tmp_path):
    pytest.importorskip("wandb")
    tiny, folder = tmp_path / "tiny.yaml", tmp_path / "run"
    tiny.write_text(RECIPE)
    assert run(2, tiny, folder, ["training.epochs=1", "logging.wandb=true"]) == [0, 0]
    assert len(list(tmp_path.rglob("run-*.wandb"))) == 1

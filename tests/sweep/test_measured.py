"""Measured memory: the allocator's own sums are read rightly, and follow the prediction from norm to norm."""

import json
import multiprocessing

import pytest
import torch

from ipu_train import cli
from ipu_train.sweep import measured as measured_process
from ipu_train.sweep import measuring
from ipu_train.sweep.measured import peak_on_cpu

# what a measuring process imports: once for all of them, in a process that does nothing else
IMPORTED = [
    "ipu_train.sweep.measured",
    "ipu_train.emulator",
    "torch._subclasses.fake_tensor",
    "torch.profiler",
]


def test_peak_is_the_highest_sum_of_live_bytes():
    kept = []

    def step():
        first = torch.empty(1 << 20, dtype=torch.uint8)
        second = torch.empty(2 << 20, dtype=torch.uint8)
        del first
        kept.append(torch.empty(4 << 20, dtype=torch.uint8))  # beside the second
        del second
        kept.append(torch.empty(1 << 20, dtype=torch.uint8))

    assert peak_on_cpu(step) == pytest.approx(6 << 20, abs=4096)


@pytest.mark.parametrize("recorded_before", [False, True])
def test_what_was_there_before_does_not_count(recorded_before):
    held = []

    def fill():
        held.append(torch.empty(8 << 20, dtype=torch.uint8))

    # the allocator also reports the end of a block that an earlier recording has seen
    peak_on_cpu(fill) if recorded_before else fill()

    def step():
        held.clear()  # nothing of the step's own is given back by this
        torch.empty(1 << 20, dtype=torch.uint8)

    assert peak_on_cpu(step) == pytest.approx(1 << 20, abs=4096)


def in_forks_but_the_first(folder):
    """``measure`` in processes of their own as ever; all but the first one are forks of one that has imported torch."""
    context, real, seen = multiprocessing.get_context("forkserver"), measuring.measure, []
    context.set_forkserver_preload(IMPORTED)

    def measure(resolved, steps):
        seen.append(resolved)
        if len(seen) == 1:
            return real(resolved, steps)
        source, target = folder / f"{len(seen)}.yaml", folder / f"{len(seen)}.json"
        source.write_text(resolved.dump(), encoding="utf-8")
        process = context.Process(
            target=measured_process.main, args=([str(source), str(steps), str(target)],)
        )
        process.start()
        process.join()
        return json.loads(target.read_text(encoding="utf-8"))

    return measure


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    recipe = folder / "small.yaml"
    recipe.write_text(
        "model: {name: resnet8, norm: group}\n"
        "data: {name: generated, image_size: 32, length: 64}\n"
        "optimizer: {momentum: 0.9}\n"
        "training: {micro_batch_size: 8, gradient_accumulation: 4}\n"
        "device: {threads: 1}\n"
    )
    argv = [
        "sweep",
        "--config",
        str(recipe),
        "--norms",
        "batch,group,group+pn",
        "--micro-batch-sizes",
        "4,16",
    ]
    argv += ["--measure", "--measure-steps", "2", "--jobs", "1", f"sweep_dir={folder / 's'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "measure", in_forks_but_the_first(folder))
        assert cli.main(argv) == 0
    points = json.loads((folder / "s" / "sweep.json").read_text())["points"]
    return {(point["norm"], point["micro_batch_size"]): point for point in points}


def test_measured_and_predicted_bytes_agree_within_15_per_cent(measured):
    assert len(measured) == 6
    for point in measured.values():
        assert point["measured_peak_bytes"] == pytest.approx(point["predicted_plain_torch_bytes"], rel=0.15)
        assert 0 <= point["measured_accuracy"] <= 1
        assert point["measured_steps"] == 2


def test_measured_savings_move_with_the_ipus(measured):
    """Order of norms and micro-batches: what is more on an IPU is more here (equal within a hundredth is equal)."""
    for norm in ("batch", "group", "group+pn"):
        assert measured[norm, 4]["measured_peak_bytes"] < measured[norm, 16]["measured_peak_bytes"]
        assert measured[norm, 4]["total_bytes"] < measured[norm, 16]["total_bytes"]
    for size in (4, 16):
        batch, group, proxy = (measured[norm, size] for norm in ("batch", "group", "group+pn"))
        for key in ("measured_peak_bytes", "total_bytes"):
            assert batch[key] == pytest.approx(group[key], rel=0.01)
            assert proxy[key] > 1.02 * group[key]


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.name=lars",  # the host makes these weight updates
        "training.mixup_alpha=0.2",  # its coefficients come with the images
        "data.repeats=4",
        "logging.inspect_every=1",  # a third output
        "device.output_mode=all",
    ],
)
def test_accuracy_is_that_of_the_training_images_as_the_loop_trains_them(tmp_path, override):
    from ipu_train import config, trainer
    from ipu_train.tracking import read_metrics

    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "model: {name: resnet8, norm: group, options: {width: 0.25}}\n"
        "data: {name: generated, image_size: 8, length: 64, num_classes: 4}\n"
        "training: {micro_batch_size: 8, gradient_accumulation: 2, epochs: 1}\nschedule: {name: constant}\n"
        "logging: {every_steps: 1, progress: false, plots: false}\ndevice: {threads: 1}\n"
    )
    trained = config.load(recipe, [override, f"run_dir={tmp_path / 'run'}"])
    trainer.train(trained)
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["split"] == "train"]
    measured = measured_process.measure_here(trained, 4)
    assert measured["measured_steps"] == 4
    assert measured["measured_accuracy"] == pytest.approx(lines[-1]["accuracy"])


@pytest.mark.parametrize(
    "options",
    [
        ["device.io_tiles=32"],
        ["device.sync_pattern=replica_and_ladder"],
        ["device.pipeline_splits=[layer2]", "device.sync_pattern=single_pipeline"],
        ["model.norm=sync_batch", "model.norm_replicas=2"],
        ["training.precision=16.16", "optimizer.automatic_loss_scaling=true"],
        [
            "optimizer.learning_rate_batch_size=64",
            "schedule.name=cosine",
            "schedule.final_learning_rate=0.02",
        ],
    ],
)
def test_one_micro_batch_does_without_what_only_several_can_have(tmp_path, options):
    from ipu_train import config

    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "model: {name: resnet8, norm: group, options: {width: 0.25}}\n"
        "data: {name: generated, image_size: 8, length: 128, num_classes: 4}\n"
        "training: {micro_batch_size: 8, gradient_accumulation: 4, replicas: 2, epochs: 1}\n"
        "optimizer: {learning_rate: 0.1}\nlogging: {progress: false, plots: false}\ndevice: {threads: 1}\n"
    )
    measured = measured_process.measure_here(config.load(recipe, options), 1)
    assert measured["measured_peak_bytes"] > 0 and measured["measured_accuracy"] >= 0


def test_a_point_that_cannot_run_here_says_why(tmp_path, capsys):
    recipe = tmp_path / "far.yaml"
    recipe.write_text(
        "model: {name: resnet8}\ndata: {name: imagefolder, path: nowhere, image_size: 16}\n"
        "training: {micro_batch_size: 2, gradient_accumulation: 2}\n"
    )
    argv = ["sweep", "--config", str(recipe), "--norms", "layer", "--micro-batch-sizes", "2", "--measure"]
    assert cli.main([*argv, "--jobs", "1", f"sweep_dir={tmp_path / 's'}"]) == 0
    (point,) = json.loads((tmp_path / "s" / "sweep.json").read_text())["points"]
    assert "nowhere" in point["measured_error"]
    assert "nowhere" in capsys.readouterr().out

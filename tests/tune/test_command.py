"""Tuning as its user meets it: the comparison, the YAML that runs as it is, and one message for what cannot be done."""

import re

import pytest

from ipu_train import cli, config, planning
from ipu_train.ipumodel.target import Target

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.5}}
data: {name: generated, image_size: 32, length: 64}
optimizer: {momentum: 0.9}
training: {micro_batch_size: 1, gradient_accumulation: 32, replicas: 2, epochs: 1}
device: {target: emulator}
logging: {progress: false, plots: false}
"""


@pytest.fixture()
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "slow.yaml"
    path.write_text(RECIPE)
    return path


def tune(recipe, *arguments):
    return cli.main(["tune", "--config", str(recipe), "--jobs", "1", *arguments])


def row(printed, name):
    """The cells of one line of the comparison."""
    line = next(line for line in printed.splitlines() if line.startswith(name + "  "))
    return re.split(r"\s{2,}", line.strip())[1:]


def test_the_tuned_configuration_is_faster_fits_and_keeps_the_global_batch(recipe, capsys, tmp_path):
    assert tune(recipe, "--ipus", "1,2") == 0
    printed = capsys.readouterr().out
    given, tuned = config.load(str(recipe)), config.load(str(tmp_path / "slow_tuned.yaml"))
    assert tuned.config.global_batch_size == given.config.global_batch_size == 64
    before, after = planning.predict(given), planning.predict(tuned)
    assert after.images_per_second > 1.5 * before.images_per_second
    assert after.worst_tile_bytes <= 0.95 * Target.named("mk2").bytes_per_tile
    rates = [float(cell.replace(",", "")) for cell in row(printed, "images/s")]
    assert rates[0] == pytest.approx(before.images_per_second, abs=0.6)
    assert rates[1] == pytest.approx(after.images_per_second, abs=0.6)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert len(rates) == 6
    ipus = [int(a) * int(b) for a, b in zip(row(printed, "IPUs per replica"), row(printed, "replicas"))]
    each = [float(cell.replace(",", "")) for cell in row(printed, "images/s per IPU")]
    assert each == pytest.approx([rate / count for rate, count in zip(rates, ipus)], abs=1)
    assert "2 IPUs a replica:" in printed


def test_the_tuned_configuration_trains_as_it_is(recipe, tmp_path):
    assert tune(recipe, "--output", "tuned.yaml", "--ipus", "2") == 0
    tuned = config.load("tuned.yaml").config
    assert tuned.ipus_per_replica == 2
    assert tuned.training.gradient_accumulation >= 3  # a pipeline of two is filled
    assert cli.main(["--config", "tuned.yaml", f"run_dir={tmp_path / 'run'}"]) == 0


def test_total_ipus_are_shared_out_among_replicas(recipe):
    assert tune(recipe, "--ipus", "1,2", "--total-ipus", "4") == 0
    tuned = config.load("slow_tuned.yaml").config
    assert tuned.ipus_per_replica * tuned.training.replicas == 4
    assert tuned.global_batch_size == 64


def test_headroom_is_left_free(recipe):
    large = ["data.image_size=128", "device.chip=mk1"]
    assert tune(recipe, *large, "--headroom", "0.5") == 0
    report = planning.predict(config.load("slow_tuned.yaml"))
    assert report.worst_tile_bytes <= 0.5 * Target.named("mk1").bytes_per_tile


def test_a_larger_micro_batch_that_needs_less_memory_is_found(recipe, capsys):
    """Micro-batches of 42 images need more memory than those of 44, which share out evenly among tiles."""

    def used(size):
        report = planning.predict(
            config.load(str(recipe), ["device.chip=mk1", f"training.micro_batch_size={size}"])
        )
        return report.worst_tile_bytes / report.target.bytes_per_tile

    assert used(44) < 0.98 * used(42)
    assert tune(recipe, "device.chip=mk1", "training.gradient_accumulation=924",
                "--headroom", str(1 - 1.001 * used(44))) == 0  # fmt: skip
    assert config.load("slow_tuned.yaml").config.training.micro_batch_size == 44


def test_what_fits_only_with_recomputation_is_recomputed(recipe):
    """A micro-batch of 16 fits in 78 % of a tile where PopART chooses what is kept; smaller ones are slower."""
    large = [
        "data.image_size=128",
        "device.chip=mk1",
        "training.gradient_accumulation=16",
        "training.replicas=1",
    ]
    assert tune(recipe, *large, "--headroom", "0.22") == 0
    tuned = config.load("slow_tuned.yaml")
    assert (tuned.config.training.micro_batch_size, tuned.config.device.recompute) == (16, "standard")
    limit = 0.78 * Target.named("mk1").bytes_per_tile
    plain = planning.predict(tuned.changed(["device.recompute=none"]))
    assert planning.predict(tuned).worst_tile_bytes <= limit < plain.worst_tile_bytes


def test_batch_norm_is_not_given_a_smaller_micro_batch(recipe):
    norm = ["model.norm=batch", "model.norm_groups=null", "training.micro_batch_size=16"]
    assert tune(recipe, *norm, "training.gradient_accumulation=2", "training.replicas=1") == 0
    assert config.load("slow_tuned.yaml").config.training.micro_batch_size >= 16


@pytest.mark.parametrize("mixing", ["training.mixup_alpha=0.2", "training.cutmix_lambda=0.5"])
def test_images_that_are_mixed_with_each_other_are_two_at_least(recipe, mixing):
    assert tune(recipe, mixing, "training.micro_batch_size=4", "training.gradient_accumulation=8") == 0
    assert config.load("slow_tuned.yaml").config.training.micro_batch_size >= 2


@pytest.mark.parametrize(
    "option",
    ["device.io_tiles=32", "device.output_mode=all"],  # they want several micro-batches in a weight update
)
def test_sizes_that_the_configuration_does_not_take_are_passed_over(recipe, option):
    few = ["training.gradient_accumulation=4", "training.replicas=1"]
    assert tune(recipe, "--ipus", "1,2", *few, option) == 0
    tuned = config.load("slow_tuned.yaml").config
    assert tuned.training.gradient_accumulation > 1 and tuned.ipus_per_replica == 1


def test_a_rate_that_goes_with_the_global_batch_stays_what_it_is(recipe, capsys):
    scaled = ["optimizer.learning_rate=0.1", "optimizer.learning_rate_batch_size=64"]
    assert tune(recipe, "training.micro_batch_size=8", "training.gradient_accumulation=4", *scaled,
                "schedule.name=cosine", "schedule.final_learning_rate=0.05") == 0  # fmt: skip
    assert config.load("slow_tuned.yaml").config.global_batch_size == 64


def test_as_many_ipus_as_auto_takes_are_tuned(recipe, capsys):
    large = ["data.image_size=224", "device.chip=mk1", "device.pipeline_splits=auto"]
    sizes = ["training.micro_batch_size=16", "training.gradient_accumulation=4", "training.replicas=1"]
    count = len(planning.predict(config.load(str(recipe), [*large, *sizes])).ipus)
    assert count > 1
    assert tune(recipe, *large, *sizes) == 0
    assert f"{count} IPUs a replica: " in capsys.readouterr().out
    assert config.load("slow_tuned.yaml").config.ipus_per_replica == count


def test_what_is_about_a_pipeline_alone_is_kept_for_pipelines(recipe):
    pipeline = ["device.pipeline_splits=[layer2.0]", "device.sync_pattern=single_pipeline"]
    assert tune(recipe, "--ipus", "1,2", *pipeline) == 0
    tuned = config.load("slow_tuned.yaml").config.device
    assert tuned.sync_pattern == ("single_pipeline" if tuned.pipeline_splits else "full")


def test_when_no_number_of_ipus_is_allowed_the_reason_is_said(recipe, capsys):
    overlapped = ["device.io_tiles=32", "training.gradient_accumulation=8", "training.replicas=1"]
    assert tune(recipe, "--ipus", "2", *overlapped) == 2
    assert "does not overlap the transfers of a pipeline" in capsys.readouterr().err


def test_when_nothing_fits_the_status_is_3_and_nothing_is_written(recipe, tmp_path, capsys):
    assert tune(recipe, "--headroom", "0.97") == 3
    assert "Nothing fits: the leanest choice" in capsys.readouterr().err
    assert not (tmp_path / "slow_tuned.yaml").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--ipus", "one"], "--ipus one"),
        (["--ipus", "0"], "at least 1"),
        (["--headroom", "1.5"], "--headroom 1.5"),
        (["--total-ipus", "3", "--ipus", "2"], "no multiple of 2"),
        (["--total-ipus", "0"], "--total-ipus: must be at least 1, got 0"),
        (["--output", "slow.yaml"], "the given configuration itself"),
        (["--output", "nowhere/tuned.yaml"], "in a folder that exists"),
        (["--jobs", "0"], "--jobs"),
        (["model.name=resnet9"], 'did you mean "resnet8"'),
        (["--ipus", "2", "training.gradient_accumulation=2"], "allows no pipeline of 2"),
    ],
)
def test_bad_input_is_one_message_and_status_2(arguments, said, recipe, capsys):
    assert tune(recipe, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error

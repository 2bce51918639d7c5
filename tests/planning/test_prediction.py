"""From a configuration to a plan: settings, refusals and the remedies they name."""

import json
import re
import sys

import pytest

from ipu_train import cli, config, planning
from ipu_train.network import build_network
from ipu_train.training.assembly import PRECISIONS

RECIPE = """
model: {name: resnet20, norm: group, proxy_norm: true}
data: {name: cifar10}
optimizer: {momentum: 0.9}
training: {micro_batch_size: 4, gradient_accumulation: 4, replicas: 2}
device: {target: emulator}
logging: {progress: false, plots: false}
"""
# far beyond an IPU: 64 images of ResNet-18 at 224 pixels in float32
TOO_LARGE = ["model.name=resnet18", "data.image_size=224", "training.micro_batch_size=64"]


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def test_settings_are_the_configurations(recipe):
    resolved = config.load(
        recipe,
        [
            "training.precision=16.32",
            "device.partials=half",
            "device.recompute=checkpoints",
            "device.recompute_checkpoints=[layer1.0]",
            "device.available_memory_proportion=0.3",
            "device.optimizer_offload=true",
        ],
    )
    settings = planning.settings_of(resolved)
    assert settings.precision == "16.32"
    assert settings.optimizer == "momentum"
    assert settings.half_partials
    assert settings.checkpoints == ("layer1.0",)
    assert settings.proportions(1) == [0.3]
    assert (settings.gradient_accumulation, settings.replicas) == (4, 2)


@pytest.mark.parametrize(
    "overrides, kind, bytes_per_weight",
    [
        # as PopTorch has the tensors: accl1 and accl2 of the kinds given, the mean gradient in float32
        (["optimizer.name=rmsprop", "optimizer.centered=true"], "rmsprop_centered", 12),
        (
            [
                "optimizer.name=rmsprop",
                "optimizer.centered=true",
                "optimizer.first_order_momentum_accum_type=float16",
            ],
            "rmsprop_centered",
            10,
        ),
        (["optimizer.name=rmsprop"], "rmsprop", 8),
        # one tensor of the weights' type, whatever is said of accumulator and velocity
        (["optimizer.use_combined_accum=true", "training.precision=16.16"], "sgd_combined", 2),
        (["optimizer.use_combined_accum=true", "training.precision=16.32"], "sgd_combined", 4),
    ],
)
def test_optimizers_have_the_tensors_of_poptorch(recipe, overrides, kind, bytes_per_weight):
    settings = planning.settings_of(config.load(recipe, overrides))
    assert (settings.optimizer, settings.state_bytes_per_weight) == (kind, bytes_per_weight)


@pytest.mark.parametrize(
    "override, visits",
    [
        ("optimizer.name=lars", True),
        ("model.proxy_norm_statistics=per_update", True),
        ("optimizer.momentum=0", False),
    ],
)
def test_weights_meet_the_host_where_the_host_updates(recipe, override, visits):
    assert planning.settings_of(config.load(recipe, [override])).weights_meet_host == visits


@pytest.mark.parametrize("splits", [[], ["device.pipeline_splits=auto", "device.ipus_per_replica=2"]])
def test_a_recomputation_checkpoint_that_is_no_module_is_refused(recipe, capsys, splits):
    named = ["device.recompute=checkpoints", "device.recompute_checkpoints=[layer1.0, layr2]", *splits]
    assert cli.main(["plan", "--config", str(recipe), *named]) == 2
    assert "layr2: no module of the network computes under it" in capsys.readouterr().err


def test_a_pipeline_that_its_micro_batches_do_not_fill_is_predicted_and_refused(recipe, capsys):
    three = ["plan", "--config", str(recipe), "device.pipeline_splits=[layer2, layer3]"]
    assert cli.main([*three, "training.gradient_accumulation=4"]) == 2
    printed = capsys.readouterr()
    assert "images/s" in printed.out and "only filled by 5 micro-batches or more" in printed.err
    assert cli.main([*three, "training.gradient_accumulation=5"]) == 0


def test_splits_that_are_yet_to_be_found_go_with_what_a_pipeline_alone_has(recipe):
    more = ["device.pipeline_splits=auto", "device.ipus_per_replica=2", "device.sync_pattern=single_pipeline"]
    assert len(planning.predict(config.load(recipe, more)).ipus) == 2


def test_a_data_set_that_is_not_here_can_be_planned_for(recipe):
    assert planning.images_of(config.load(recipe)) == planning.Images(3, 32, 10)
    folder = ["data.name=imagefolder", "data.path=nowhere", "data.image_size=224"]
    assert planning.images_of(config.load(recipe, folder)) == planning.Images(3, 224, 1000)


def test_a_plan_counts_the_classes_that_training_would_find(recipe, tmp_path, capsys):
    """In the folder that data.train_split names, without hidden folders; shards and packs say theirs in a file."""
    for name in ("photos/a", "photos/b", "photos/c", "photos/.thumbnails", "other/x"):
        (tmp_path / name).mkdir(parents=True)
    folder = [
        "data.name=imagefolder",
        f"data.path={tmp_path}",
        "data.image_size=32",
        "data.train_split=photos",
    ]
    resolved = config.load(recipe, folder)
    assert planning.images_of(resolved).classes == 3
    (tmp_path / "classes.txt").write_text("ash\n\nbirch\n")
    shards = config.load(recipe, ["data.name=webdataset", *folder[1:3]])
    assert planning.images_of(shards).classes == 2
    assert "classes" not in planning.describe(resolved, planning.predict(resolved))
    nowhere = config.load(recipe, [*folder, "data.path=nowhere"])
    assert "1,000 classes are planned for" in planning.describe(nowhere, planning.predict(resolved))
    told = nowhere.changed(["model.num_classes=7"])
    assert "classes" not in planning.describe(told, planning.predict(resolved))


def test_a_pipelines_peaks_name_modules_of_the_network_and_its_schedule(recipe):
    resolved = config.load(recipe, ["device.pipeline_splits=[layer2, layer3]"])
    names = {name for name, _ in build_network(resolved, 10, 3).named_modules() if name} | {"input 0"}
    found = planning.predict(resolved).to_json()
    assert found["schedule"] == "pipelined"
    for ipu in found["ipus"]:
        assert ipu["peak"]["responsible"]
        assert {one["layer"] for one in ipu["peak"]["responsible"]} <= names
    assert planning.predict(config.load(recipe)).to_json()["schedule"] == "sequential"


@pytest.mark.parametrize("frozen", [[], ["model.train_only=[fc]"]])
def test_the_weights_that_a_plan_stores_are_those_of_the_training(recipe, frozen):
    """Weights that are not trained are converted like those that are."""
    resolved = config.load(recipe, ["training.precision=16.32", *frozen])
    stored = build_network(resolved, 10, 3).to(PRECISIONS["16.32"][1]).parameters()
    (ipu,) = planning.predict(resolved).ipus
    assert ipu.memory.categories["master_weights"] == sum(p.numel() * p.element_size() for p in stored)


def test_half_precision_needs_less_memory(recipe):
    full, half = (
        planning.predict(config.load(recipe, [f"training.precision={p}"])) for p in ("32.32", "16.16")
    )
    assert half.worst_tile_bytes < full.worst_tile_bytes
    assert full.fits


def test_plan_prints_json_with_integer_bytes_and_cycles(recipe, capsys):
    assert cli.main(["plan", "--config", str(recipe), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    for key in ("total_bytes", "worst_tile_bytes", "cycles"):
        assert isinstance(report[key], int)
    assert report["fits"] is True
    assert report["images_per_second"] > 0
    for ipu in report["ipus"]:
        assert sum(ipu["categories_bytes"].values()) == ipu["total_bytes"]


def test_what_does_not_fit_is_refused_before_training_with_what_would_help(recipe, tmp_path, capsys):
    run = tmp_path / "run"
    images = ["data.name=synthetic", "data.length=64", "training.gradient_accumulation=1"]
    status = cli.main(["--config", str(recipe), *TOO_LARGE, *images, "training.replicas=1", f"run_dir={run}"])
    error = capsys.readouterr().err
    assert status == 3
    assert "Out of memory: IPU 0 needs" in error
    assert error.count("worst tile") == 4  # the refusal, and three changes with their effect
    (saving,) = re.findall(
        r"training\.precision=16\.32: worst tile [\d,]+ bytes .*, ([+-]\d+)% images/s", error
    )
    given = config.load(recipe, [*TOO_LARGE, *images, "training.replicas=1"])
    rates = [
        planning.predict(given.changed(more)).images_per_second for more in ([], ["training.precision=16.32"])
    ]
    assert int(saving) == round(100 * (rates[1] / rates[0] - 1))
    assert "device.allow_out_of_memory=true" in error
    assert not run.exists()


def test_remedies_are_legal_changes_and_help(recipe):
    resolved = config.load(recipe, TOO_LARGE)
    report = planning.predict(resolved)
    before = report.worst_tile_bytes
    found = planning.remedies(resolved, report)
    assert len(found) == 3
    assert [r.worst_tile_bytes for r in found] == sorted(r.worst_tile_bytes for r in found)
    for remedy in found:
        assert planning.predict(resolved.changed(remedy.changes)).worst_tile_bytes == remedy.worst_tile_bytes
        assert remedy.worst_tile_bytes < before
        assert resolved.changed(remedy.changes).config.global_batch_size == resolved.config.global_batch_size


@pytest.mark.parametrize(
    "micro_batch, accumulation", [(96, 2), pytest.param(2048, 1, marks=pytest.mark.long)]
)
def test_of_a_batch_far_too_large_the_first_remedy_is_one_that_fits(recipe, micro_batch, accumulation):
    shape = [f"training.micro_batch_size={micro_batch}", f"training.gradient_accumulation={accumulation}"]
    resolved = config.load(recipe, [*TOO_LARGE, *shape])
    report = planning.predict(resolved)
    assert not report.fits
    best = planning.remedies(resolved, report)[0]
    assert best.fits and best.changes[0].startswith("training.micro_batch_size=")
    changed = resolved.changed(best.changes).config
    assert changed.global_batch_size == resolved.config.global_batch_size


def test_the_plan_is_in_the_run_folder(recipe, tmp_path):
    from ipu_train.trainer import train

    images = ["data.name=generated", "data.length=32", "data.image_size=8", "training.epochs=1"]
    resolved = config.load(
        recipe, [*images, "model.options.width=0.25", "model.norm_groups=4", f"run_dir={tmp_path / 'run'}"]
    )
    folder = train(resolved.changed(["logging.plots=true"])).folder
    assert "resnet20" in (folder.path / "report.html").read_text()
    assert json.loads(folder.plan.read_text())["fits"] is True


@pytest.mark.parametrize(
    "picture, message",
    [
        ("plan.foo", "must end in one of"),
        ("plan", "must end in one of"),
        ("nowhere/plan.png", "a folder that exists"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_prediction(
    recipe, tmp_path, monkeypatch, capsys, picture, message
):
    monkeypatch.setattr(planning, "predict", lambda *_, **__: pytest.fail("predicted"))
    assert cli.main(["plan", "--config", str(recipe), "--plot", str(tmp_path / picture)]) == 2
    assert message in capsys.readouterr().err


def test_a_picture_without_matplotlib_names_what_to_install(recipe, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert cli.main(["plan", "--config", str(recipe), "--plot", "plan.png"]) == 2
    assert "install ipu-train[plots]" in capsys.readouterr().err

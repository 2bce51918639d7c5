"""The sweep as its user meets it: files, table, resuming, and one message for what cannot be done."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipu_train import cli, config, planning

from .conftest import SWEEP


def sweep_of(recipe, sizes, norms=None):
    """The command's words: micro-batches of ``sizes``, in one process."""
    words = ["sweep", "--config", str(recipe), "--micro-batch-sizes", sizes, "--jobs", "1"]
    return words if norms is None else [*words, "--norms", norms]


@pytest.fixture()
def swept(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status = cli.main(["sweep", "--config", str(recipe), *SWEEP, "--json", "out.json"])
    assert status == 0
    (folder,) = Path("sweeps/tiny").iterdir()
    return folder, json.loads(Path("out.json").read_text()), capsys.readouterr().out


def test_a_dash_puts_the_json_alone_on_standard_output(recipe, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", "--config", str(recipe), *SWEEP, "--json", "-"]) == 0
    printed = capfd.readouterr()
    (folder,) = Path("sweeps/tiny").iterdir()
    assert printed.out == (folder / "sweep.json").read_text() and "Largest micro-batch" in printed.err


def test_every_point_is_what_plan_predicts(swept, recipe):
    _, result, _ = swept
    assert [(p["norm"], p["micro_batch_size"]) for p in result["points"]] == [
        (norm, size) for norm in ("batch", "group", "group+pn") for size in (1, 2, 8, 32)
    ]
    for point in result["points"]:
        assert point["micro_batch_size"] * point["gradient_accumulation"] * point["replicas"] == 64
        norm = ["model.norm=batch", "model.norm_groups=null"] if point["norm"] == "batch" else []
        if not point["norm"].endswith("+pn"):
            norm.append("model.proxy_norm=false")
        sizes = [f"training.{key}={point[key]}" for key in ("micro_batch_size", "gradient_accumulation")]
        report = planning.predict(config.load(recipe, norm + sizes))
        assert point["total_bytes"] == report.total_bytes
        assert point["worst_tile_bytes"] == report.worst_tile_bytes
        assert point["cycles"] == round(report.cycles)
        assert sum(point["categories_bytes"].values()) == point["total_bytes"]
        assert sum(point["worst_tile_categories_bytes"].values()) == point["worst_tile_bytes"]
        for key in ("total_bytes", "worst_tile_bytes", "cycles", "micro_batch_size"):
            assert type(point[key]) is int


def test_memory_grows_with_the_micro_batch(swept):
    _, result, _ = swept
    for norm in ("batch", "group", "group+pn"):
        sizes = [p["worst_tile_bytes"] for p in result["points"] if p["norm"] == norm]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]


def test_the_largest_micro_batch_is_the_last_that_fits(recipe, tmp_path, capsys):
    # an old chip, large images: the limit lies inside the global batch
    limits = ["data.name=synthetic", "data.image_size=224", "device.chip=mk1", f"sweep_dir={tmp_path / 's'}"]
    argv = [*sweep_of(recipe, "1,2", norms="layer"), "--global-batch-size", "512"]
    assert cli.main([*argv, *limits]) == 0
    result = json.loads((tmp_path / "s" / "sweep.json").read_text())
    largest = result["points"][0]["largest_micro_batch_size"]
    changes = ["model.norm=layer", "model.norm_groups=null", "model.proxy_norm=false", *limits[:3]]

    def fits(size):
        sizes = [f"training.micro_batch_size={size}", f"training.gradient_accumulation={max(1, 256 // size)}"]
        return planning.predict(config.load(recipe, changes + sizes)).fits

    assert 2 < largest < 256
    assert fits(largest)
    assert not fits(largest + 1)


def test_ipus_that_auto_takes_are_counted(recipe, tmp_path):
    large = ["data.name=synthetic", "data.image_size=256", "device.chip=mk1", "device.pipeline_splits=auto"]
    argv = sweep_of(recipe, "8", norms="group")
    assert cli.main([*argv, *large, f"sweep_dir={tmp_path / 's'}"]) == 0
    (one,) = json.loads((tmp_path / "s" / "sweep.json").read_text())["points"]
    assert len(one["ipus"]) > 1 and one["fits"]
    assert one["ipus_per_replica"] == len(one["ipus"])
    assert one["ipus_needed"] == 2 * len(one["ipus"])  # of two replicas


@pytest.mark.parametrize("forbids", ["training.gradient_accumulation=2", "device.io_tiles=32"])
def test_pipelines_that_the_configuration_forbids_are_not_counted(forbids, recipe, tmp_path):
    """PopTorch refuses a pipeline of 2 IPUs below 3 micro-batches a weight update; some options want one IPU."""
    large = ["data.name=synthetic", "data.image_size=256", "device.chip=mk1"]
    argv = [*sweep_of(recipe, "8", norms="group"), *large]

    def needed(name, *options):
        assert cli.main([*argv, *options, f"sweep_dir={tmp_path / name}"]) in (0, 3)
        (one,) = json.loads((tmp_path / name / "sweep.json").read_text())["points"]
        assert not one["fits"]
        return one["ipus_needed"]

    assert needed("allowed") > 2  # of two replicas
    assert needed("forbidden", forbids) is None


def test_sizes_that_leave_a_pipeline_empty_are_left_out(recipe, tmp_path, capsys):
    argv = sweep_of(recipe, "8,16", norms="group")
    assert cli.main([*argv, "device.pipeline_splits=[layer2.0]", f"sweep_dir={tmp_path / 's'}"]) == 0
    (one,) = json.loads((tmp_path / "s" / "sweep.json").read_text())["points"]
    assert one["micro_batch_size"] == 8 and one["largest_micro_batch_size"] < 16
    assert "left out, micro-batch 16: training.gradient_accumulation: is 2" in capsys.readouterr().err


def test_files_table_and_words(swept):
    folder, result, out = swept
    rows = list(csv.DictReader((folder / "sweep.csv").open()))
    assert len(rows) == 12
    assert [int(row["total_bytes"]) for row in rows] == [p["total_bytes"] for p in result["points"]]
    assert json.loads((folder / "sweep.json").read_text()) == result
    assert (folder / "sweep.png").stat().st_size > 10_000
    assert out.count("fits") >= 12
    by_place = {(p["norm"], p["micro_batch_size"]): p["total_bytes"] for p in result["points"]}
    ratio = by_place["batch", 8] / by_place["group+pn", 1]
    assert f"GN + PN at micro-batch 1: {by_place['group+pn', 1] / 1e6:,.0f} MB, {ratio:.1f}x less" in out
    assert "same global batch 64" in out


def test_a_repeated_sweep_takes_what_is_kept(swept, recipe, monkeypatch):
    _, result, _ = swept

    def never(*args, **kwargs):
        raise AssertionError("predicted again")

    monkeypatch.setattr("ipu_train.sweep.predicting.predict", never)
    assert cli.main(["sweep", "--config", str(recipe), *SWEEP, "--json", "again.json"]) == 0
    assert json.loads(Path("again.json").read_text())["points"] == result["points"]


def test_a_network_of_ones_own_is_predicted_as_it_is_now(tmp_path, monkeypatch):
    """And not as it was when an earlier sweep predicted it: its code may have changed."""
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "model: {name: 'own_net.py:net'}\ndata: {name: generated, image_size: 8, length: 64}\n"
        "training: {micro_batch_size: 8}\nlogging: {progress: false}\n"
    )
    weights = []
    for channels in (8, 96):
        Path("own_net.py").write_text(
            "import torch\ndef net(num_classes, *, in_channels=3):\n    return torch.nn.Sequential("
            f"torch.nn.Conv2d(in_channels, {channels}, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), "
            f"torch.nn.Linear({channels}, num_classes))\n"
        )
        argv = [*sweep_of(recipe, "8"), "--json", "out.json"]
        subprocess.run([sys.executable, "-m", "ipu_train", *argv], check=True, capture_output=True)
        weights.append(json.loads(Path("out.json").read_text())["points"][0]["categories_bytes"]["weights"])
    classes = config.load(recipe).config.data.num_classes
    assert weights == [4 * (3 * 9 * c + c + c * classes + classes) for c in (8, 96)]


def test_processes_give_what_one_process_gives(swept, recipe, tmp_path):
    _, result, _ = swept
    argv = ["sweep", "--config", str(recipe), *SWEEP[:-1], "2", f"sweep_dir={tmp_path / 'elsewhere' / 'two'}"]
    assert cli.main(argv) == 0
    two = json.loads((tmp_path / "elsewhere" / "two" / "sweep.json").read_text())
    assert two["points"] == result["points"]
    assert two["series"] == result["series"]


def test_an_interrupted_sweep_keeps_its_points_and_goes_on(recipe, tmp_path):
    argv = [sys.executable, "-m", "ipu_train", "sweep", "--config", str(recipe), "--jobs", "1"]
    argv += ["--norms", "group+pn,batch", "--micro-batch-sizes", ",".join(str(n) for n in range(1, 13))]
    argv += ["sweep_dir=s"]
    running = subprocess.Popen(
        argv, cwd=str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    points = tmp_path / "s" / "points"
    until = time.monotonic() + 120
    while len(list(points.glob("*.json"))) < 2 and running.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=120)
    assert running.returncode == 130, error
    assert "Go on with the same command and --resume" in error
    assert "Traceback" not in error
    document = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert document["complete"] is False
    assert 1 <= len(document["points"]) < 24
    before = {path: os.stat(path).st_mtime_ns for path in points.glob("*.json")}
    done = subprocess.run([*argv, "--resume"], cwd=str(tmp_path), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    finished = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert finished["complete"] is True
    assert len(finished["points"]) == 24
    assert {path: os.stat(path).st_mtime_ns for path in before} == before  # nothing was predicted twice


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--norms", "xyz"], "there is no norm 'xyz'. Norms are batch"),
        (["--global-batch-size", "0"], "--global-batch-size: must be at least 1, got 0"),
        (["--norms", "grup"], "there is no norm 'grup'; did you mean group"),
        (["--norms", "none+pn"], "needs a norm"),
        (["--micro-batch-sizes", "1,two"], "--micro-batch-sizes 1,two: must be whole numbers"),
        (["--micro-batch-sizes", "0"], "at least 1"),
        (["--micro-batch-sizes", "3,5"], "can make a global batch of 64 images"),
        (["--global-batch-size", "7", "--micro-batch-sizes", "2,4"], "can make a global batch of 7 images"),
        (["--set", "device.partials=quarter"], "device.partials"),
        (["--set", "devise.partials=half"], "devise"),
        (["--resume"], "Nothing to resume"),
        (["sweep_dir=tiny.yaml"], "Cannot write the sweep folder tiny.yaml"),
        (["--jobs", "0"], "--jobs"),
        (["model.norm_groups=5"], "5 groups"),
        (["model.name=resnet9"], 'did you mean "resnet8"'),
    ],
)
def test_bad_input_is_one_message_and_status_2(arguments, said, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", "--config", str(recipe), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not list(Path("sweeps").glob("**/sweep.json")) if Path("sweeps").exists() else True


def test_when_nothing_fits_all_points_are_kept_and_the_status_is_3(recipe, tmp_path, capsys):
    large = ["data.name=synthetic", "data.image_size=512", "model.options.width=4", "device.chip=mk1"]
    argv = sweep_of(recipe, "8,16", norms="group")
    assert cli.main([*argv, *large, f"sweep_dir={tmp_path / 's'}"]) == 3
    captured = capsys.readouterr()
    assert "No point fits" in captured.err
    document = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert [p["fits"] for p in document["points"]] == [False, False]
    assert document["series"][0]["largest_micro_batch_size"] < 12


def test_points_that_cannot_keep_the_global_batch_say_so(recipe, tmp_path, capsys):
    argv = ["sweep", "--config", str(recipe), "--norms", "group", "--micro-batch-sizes", "2,3", "--jobs", "1"]
    assert cli.main([*argv, f"sweep_dir={tmp_path / 's'}"]) == 0
    assert "micro-batch 3 x replicas 2 = 6 does not divide it; the nearest is 66" in capsys.readouterr().out
    points = json.loads((tmp_path / "s" / "sweep.json").read_text())["points"]
    assert [p["keeps_global_batch"] for p in points] == [True, False]

"""``ipu-train inspect`` as a user and as another program meets it."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from ipu_train import cli, config, models
from ipu_train.inspect.companions import Dependence
from ipu_train.inspect.picture import draw_dependence
from ipu_train.inspect.program import as_in_training
from ipu_train.models.power import site_powers

BASE = """
model: {name: resnet8v2, norm: group, norm_group_size: 4, proxy_norm: true, options: {width: 0.5}}
data: {name: generated, image_size: 8, num_classes: 4, length: 64}
training: {micro_batch_size: 4, gradient_accumulation: 2, replicas: 2, epochs: 1, seed: 3}
device: {threads: 1, allow_out_of_memory: true}
logging: {progress: false, plots: false}
"""
TERMS = ["squared_mean_of_means", "variance_of_means", "squared_mean_of_stds", "variance_of_stds"]


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(BASE)
    return str(path)


def layers(path):
    return json.loads(path.read_text())["layers"]


@pytest.mark.parametrize("form", [["--images", "8"], ["batch-dependence", "--draws", "2", "--images", "2"]])
def test_a_dash_puts_the_json_alone_on_standard_output(base, capfd, form):
    words = [word for word in form if not word.startswith("-") and not word.isdigit()]
    options = [word for word in form if word not in words]
    assert cli.main(["inspect", *words, "--config", base, *options, "--json", "-"]) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["model"] == "resnet8v2" and "group" in printed.err


def test_the_terms_of_a_configurations_network_by_norm_as_json_csv_and_picture(base, tmp_path, capsys):
    paths = {
        flag: tmp_path / f"out.{end}" for flag, end in (("json", "json"), ("csv", "csv"), ("plot", "png"))
    }
    flags = [word for flag, path in paths.items() for word in (f"--{flag}", str(path))]
    norms = "batch,layer,layer+pn,instance"
    assert cli.main(["inspect", "--config", base, "--norms", norms, "--images", "32", *flags]) == 0
    rows = layers(paths["json"])
    assert [row["norm"] for row in rows[::7]] == norms.split(",") and len(rows) == 4 * 7
    assert [row["depth"] for row in rows[:7]] == list(range(1, 8))
    assert rows[0]["name"] == "layer1.0.norm1" and rows[6]["name"] == "last_norm"
    for row in rows:
        assert set(row) == {"norm", "depth", "name", *TERMS}
        if row["norm"] == "batch":
            assert row["squared_mean_of_means"] < 1e-10
        if row["norm"] == "instance":
            assert row["squared_mean_of_stds"] == pytest.approx(sum(row[t] for t in TERMS))
    read = list(csv.DictReader(paths["csv"].read_text().splitlines()))
    assert [float(row[TERMS[1]]) for row in read] == pytest.approx([row[TERMS[1]] for row in rows])
    assert paths["plot"].stat().st_size > 10_000
    assert "last_norm" in capsys.readouterr().out


def test_replicas_and_micro_batches_give_the_terms_of_one_big_batch(base, tmp_path):
    path = tmp_path / "out.json"
    assert cli.main(["inspect", "--config", base, "--images", "64", "--json", str(path)]) == 0
    resolved = config.load(base)
    torch.manual_seed(3)
    network = models.build("resnet8v2", 4, norm_group_size=4, width=0.5)
    from ipu_train.data import open_data
    from ipu_train.training.program import Normalise

    source = open_data(resolved.config.data, 3)
    images, _ = source.train.batch([(0, i) for i in range(64)])
    expected = site_powers(network, Normalise(source.mean, source.std, torch.float32)(images))
    for row in layers(path):
        for term, value in zip(TERMS, expected[row["name"]]):
            assert row[term] == pytest.approx(value.item(), abs=1e-5)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_run_records_the_terms_while_it_trains_and_trains_the_same(norm, base, tmp_path):
    """Against the terms of a network before its first weight update, at learning rate zero in all but name."""
    more = (
        []
        if norm == "group"
        else ["model.norm=batch", "model.norm_group_size=null", "model.proxy_norm=false"]
    )
    more += ["optimizer.name=sgd", "optimizer.learning_rate=1e-30", "training.epochs=2"]
    runs = []
    for name, settings in (("plain", []), ("recorded", ["logging.inspect_every=2"])):
        run = tmp_path / name
        assert cli.main(["--config", base, *more, *settings, f"run_dir={run}"]) == 0
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        runs.append([(line["split"], line["step"], line["loss"]) for line in lines])
    assert runs[0] == runs[1]
    assert not (tmp_path / "plain" / "powers.jsonl").exists()
    (line,) = [json.loads(text) for text in (tmp_path / "recorded" / "powers.jsonl").read_text().splitlines()]
    assert (line["epoch"], line["step"]) == (2, 8)
    path = tmp_path / "fresh.json"
    assert cli.main(["inspect", "--config", base, *more, "--images", "64", "--json", str(path)]) == 0
    for row, fresh in zip(line["layers"], layers(path)):
        assert row["name"] == fresh["name"] and row["norm"] == fresh["norm"]
        # of 16 images at a time, the squared mean is too high by a sixteenth of the variance
        assert row[TERMS[2]] == pytest.approx(fresh[TERMS[2]], abs=0.02)
        assert sum(row[t] for t in TERMS) == pytest.approx(sum(fresh[t] for t in TERMS), abs=1e-3)


@pytest.mark.parametrize("call", [5, 7])  # the first of the second epoch, and one in its middle
def test_a_stopped_run_records_what_an_uninterrupted_one_does(base, tmp_path, monkeypatch, call):
    from ipu_train import trainer

    settings = [
        "logging.inspect_every=1",
        "optimizer.learning_rate=0.1",
        "training.epochs=2",
        "checkpoint.every_steps=1",
    ]
    assert cli.main(["--config", base, *settings, f"run_dir={tmp_path / 'whole'}"]) == 0

    calls = []
    whole = trainer._call

    def stops_in_the_second_epoch(run, batch, rate):
        calls.append(rate)
        if len(calls) == call:
            raise KeyboardInterrupt
        return whole(run, batch, rate)

    monkeypatch.setattr(trainer, "_call", stops_in_the_second_epoch)
    assert cli.main(["--config", base, *settings, f"run_dir={tmp_path / 'part'}"]) == 130
    monkeypatch.setattr(trainer, "_call", whole)
    assert cli.main(["--config", base, *settings, f"run_dir={tmp_path / 'part'}", "--resume"]) == 0
    texts = [(tmp_path / name / "powers.jsonl").read_text() for name in ("whole", "part")]
    assert texts[0] == texts[1] and texts[0].count("\n") == 2


def test_a_run_that_goes_on_without_recording_keeps_no_lines_of_what_it_trains_again(base, tmp_path):
    run, settings = tmp_path / "run", ["training.epochs=3", "checkpoint.every_epochs=1", "checkpoint.keep=9"]
    assert cli.main(["--config", base, *settings, "logging.inspect_every=1", f"run_dir={run}"]) == 0
    saved = sorted((run / "checkpoints").glob("step_*"))
    for folder in saved[1:]:  # as if the run had been killed in its second epoch
        shutil.rmtree(folder)
    assert (
        cli.main(["--config", base, *settings, "logging.inspect_every=null", f"run_dir={run}", "--resume"])
        == 0
    )
    lines = [json.loads(text) for text in (run / "powers.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1]


def test_the_terms_of_a_run_are_those_of_its_weights(base, tmp_path):
    run = tmp_path / "run"
    assert cli.main(["--config", base, "optimizer.learning_rate=0.5", f"run_dir={run}"]) == 0
    run = run.rename(tmp_path / "run #2")
    found = []
    trained = ["--checkpoint", str(run)]
    own = [*trained, "--norms", "group+pn"]  # says only what the weights are of
    for name, checkpoint in (("fresh", []), ("trained", trained), ("own", own)):
        path = tmp_path / f"{name}.json"
        assert (
            cli.main(["inspect", "--config", base, *checkpoint, "--images", "32", "--json", str(path)]) == 0
        )
        found.append([row["squared_mean_of_means"] for row in layers(path)])
    assert found[0] != pytest.approx(found[1], abs=1e-4)
    assert found[1] == found[2]


def test_only_batch_norms_outputs_depend_on_the_companions_of_an_image(base, tmp_path):
    paths = [str(tmp_path / "out.json"), str(tmp_path / "out.csv"), str(tmp_path / "out.png")]
    flags = ["--json", paths[0], "--csv", paths[1], "--plot", paths[2], "--images", "4", "--draws", "6"]
    norms = ["--norms", "batch,group,group+pn,layer+pn,instance", "--micro-batch-sizes", "2,16"]
    assert cli.main(["inspect", "batch-dependence", "--config", base, *norms, *flags]) == 0
    points = json.loads((tmp_path / "out.json").read_text())["points"]
    assert [(p["norm"], p["micro_batch_size"]) for p in points[:3]] == [
        ("batch", 2),
        ("batch", 16),
        ("group", 2),
    ]
    assert 1 > points[0]["relative_variance"] > 2 * points[1]["relative_variance"] > 0
    assert all(p["variance"] == p["relative_variance"] == 0 for p in points[2:])


def test_few_companions_fill_many_replicas_and_splits_may_be_searched(base, tmp_path):
    pipeline = [
        "device.pipeline_splits=auto",
        "device.ipus_per_replica=2",
        "training.gradient_accumulation=4",
    ]
    few = ["--images", "1", "--draws", "2", "--micro-batch-sizes", "2", "--json", str(tmp_path / "out.json")]
    many = ["training.replicas=8", "model.norm=batch", "model.norm_group_size=null", "model.proxy_norm=false"]
    assert cli.main(["inspect", "batch-dependence", "--config", base, *few, *pipeline, *many]) == 0
    (point,) = json.loads((tmp_path / "out.json").read_text())["points"]
    assert point["variance"] > 0


def test_random_networks_are_written_under_the_contracts_names(tmp_path, capsys):
    path = tmp_path / "out.json"
    argv = [
        "inspect",
        "random-net",
        "--width",
        "32",
        "--depth",
        "3",
        "--norms",
        "layer,layer+pn",
        "--networks",
        "1",
    ]
    assert cli.main([*argv, "--json", str(path), "--plot", str(tmp_path / "out.svg")]) == 0
    rows = layers(path)
    assert [(row["norm"], row["depth"]) for row in rows] == [
        (n, d) for n in ("layer", "layer+pn") for d in (1, 2, 3)
    ]
    assert all(set(row) == {"norm", "depth", "name", *TERMS} for row in rows)
    assert "theory: 0.9630" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--config", "BASE", "--norms", "laye"], "did you mean"),
        (
            ["--config", "BASE", "--checkpoint", "x", "--norms", "group+pn,layer"],
            "holds the weights of one norm",
        ),
        (["--config", "BASE", "--checkpoint", "nothing.pth"], "model.weights"),
        (["--config", "BASE", "--json", "no/such/folder.json"], "in a folder that exists"),
        (["--config", "BASE", "--plot", "out.txt"], "its name must end in"),
        (["--config", "BASE", "training.micro_batch_size=64"], "one call of the device takes 128 images"),
        (["random-net", "--norms", ""], "names no norm"),
        (["randomnet"], "there is no form 'randomnet'"),
        (["--config", "BASE", "model.norm=evonorm_s0", "model.proxy_norm=false"], "has no norm to look at"),
        (["random-net", "--groups", "2", "--group-size", "2"], "give one of them"),
        (["batch-dependence", "--config", "BASE", "--micro-batch-sizes", "1"], "at least 2"),
        (["batch-dependence", "--config", "BASE", "--micro-batch-sizes", "128"], "128 are needed"),
    ],
)
def test_bad_input_is_one_message_and_status_2(argv, message, base, capsys):
    argv = [base if word == "BASE" else word for word in argv]
    assert cli.main(["inspect", *argv]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_run_without_a_norm_to_look_at_is_refused_before_it_starts(base, capsys):
    evonorm = ["model.norm=evonorm_s0", "model.norm_group_size=null", "model.proxy_norm=false"]
    assert cli.main(["--config", base, *evonorm, "logging.inspect_every=1"]) == 2
    assert "logging.inspect_every: resnet8v2 has no norm to look at" in capsys.readouterr().err


OWN = """
from torch import nn

def vectors(num_classes, in_channels):
    layers = [nn.Flatten(), nn.Linear(in_channels * 64, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, num_classes)]
    return nn.Sequential(*layers)
"""


@pytest.mark.parametrize(
    "command, more", [(["inspect"], []), ([], ["logging.inspect_every=1", "run_dir=run"])]
)
def test_norms_that_see_no_images_are_one_message(command, more, base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    cleared = [f"model.{key}=null" for key in ("norm_group_size", "proxy_norm", "options")]
    network = ["model.name=own.py:vectors", "model.norm=none", *cleared]
    assert cli.main([*command, "--config", base, *network, *more]) == 2
    said = capsys.readouterr().err
    assert (
        "ipu-train: the network has no norm to look at: of its norms (2) none is run on a tensor [N, C"
        in said
    )


def test_weights_in_a_folder_of_any_name_are_the_ones_inspected(base, tmp_path, monkeypatch):
    """YAML takes null for nothing at all, and what follows a # for a comment."""
    monkeypatch.chdir(tmp_path)
    one = ["--config", base, "training.gradient_accumulation=1", "training.replicas=1"]
    assert cli.main([*one, f"run_dir={tmp_path / 'trained'}"]) == 0
    found = {}
    for name in ("trained", "trained #2", "null"):
        if name != "trained":
            shutil.copytree(tmp_path / "trained", tmp_path / name)
        path = tmp_path / f"{name}.json"
        assert cli.main(["inspect", *one, "--checkpoint", name, "--images", "8", "--json", str(path)]) == 0
        found[name] = layers(path)
    assert found["trained #2"] == found["null"] == found["trained"]


def test_terms_that_are_no_numbers_are_null(tmp_path):
    path = tmp_path / "out.json"
    sizes = ["--width", "4", "--depth", "20", "--networks", "1", "--norms", "none", "--image-size", "2"]
    assert cli.main(["inspect", "random-net", *sizes, "--gamma-std", "1000", "--json", str(path)]) == 0
    rows = json.loads(path.read_text(), parse_constant=pytest.fail)["layers"]
    assert rows[0]["variance_of_means"] > 0 and rows[-1]["variance_of_means"] is None


@pytest.mark.parametrize("drop", ["Dropout2d", "AlphaDropout", "FeatureAlphaDropout", "Dropout"])
def test_nothing_is_drawn_at_random_in_networks_of_other_people(drop):
    network = as_in_training(nn.Sequential(getattr(nn, drop)(0.5), nn.BatchNorm2d(3)))
    images = torch.randn(4, 3, 2, 2)
    assert torch.equal(network(images), network(images)) and network[1].training


def test_files_are_written_though_nobody_reads_the_words(tmp_path):
    """``ipu-train inspect ... --json out.json | head`` ends the words, not the measurement."""
    path = tmp_path / "out.json"
    sizes = ["--width", "8", "--depth", "2", "--networks", "1", "--norms", "layer,batch"]
    command = [sys.executable, "-m", "ipu_train", "inspect", "random-net", *sizes, "--json", str(path)]
    reading, writing = os.pipe()
    os.close(reading)
    assert subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False).returncode == 0
    os.close(writing)
    assert len(layers(path)) == 4


@pytest.mark.parametrize("seed", ["-1", "4294967296", "x"])
def test_seeds_are_what_they_are_in_a_configuration(seed, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["inspect", "random-net", "--seed", seed])
    assert "a whole number from 0 to 4294967295" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_share_is_drawn_from_nothing_upwards(tmp_path, monkeypatch, share):
    """A share of exactly 0 does not stand in the middle of an axis that goes down to -4 %."""
    limits = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: limits.append(figure.axes[0].get_ylim()))
    draw_dependence(str(tmp_path / "d.png"), [Dependence("group", size, share, share) for size in (2, 4)], "")
    ((bottom, top),) = limits
    assert bottom == 0 and share < top <= max(0.01, 2 * share)

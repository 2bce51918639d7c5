"""What words and the file system tell is refused before torch is imported: one message, status 2, at once."""

import json
import os
import subprocess
import sys

import pytest

from ipu_train.training.run_lock import RunLock

CONFIG = """
model: {name: resnet20}
data: {name: synthetic}
"""
# Runs each command line of a list in a process in which nobody can import torch.
WITHOUT_TORCH = """
import contextlib, io, json, sys


class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise AssertionError("torch is imported")


sys.meta_path.insert(0, Refusal())
from ipu_train import cli

answers = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            status = cli.main(arguments)
        except SystemExit as stop:
            status = stop.code
        except AssertionError as error:
            status = str(error)
    answers.append([status, said.getvalue()])
print(json.dumps(answers))
"""


def refused(arguments):
    """(status, what was said) of each command line."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        input=json.dumps(arguments),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with what is not what it should be, in which the command lines run."""
    here = tmp_path_factory.mktemp("refusals")
    (here / "good.yaml").write_text(CONFIG)
    (here / "bytes.yaml").write_bytes(b"\xff\0\x80")
    (here / "bad.yaml").write_text(CONFIG.replace("synthetic", "nothing"))
    (here / "file").write_text("x")
    (here / "empty").mkdir()
    (here / "begun" / "checkpoints").mkdir(parents=True)
    (here / "begun" / "config.yaml").write_text(CONFIG)
    saved = here / "run" / "checkpoints" / "step_00000001"
    saved.mkdir(parents=True)
    (saved / "state.json").write_text("{}")
    for place in (saved, here / "run"):
        (place / "config.yaml").write_text(CONFIG)
    before = os.getcwd()
    os.chdir(here)
    yield here
    os.chdir(before)


ON_CONFIG = (
    [],
    ["plan"],
    ["sweep"],
    ["tune"],
    ["compile"],
    ["launch"],
    ["config"],
    ["inspect"],
    ["inspect", "batch-dependence"],
)
ON_WEIGHTS = (["evaluate"], ["predict", "file"], ["export", "--format", "onnx", "--out", "x.onnx"])


def test_configurations(here):
    cases = {
        "missing.yaml": "missing.yaml",
        "no_such_recipe": "no_such_recipe",
        "bytes.yaml": "bytes.yaml",
        "bad.yaml": "bad.yaml:3: data.name",
        "empty": "empty",
        "good.yaml training.epoch=3": 'did you mean "epochs"',
        "good.yaml model.norm=grp": "no norm is called grp",
    }
    lines = [
        ([*command, "--config", *words.split()], said)
        for command in ON_CONFIG
        for words, said in cases.items()
    ]
    _all_refused(lines)


def test_weights(here):
    cases = {
        "--run missing": "missing: there is no such folder",
        "--run empty": "empty: holds no checkpoint",
        "--run file": "file: there is no such folder",
        "--run ~no-body/run": "~no-body/run: there is no such folder",
        "--run begun": "begun: holds no checkpoint",
        "--run run --weights best": "none of its checkpoints was validated",
        "--run run training.epoch=3": 'did you mean "epochs"',
        "--checkpoint missing": "missing: there is no such checkpoint",
        "--checkpoint ~no-body/run": "~no-body/run: there is no such checkpoint",
        "--checkpoint empty": "empty: is no checkpoint",
        "--checkpoint file": "file: is no file of weights",
        "--checkpoint file --config good.yaml": "file: is no file of weights",
        "--run run --checkpoint run": "not both",
        "": "name a run with --run DIR",
    }
    lines = [
        ([*command[:1], *words.split(), *command[1:]], said)
        for command in ON_WEIGHTS
        for words, said in cases.items()
    ]
    _all_refused(lines)


NO_FOLDER = "must be a file in a folder that exists"


def test_outputs(here):
    run = ["--run", "run"]
    config = ["--config", "good.yaml"]
    lines = [
        (["evaluate", *run, "--json", "no/x.json"], NO_FOLDER),
        (["evaluate", *run, "--json", "/proc/x.json"], "nothing can be written in /proc"),
        (["evaluate", *run, "--confusion", "no/x.csv"], NO_FOLDER),
        (["evaluate", *run, "--confusion", "x.txt"], "its name must end in"),
        (["evaluate", *run, "--data", "missing"], "--data missing: there is no such folder"),
        (["evaluate", *run, "--data", "file"], "--data file: is no folder"),
        (["predict", "file", *run, "--json", "empty"], "is a folder"),
        (["predict", "file", *run, "--csv", "no/x.csv"], NO_FOLDER),
        (["predict", "missing.jpg", *run], "missing.jpg: there is no such image or folder"),
        (["export", *run, "--format", "onnx", "--out", "no/x.onnx"], NO_FOLDER),
        (["export", *run, "--format", "state_dict", "--out", "x.bin"], ".safetensors, .pth or .pt"),
        (
            ["export", *run, "--format", "torchscript", "--out", "x.pt", "--opset", "3"],
            "is for --format onnx",
        ),
        (["average", "missing", "--out", "x.safetensors"], "No checkpoint in missing"),
        (["average", "run", "--out", "no/x.safetensors"], NO_FOLDER),
        (["plan", *config, "--plot", "no/x.png"], NO_FOLDER),
        (["plan", *config, "--html", "x.txt"], "must end in .html"),
        (["sweep", *config, "--html", "no/x.html"], NO_FOLDER),
        (["sweep", *config, "--json", "no/x.json"], NO_FOLDER),
        (["sweep", *config, "sweep_dir=file"], "file: is a file"),
        (["sweep", *config, "sweep_dir=/proc/x"], "nothing can be written in /proc"),
        (["sweep", *config, "--resume", "sweep_dir=missing"], "no sweep in missing"),
        (["tune", *config, "--html", "no/x.html"], NO_FOLDER),
        (["tune", *config, "--output", "no/x.yaml"], NO_FOLDER),
        (["tune", *config, "--output", "good.yaml"], "is the given configuration itself"),
        (["inspect", *config, "--json", "no/x.json"], NO_FOLDER),
        (["inspect", "random-net", "--csv", "no/x.csv"], NO_FOLDER),
        (["inspect", "batch-dependence", *config, "--plot", "x.txt"], "its name must end in"),
        (["inspect", *config, "--checkpoint", "empty"], "no checkpoint in the folder empty"),
        (["init", "--output", "file"], "is there already"),
        (["init", "--output", "no/x.yaml"], NO_FOLDER),
    ]
    _all_refused(lines)


def test_folders(here):
    data = ["--config", "good.yaml", "data.name=imagefolder", "model.num_classes=null"]
    lines = [
        (["--config", "good.yaml", "run_dir=file"], "run_dir: file: is a file"),
        (["--config", "good.yaml", "run_dir=run"], "holds a run already"),
        (["--config", "good.yaml", "run_dir=missing", "--resume"], "Nothing to resume"),
        (
            ["--config", "good.yaml", "run_dir=run", "--resume", "model.name=resnet8"],
            "computes something else",
        ),
        (["--config", "good.yaml", "checkpoint.resume=missing"], "Nothing to resume"),
        (["--config", "good.yaml", "model.weights=empty"], "no checkpoint in the folder empty"),
        (["--config", "good.yaml", "model.weights=file"], "file: is no file of weights"),
        (["--config", "good.yaml", "device.executable_cache=file"], "file: is a file"),
        (["compile", "--config", "good.yaml", "device.executable_cache=file"], "file: is a file"),
        (["compile", "--config", "good.yaml", "--instances", "0"], "--instances must be at least 1"),
        ([*data, "data.path=missing"], "missing: there is no such folder"),
        ([*data, "data.path=file"], "file: is a file"),
        ([*data, "data.path=empty"], "empty: holds no class folders"),
        (["data", "check", "missing"], "missing: there is no such folder"),
        (["data", "check", "empty"], "empty: holds no class folders"),
        (["data", "check", "run", "--manifest", "no/x"], "--manifest no/x: must be a file"),
        (["data", "pack", "file", "--out", "new"], "file: is a file"),
        (["data", "pack", "run", "--out", "begun"], "is there already"),
        (["data", "pack", "run", "--out", "/proc/x"], "nothing can be written in /proc"),
        (["data", "bench", "missing"], "missing: there is no such folder"),
        (["data", "bench", "run", "--config", "missing.yaml"], "missing.yaml"),
        (["launch", "--config", "good.yaml", "--hosts", "a,a"], "more than once"),
        (["launch", "--config", "good.yaml", "--instances", "3"], "cannot be shared out evenly"),
        (["launch", "--config", "good.yaml", "--partition", ":4"], "write NAME"),
    ]
    _all_refused(lines)


def test_a_run_folder_of_another_process(here):
    with RunLock(here / "run"):
        lines = [
            (["--config", "good.yaml", "run_dir=run"], f"process {os.getpid()}"),
            (["--config", "good.yaml", "run_dir=run", "--resume"], f"process {os.getpid()}"),
        ]
        _all_refused(lines)


def test_words(here):
    config = ["--config", "good.yaml"]
    lines = [
        (["sweep", *config, "--norms", "grp"], "there is no norm 'grp'"),
        (["sweep", *config, "--micro-batch-sizes", "0"], "at least 1"),
        (["sweep", *config, "--jobs", "0"], "--jobs: must be at least 1"),
        (["sweep", *config, "--set", "training.foo=1"], "training.foo"),
        (["tune", *config, "--ipus", "a"], "--ipus a"),
        (["tune", *config, "--headroom", "2"], "--headroom 2"),
        (["inspect", *config, "--norms", "grp"], "no norm 'grp'"),
        (["inspect", "random-net", "--norms", "grp"], "no norm 'grp'"),
        (["inspect", "random-net", "--groups", "2", "--group-size", "2"], "give one of them"),
        (["inspect", "batch-dependence", *config, "--draws", "1"], "at least 2"),
        (["models", "show", "nothing"], "no model is called nothing"),
        (["config", "--explain", "training.epoch"], "there is no such key"),
        (["init", "--norm", "grp"], "no such norm"),
        (["unheard"], "unknown command"),
    ]
    _all_refused(lines)


def _all_refused(lines):
    answers = refused([arguments for arguments, _ in lines])
    wrong = [
        (" ".join(arguments), status, said)
        for (arguments, message), (status, said) in zip(lines, answers)
        if status != 2 or message not in said or "Traceback" in said or said.count("ipu-train") > 3
    ]
    assert len(answers) == len(lines) and not wrong, "\n".join(map(str, wrong))

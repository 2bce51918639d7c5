"""``ipu-train launch`` as an operator uses it: the line that is printed, and what is run."""

import json
import os
import shlex

import pytest

from ipu_train import cli, device
from ipu_train.launching import lines

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
training: {micro_batch_size: 2, replicas: 4, epochs: 1}
device: {threads: 1}
"""


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def launch(recipe, *arguments):
    return cli.main(["launch", "--config", str(recipe), *arguments])


@pytest.fixture()
def executed(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "execvpe", lambda *call: calls.append(call))
    return calls


def parsed(text):
    """Variables, launcher's options and program of a line as a shell would read it."""
    words = shlex.split(text.replace("\\\n", " "))
    variables = dict(word.split("=", 1) for word in words if word.startswith("POPLAR_ENGINE_OPTIONS="))
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
    return variables, options, words


def test_a_dry_run_prints_the_line_of_poprun_and_runs_nothing(recipe, executed, capsys, monkeypatch):
    monkeypatch.delenv("POPLAR_ENGINE_OPTIONS", raising=False)
    status = launch(
        recipe, "--hosts", "a,b", "--ipus", "4", "--partition", "mine:4", "--vipu-host", "v", "--interface", "eno1",
        "--images-per-worker", "1e6", "--cores", "8", "--dry-run", "training.seed=1",
    )  # fmt: skip
    assert status == 0 and not executed
    told = capsys.readouterr().out
    variables, options, words = parsed(told[told.index("POPLAR_ENGINE") : told.index("\n\non this machine")])
    assert json.loads(variables["POPLAR_ENGINE_OPTIONS"]) == {"target.hostSyncTimeout": "900"}
    assert options["num-instances"] == "2" and options["num-replicas"] == "4"
    assert options["ipus-per-replica"] == "1" and options["host"] == "a,b"
    assert options["vipu-server-host"] == "v" and options["vipu-partition"] == "mine"
    assert options["update-partition"] == "no" and options["remove-partition"] == "no"
    assert options["process-placement"] == "spreadnuma"
    assert "--mca oob_tcp_if_include eno1" in options["mpi-global-args"]
    assert "-x POPLAR_ENGINE_OPTIONS" in options["mpi-local-args"]
    assert options["executable-cache-path"] == "runs/executables"
    program = words[words.index("ipu-train") :]
    assert program == [
        "ipu-train", "--config", str(recipe), "training.seed=1", "data.workers=1",
        "device.executable_cache=runs/executables",
    ]  # fmt: skip


def options_of(resolved, system, **more):
    """Options of poprun's line for a training on a system."""
    from ipu_train.launching import shape_of

    line = lines.poprun(resolved, shape_of(resolved, system), system, [], **{"environment": {}, **more})
    return parsed(line.text())[1]


def test_a_pipeline_on_two_pods_names_its_ipus_and_link_domains(recipe):
    """32 replicas of four IPUs are two PODs of 64, whose IPU-Links are two domains."""
    from ipu_train import config
    from ipu_train.launching import System

    splits = "device.pipeline_splits=[layer1, layer2, layer3]"
    large = config.load(recipe, ["training.replicas=32", "training.gradient_accumulation=7", splits])
    found = options_of(large, System(("a", "b")))
    assert (found["num-replicas"], found["ipus-per-replica"], found["num-ilds"]) == ("32", "4", "2")
    assert "num-ilds" not in options_of(config.load(recipe), System())


def test_a_partition_is_made_and_removed_unless_one_is_named_and_fitted_where_its_size_is_unknown(recipe):
    from ipu_train import config
    from ipu_train.launching import System

    resolved, kept = config.load(recipe), ("update-partition", "remove-partition")
    made = options_of(resolved, System())
    assert made["vipu-partition"] == "ipu_train_tiny" and [made[key] for key in kept] == ["yes", "yes"]
    known = options_of(resolved, System(partition="p", partition_ipus=4))
    assert known["vipu-partition"] == "p" and [known[key] for key in kept] == ["no", "no"]
    unknown = options_of(resolved, System(partition="p"))
    assert [unknown[key] for key in kept] == ["yes", "no"]


def test_what_the_environment_says_reaches_the_server_and_the_other_hosts(recipe):
    from ipu_train import config
    from ipu_train.launching import System

    environment = {"IPUOF_VIPU_API_HOST": "server", "WANDB_API_KEY": "secret"}
    found = options_of(config.load(recipe), System(("a", "b")), environment=environment)
    assert found["vipu-server-host"] == "server"
    exported = found["mpi-local-args"].split()
    assert "WANDB_API_KEY" in exported and "WANDB_MODE" not in exported and "secret" not in exported
    asked = options_of(config.load(recipe), System(), environment=environment, vipu_host="other")
    assert asked["vipu-server-host"] == "other" and "mpi-local-args" not in asked


def test_with_the_sdk_poprun_is_run(recipe, executed, monkeypatch):
    monkeypatch.setattr(device, "sdk_is_installed", lambda: True)
    launch(recipe, "--images-per-worker", "1e6")
    (program, command, environment), *more = executed
    assert not more
    assert program == "poprun" and "--num-instances=2" in command
    assert "target.hostSyncTimeout" in environment["POPLAR_ENGINE_OPTIONS"]


def test_without_the_sdk_the_same_instances_run_under_torchrun(recipe, executed, capsys):
    launch(recipe, "--images-per-worker", "1e6")
    (_, command, environment), *more = executed
    assert not more
    assert command[command.index("--standalone") + 1 :][:3] == ["--nproc_per_node=2", "-m", "ipu_train"]
    assert environment["PATH"] == os.environ["PATH"]
    printed = capsys.readouterr().out.split("on the emulator:\n")[1]
    assert shlex.split(printed.replace("\\\n", " ")) == command


def test_without_the_sdk_no_emulator_is_offered_where_ipus_are_asked_for(recipe, executed, capsys):
    line = [recipe, "--images-per-worker", "1e6", "device.target=ipu", "device.threads=null"]
    assert launch(*line) == 2
    said = capsys.readouterr()
    assert "torchrun" not in said.out and "poprun" in said.out and "has no Poplar SDK" in said.err
    assert launch(*line, "--dry-run") == 0 and not executed


def test_the_rate_of_a_worker_is_measured_where_the_images_are(recipe, capsys):
    assert launch(recipe, "--dry-run", "--cores", "64") == 0
    assert "images/s (measured here)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--hosts", "a,b,c"], "among 3 hosts"),
        (["--ipus", "2"], "--ipus is 2"),
        (["--partition", "p:2"], "partition p has 2 IPUs"),
        (["--partition", "p:x"], "write NAME, or NAME:IPUS"),
        (["--partition", "p:²"], "write NAME, or NAME:IPUS"),
        (["--images-per-worker", "-1"], "must be a rate above 0"),
        (["--instances", "3"], "among 3 instances"),
        (
            ["model.norm=sync_batch", "model.norm_groups=null", "model.proxy_norm=false"],
            "makes 4 replicas share their statistics, and a process has 2 of the 4",
        ),
        (["device.compute=cuda"], "2 processes would share the GPU"),
        (["device.profile=here"], "runs one replica and trains nothing"),
    ],
)
def test_bad_input_is_one_message_and_exit_status_2(recipe, executed, arguments, message, capsys):
    assert launch(recipe, *arguments) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not executed


def test_options_of_the_engine_that_are_set_already_stay(recipe):
    from ipu_train import config
    from ipu_train.launching import System, shape_of

    resolved = config.load(recipe)
    before = {"POPLAR_ENGINE_OPTIONS": '{"target.hostSyncTimeout": "5", "opt.enableInlining": "true"}'}
    line = lines.poprun(resolved, shape_of(resolved, System()), System(), [], environment=before)
    assert json.loads(line.environment["POPLAR_ENGINE_OPTIONS"]) == json.loads(
        before["POPLAR_ENGINE_OPTIONS"]
    )


@pytest.mark.parametrize("text", ["[]", "{opt.enableInlining: true}", "3"])
def test_options_of_the_engine_that_nobody_can_read_are_not_lost_in_silence(
    recipe, executed, text, monkeypatch, capsys
):
    monkeypatch.setenv("POPLAR_ENGINE_OPTIONS", text)
    assert launch(recipe, "--images-per-worker", "1e6") == 2
    told = capsys.readouterr().err
    assert "POPLAR_ENGINE_OPTIONS" in told and text in told and told.count("\n") == 1
    assert not executed


def test_the_cache_in_a_home_folder_is_the_trainings_own(recipe, capsys, monkeypatch):
    """A tilde behind an equals sign is no shell's to expand, nor poprun's."""
    monkeypatch.setenv("HOME", "/home/of us")
    assert launch(recipe, "--dry-run", "--images-per-worker", "1e6", "device.executable_cache=~/cache") == 0
    _, options, _ = parsed(capsys.readouterr().out.split("\n\non this machine")[0])
    assert options["executable-cache-path"] == "/home/of us/cache"

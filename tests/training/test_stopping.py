"""Signals at any moment: all is saved, or there is nothing to save, and the exit status says which signal it was."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
WIRES = {
    "in training, to data workers too": ("call", 3, "group SIGTERM"),
    "in validation, to data workers too": ("validation", 1, "group SIGTERM"),
    "while a checkpoint is written": ("flush", 12, "SIGINT"),
    "in the last call of all": ("call", 12, "SIGHUP"),
    "twice": ("call", 5, "two SIGTERM"),
}
STATUS = {"SIGINT": 130, "SIGTERM": 143, "group SIGTERM": 143, "SIGHUP": 129, "two SIGTERM": 143}
PROGRAM = """
import json, sys
from pathlib import Path
from forked_runs import RECIPE, final, in_a_fork, litter, prepare, same
from ipu_train.training import checkpoint

root, wires = Path(sys.argv[1]), json.loads(sys.argv[2])
overrides = ["data.workers=2", "data.length=12"]
prepare()
(root / "tiny.yaml").write_text(RECIPE)
in_a_fork(root / "tiny.yaml", root / "whole", overrides, False)
expected, found = final(root / "whole"), {}
for name, wire in wires.items():
    folder = root / name.replace(" ", "_")
    status = in_a_fork(root / "tiny.yaml", folder, overrides, False, wire)
    newest = checkpoint.newest(folder / "checkpoints")
    resumed = in_a_fork(root / "tiny.yaml", folder, overrides, "auto")
    after = final(folder)
    different = [key for key in expected if not same(expected[key], after.get(key))]
    found[name] = [status, newest and newest.name, resumed, different, litter(folder)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """What became of a run that each signal was sent to, and of its resumption: in forks of one process."""
    folder = tmp_path_factory.mktemp("stopped")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), json.dumps(WIRES)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", WIRES)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(stopped, name):
    status, _, resumed, different, litter = stopped[name]
    number = WIRES[name][2].split()[-1]
    assert status == STATUS.get(WIRES[name][2], -getattr(signal, number))
    assert (resumed, different, litter) == (0, [], [])


def test_a_signal_saves_the_last_step(stopped):
    saved = {name: values[1] for name, values in stopped.items()}
    assert saved["in training, to data workers too"] == "step_00000003"
    assert saved["in validation, to data workers too"] == "step_00000006"
    assert saved["in the last call of all"] == "step_00000012"


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_before_training_the_command_ends_at_once(tmp_path, number, status):
    """While the configuration is being read."""
    program = (
        "import os, signal, sys; from ipu_train import cli, config\n"
        "config.load = lambda *_: os.kill(os.getpid(), int(sys.argv[1])) or sys.exit('not stopped')\n"
        "sys.exit(cli.main(['--config', 'quickstart']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(number))], capture_output=True, text=True, cwd=str(tmp_path)
    )
    assert done.returncode == status
    assert "nothing to save" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []

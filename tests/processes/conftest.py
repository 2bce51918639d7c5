"""Trainings by several processes: forks of one process that has imported everything, for all tests of this room."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
PROGRAM = """
import json, os, sys
from functools import partial
from pathlib import Path
from forked_runs import prepare
from forked_processes import in_processes
from ipu_train import api, cli
from ipu_train.training.callbacks import Callback

class Noting(Callback):
    def __init__(self, path):
        self.path = path

    def note(self, *said):
        with open(self.path, "a") as file:
            print(*said, file=file)

    def started(self, folder):
        self.note("started")

    def training(self, record):
        self.note("training", record["step"])

    def validation(self, record):
        self.note("validation", record["epoch"])
        return record["epoch"] == 1

    def finished(self, folder, status):
        self.note("finished", status)

class Ending(Callback):
    def __init__(self, raised):
        self.raised = raised

    def training(self, record):
        if record["step"] == 4:
            raise self.raised

ENDS = {"7": SystemExit(7), "0": SystemExit(0), "text": SystemExit("enough"), "interrupt": KeyboardInterrupt()}

def ended_by(which, arguments):
    _, recipe, *overrides = arguments
    try:
        return api.train(recipe, overrides, callbacks=[Ending(ENDS[which])]).status
    except KeyboardInterrupt:
        print("KeyboardInterrupt", file=sys.stderr)
        return 130
    except SystemExit as end:  # as Python does it
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return int(isinstance(end.code, str)) or end.code

def with_callback(arguments):
    _, recipe, *overrides = arguments
    folder = next(text for text in overrides if text.startswith("run_dir="))[len("run_dir="):]
    noting = Noting(folder + "." + os.environ.get("RANK", "0") + ".noted")
    return api.train(recipe, overrides, callbacks=[noting]).status

prepare()
for line in sys.stdin:
    order = json.loads(line)
    order["wires"] = {int(process): wire for process, wire in order.get("wires", {}).items()}
    order["command"] = with_callback if order.pop("with_callback", False) else cli.main
    if "ended_by" in order:
        order["command"] = partial(ended_by, order.pop("ended_by"))
    recipe, folder = Path(order.pop("recipe")), Path(order.pop("folder"))
    print(json.dumps(in_processes(order.pop("count"), recipe, folder, order.pop("overrides"), **order)), flush=True)
"""


@pytest.fixture(scope="session")
def run():
    """``run(count, recipe, folder, overrides, resume=, wires=, with_callback=, ended_by=)`` gives the exit statuses.

    See ``scripts/forked_processes.py``.
    """
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(SCRIPTS), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
        },
    )

    def run(count, recipe, folder, overrides=(), **more):
        order = {"count": count, "recipe": str(recipe), "folder": str(folder), "overrides": list(overrides)}
        program.stdin.write(json.dumps({**order, **more}) + "\n")
        program.stdin.flush()
        answer = program.stdout.readline()
        assert answer, f"the process that forks has ended with {program.wait()}"
        return json.loads(answer)

    yield run
    program.stdin.close()
    assert program.wait(60) == 0
    program.stdout.close()


def _of_scripts():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import forked_processes
    finally:
        sys.path.remove(str(SCRIPTS))
    return forked_processes


difference, told = _of_scripts().difference, _of_scripts().told

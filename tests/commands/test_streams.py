"""Standard streams that take nothing: what a run says may get lost, what it computes must not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
model: {name: resnet8}
data: {name: generated, length: 16, image_size: 8, num_classes: 4}
training: {epochs: 1, micro_batch_size: 8}
logging: {plots: false, progress: true}
device: {threads: 1}
"""


def full(command):
    with open("/dev/full", "w") as nowhere:
        return subprocess.call(command, stdout=nowhere, stderr=nowhere)


def without_a_reader(command):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.call(command, stdout=writing, stderr=writing)
    finally:
        os.close(writing)


def closed(command):
    return subprocess.call(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("started", [full, without_a_reader, closed])
def test_a_run_goes_on_when_nothing_can_be_said(tmp_path, started):
    (tmp_path / "run.yaml").write_text(RECIPE)
    run = tmp_path / "run"
    command = ["-m", "ipu_train", "--config", str(tmp_path / "run.yaml"), f"run_dir={run}"]
    assert started([sys.executable, *command]) == 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000002"]
    assert started([sys.executable, *command]) == 2  # the folder is taken, which nobody hears


def test_programs_started_by_one_without_streams_have_them(tmp_path):
    """What a command runs (git, a compiler) must not open its files under the numbers of the streams."""
    program = f"""
import subprocess, sys
from ipu_train.cli import main
assert main(["no-command"]) == 2
numbers = "import os; print(os.open({os.devnull!r}, 0), file=open({str(tmp_path / "number")!r}, 'w'))"
subprocess.call([sys.executable, "-c", numbers])
"""
    (tmp_path / "starts.py").write_text(program)
    assert closed([sys.executable, str(tmp_path / "starts.py")]) == 0
    assert (tmp_path / "number").read_text() == "3\n"

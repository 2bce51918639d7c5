"""The command as an operator starts it: ``torchrun --nproc_per_node N -m ipu_train --config X``. Linux only."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 4096, image_size: 8, num_classes: 4}
optimizer: {learning_rate: 0.02}
training: {epochs: 200, micro_batch_size: 2, replicas: 4, seed: 5}
validation: {every_epochs: 0}
checkpoint: {every_steps: 20, keep: 2}
logging: {progress: false, plots: false, every_steps: 20}
device: {target: emulator, threads: 1}
"""

pytestmark = pytest.mark.long


@pytest.fixture
def start(tmp_path):
    """Starts torchrun with a number of processes and overrides; its output goes to a file."""
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    begun = []

    def begin(count, *overrides):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        command += ["-m", "ipu_train", "--config", "tiny.yaml", "run_dir=run", *overrides]
        output = open(tmp_path / "output", "w")  # noqa: SIM115
        begun.append(
            subprocess.Popen(
                command,
                cwd=tmp_path,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ, OMP_NUM_THREADS="1"),
            )
        )
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def process_of(rank, launcher):
    """Number of the process of a rank among the launcher's children."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    for child in children:
        if f"\0RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise LookupError(f"no process of rank {rank}")


def until_it_trains(folder, launcher):
    while not list(folder.glob("run/checkpoints/step_*")):
        assert launcher.poll() is None, (folder / "output").read_text()
        time.sleep(0.1)


def test_a_mistake_is_told_once(start, tmp_path):
    assert start(2, "training.replicas=3").wait(300) != 0
    said = (tmp_path / "output").read_text()
    assert said.count("torchrun has started 2") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number, said", [(signal.SIGTERM, "steps are saved"), (signal.SIGKILL, "has ended")])
def test_one_process_ends_all(start, tmp_path, number, said):
    launcher = start(2)
    until_it_trains(tmp_path, launcher)
    os.kill(process_of(1, launcher), number)
    assert launcher.wait(60) != 0
    ours = [line for line in (tmp_path / "output").read_text().splitlines() if said in line]
    assert len(ours) == 1 and "--resume" in ours[0]
    assert not list(tmp_path.glob("run/run.lock")) and not list(tmp_path.glob("run/checkpoints/.*"))


def test_torchrun_itself_may_be_stopped_and_others_go_on(start, tmp_path):
    launcher = start(2)
    until_it_trains(tmp_path, launcher)
    launcher.terminate()
    assert launcher.wait(60) != 0
    assert (tmp_path / "output").read_text().count("steps are saved") == 1
    going_on = start(4, "checkpoint.resume=latest")
    while "processes: 2 -> 4" not in (tmp_path / "output").read_text():
        assert going_on.poll() is None, (tmp_path / "output").read_text()
        time.sleep(0.1)

"""Runs in forks of this process, ended by real signals at chosen events, and what is compared of them.

Shared by the scripts that show that nothing is lost: ``resume_cases.py``, ``kill_cases.py``, ``signal_cases.py`` and
``damaged_checkpoints.py``. A fork saves the seconds in which torch is imported.
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from safetensors.torch import load_file

from ipu_train import cli, trainer
from ipu_train.training import checkpoint

PATIENCE = 600  # seconds; a run that takes longer hangs
RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 48, image_size: 8, num_classes: 4}
optimizer: {learning_rate: 0.02}
training: {epochs: 2, micro_batch_size: 2, seed: 3}
checkpoint: {every_steps: 2, keep: 3}
logging: {progress: false, plots: false, every_steps: 1}
device: {threads: 1}
"""


class Tripwire:
    """Ends the process that it is set in at the ``count``-th event of a kind."""

    def __init__(self, folder, event, count, end):
        self.folder, self.left, self.end = folder, count, end
        module, name = {
            "call": (trainer, "_call"),
            "validation": ("ipu_train.training.validation", "measure"),
            "flush": ("ipu_train.durable", "flush"),
            "rename": (os, "replace"),
            "line": ("ipu_train.tracking.metrics", "_line"),
            "plan": (trainer, "_plan"),
            "take up": ("ipu_train.training.resuming", "take_up"),
            "results": ("ipu_train.training.reporter", "results"),
        }[event]
        module = sys.modules[module] if isinstance(module, str) else module
        original = getattr(module, name)

        def watched(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                self.go()
            return original(*args, **kwargs)

        setattr(module, name, watched)

    def go(self):
        Path(f"{self.folder}.signal").write_text(self.end)
        if self.end == "two SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.end == "group SIGTERM":
            group = os.getpgid(0)
            sender = os.fork()  # a signal of the main process would be an order to its workers
            if sender == 0:
                os.setpgid(0, 0)
                os.killpg(group, signal.SIGTERM)
                os._exit(0)
            os.waitpid(sender, 0)
        else:
            os.kill(os.getpid(), getattr(signal, self.end))
        time.sleep(0.01)


def in_a_fork(recipe, folder, overrides, resume, wire=None, kill_after=None):
    """Run the command in a child process; its exit status, negative for a signal that killed it.

    Args:
        resume: False, True or "auto".
        wire: arguments of a :class:`Tripwire`.
        kill_after: seconds after which the child gets SIGKILL, wherever it is.
    """
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setpgid(0, 0)
            log = os.open(str(folder) + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            if wire is not None:
                Tripwire(folder, *wire)
            more = [] if not resume else ["--resume" if resume is True else "--resume=auto"]
            status = cli.main(["--config", str(recipe), *overrides, f"run_dir={folder}", *more])
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    started, limit = time.monotonic(), PATIENCE if kill_after is None else kill_after
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        if time.monotonic() - started > limit:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def final(folder):
    """What must be the same: tensors and state of the last checkpoint, and metrics without speed."""
    newest = checkpoint.newest(folder / "checkpoints")
    if newest is None:
        return {}
    found = {"name": newest.name}
    for part in ("weights", "optimizer"):
        found.update({f"{part}/{k}": v for k, v in load_file(str(newest / f"{part}.safetensors")).items()})
    state = json.loads((newest / "state.json").read_text())
    found.update({f"state/{key}": value for key, value in state.items()})
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]
    return found


def same(a, b):
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        # bits, so that NaN equals NaN and -0 differs from 0
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    return a == b


def litter(folder):
    """Files that a finished run must not leave."""
    hidden = [*folder.glob(".*"), *(folder / "checkpoints").glob(".*"), *folder.glob("run.lock")]
    return [path.name for path in hidden]


def prepare():
    """Import once what every fork would otherwise import again; the plan is no part of what is compared."""
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    import ipu_train.emulator  # noqa: F401

    trainer._plan = lambda *_: None
    trainer._write_plan = lambda *_: None


def warm_up():
    """:func:`prepare`, and a first run, which builds the kernel for all."""
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "warm_up.yaml"
        recipe.write_text(RECIPE)
        in_a_fork(recipe, Path(folder) / "run", ["model.proxy_norm=true", "data.length=8"], False)

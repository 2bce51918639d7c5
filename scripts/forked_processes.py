"""Trainings by several processes, forked from this one as a launcher would start them, and how far two runs differ."""

import json
import os
import signal
import socket
import sys
import time
import traceback
from contextlib import closing

import torch
from forked_runs import PATIENCE, Tripwire
from safetensors.torch import load_file

from ipu_train import cli
from ipu_train.training import checkpoint


def free_port():
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def in_processes(
    count, recipe, folder, overrides, resume=False, wires=None, environment=None, command=cli.main
):
    """Run the command in ``count`` processes at once; their exit statuses, negative for signals that killed them.

    Args:
        resume: False, True or "auto".
        wires: by process, arguments of a :class:`~forked_runs.Tripwire`.
        environment: further variables, as a launcher sets them.
        command: what each process runs with the arguments of the command; gives the exit status.
    """
    launcher = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    launcher.update(environment or {})
    children = []
    for index in range(count):
        child = os.fork()
        if child == 0:
            own = dict(launcher, RANK=str(index), LOCAL_RANK=str(index)) if count > 1 else {}
            _child(recipe, folder, overrides, resume, (wires or {}).get(index), own, index, command)
        children.append(child)
    started, statuses = time.monotonic(), {}
    while len(statuses) < count:
        for child in children:
            if child not in statuses:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    exited = os.WIFEXITED(status)
                    statuses[child] = os.WEXITSTATUS(status) if exited else -os.WTERMSIG(status)
                elif time.monotonic() - started > PATIENCE:
                    os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return [statuses[child] for child in children]


def _child(recipe, folder, overrides, resume, wire, environment, index, command):
    status = 70
    try:
        os.setpgid(0, 0)
        log = os.open(f"{folder}.{index}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        os.environ.update(environment)
        if wire is not None:
            Tripwire(f"{folder}.{index}", *wire)
        more = [] if not resume else ["--resume" if resume is True else "--resume=auto"]
        status = command(["--config", str(recipe), *overrides, f"run_dir={folder}", *more])
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def difference(one, other):
    """How far the last checkpoints and the metrics of two run folders are apart.

    Returns:
        ``weights``: the largest difference of a tensor of weights, average or optimizer state, as a share of the
        largest magnitude in it; ``loss``, ``accuracy``: the largest difference of a line; ``other``: what differs
        though it must not.
    """
    found = {"weights": 0.0, "loss": 0.0, "accuracy": 0.0, "other": []}
    newest = [checkpoint.newest(folder / "checkpoints") for folder in (one, other)]
    if None in newest or newest[0].name != newest[1].name:
        found["other"].append(f"checkpoints {newest}")
        return found
    for part in ("weights", "optimizer"):
        a, b = (load_file(str(path / f"{part}.safetensors")) for path in newest)
        if set(a) != set(b):
            found["other"].append(f"names in {part}")
            continue
        for name, tensor in a.items():
            if name == "host_random_state" and torch.equal(tensor, b[name]):
                continue
            if tensor.shape != b[name].shape or tensor.dtype != b[name].dtype:
                found["other"].append(name)
            elif name != "device_random_state":  # counts micro-batches that ran together, which are others
                apart = (tensor.double() - b[name].double()).abs().max().item() if tensor.numel() else 0.0
                largest = tensor.double().abs().max().item() if tensor.numel() else 0.0
                found["weights"] = max(found["weights"], apart / max(largest, 1e-3))
    lines = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (one, other)
    ]
    for line, twin in zip(*lines):
        for key in ("loss", "accuracy"):
            found[key] = max(found[key], abs(line[key] - twin[key]))
        if any(line[key] != twin[key] for key in ("split", "epoch", "step", "learning_rate")):
            found["other"].append(f"line {line}")
    if len(lines[0]) != len(lines[1]):
        found["other"].append("number of lines")
    return found


def told(folder, count):
    """What the processes of a run wrote, one text a process."""
    texts = []
    for index in range(count):
        path = folder.with_name(f"{folder.name}.{index}.log")
        texts.append(path.read_text() if path.exists() else "")
    return texts

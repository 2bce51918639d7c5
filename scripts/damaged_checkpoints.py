"""Checkpoints as broken disks and careless people leave them: all are noticed, and the previous sound one is taken.

    python scripts/damaged_checkpoints.py --cases 300 --seed 0

Each case damages the newest one or two checkpoints of a finished run: a file truncated, emptied, deleted or replaced by
a folder or a pipe, a bit or a byte flipped, two files exchanged, a file or the whole checkpoint of another run (other
seed, optimizer or width), a state with impossible values and right checksums. Taking the run up must name every damaged
checkpoint, go on from the newest sound one, raise no traceback and end as the whole run did. Exit status 1 otherwise.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from forked_runs import RECIPE, final, in_a_fork, same, warm_up

from ipu_train.training import checkpoint

OVERRIDES = ["data.length=12", "training.epochs=1", "optimizer.momentum=0.9", "checkpoint.keep=9"]
OTHERS = {
    "seed": ["training.seed=4"],
    "optimizer": ["optimizer.name=adam", "optimizer.momentum=null"],
    "width": ["model.options.width=0.5"],
}
FILES = [*checkpoint.FILES, "SHA256SUMS"]
STATES = [
    {"step": -5},
    {"step": "4"},
    {"epoch": None},
    {"call": 10**9},
    {"loss_scaling": -1.0},
    {"reported": []},
    {"more": 1},
]


def flipped(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def damage(path, others, rng):
    """Damage the checkpoint ``path``; what was done."""
    kind = rng.choice(["truncate", "empty", "delete", "bit", "bit", "bit", "byte", "folder", "pipe", "exchange",
                       "foreign file", "foreign checkpoint", "state", "no sums", "tail"])  # fmt: skip
    name = rng.choice(FILES)
    file, other = path / name, others[rng.choice(list(others))] / path.name
    data = file.read_bytes()
    if kind == "truncate":
        file.write_bytes(data[: rng.randrange(len(data))])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "tail":
        file.write_bytes(data + bytes(rng.randrange(1, 64)))
    elif kind == "bit":
        file.write_bytes(flipped(data, rng))
    elif kind == "byte":
        at = rng.randrange(len(data))
        file.write_bytes(data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :])
    elif kind in ("delete", "folder", "pipe"):
        file.unlink()
        if kind != "delete":
            (os.mkfifo if kind == "pipe" else os.mkdir)(str(file))
    elif kind == "exchange":
        one, two = path / "weights.safetensors", path / "optimizer.safetensors"
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second), two.write_bytes(first)
    elif kind == "foreign file":
        name = rng.choice(FILES[:-1])
        content = (other / name).read_bytes()
        if content == (path / name).read_bytes():  # the same in both runs is no damage
            content = flipped(content, rng)
        (path / name).write_bytes(content)
    elif kind == "foreign checkpoint":
        shutil.rmtree(path)
        shutil.copytree(other, path)
    elif kind == "no sums":
        (path / "SHA256SUMS").unlink()
    else:
        state = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps({**state, **rng.choice(STATES)}))
        (path / "SHA256SUMS").write_bytes(checkpoint._sums(path))
    return f"{kind} {name} of {path.name}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warm_up()
    started, bad = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as root:
        recipe, whole = Path(root) / "damaged.yaml", Path(root) / "whole"
        recipe.write_text(RECIPE)
        in_a_fork(recipe, whole, OVERRIDES, False)
        expected = final(whole)
        others = {}
        for name, changes in OTHERS.items():
            in_a_fork(recipe, Path(root) / name, [*OVERRIDES, *changes], False)
            others[name] = Path(root) / name / "checkpoints"
        for number in range(options.cases):
            rng = random.Random(f"{options.seed} {number}")
            folder = Path(root) / f"case_{number}"
            shutil.copytree(whole, folder)
            newest = checkpoint.list_checkpoints(folder / "checkpoints")[::-1]
            broken = newest[: rng.choice([1, 1, 2])]
            done = [damage(path, others, rng) for path in broken]
            status = in_a_fork(recipe, folder, OVERRIDES, True)
            said = Path(f"{folder}.log").read_text(errors="replace")
            problems = [] if status == 0 else [f"ended with {status}"]
            problems += ["a traceback"] if "Traceback" in said else []
            problems += [
                f"{path.name} is not named" for path in broken if f"checkpoints/{path.name}" not in said
            ]
            good = int(newest[len(broken)].name.split("_")[1])
            problems += [] if f"Resumed at step {good}: exact" in said else [f"not taken up at step {good}"]
            found = final(folder)
            problems += [f"{key} differs" for key in expected if not same(expected[key], found.get(key))]
            if problems:
                bad += 1
                print(f"case {number}: {', '.join(done)}: {'; '.join(problems[:6])}", flush=True)
            shutil.rmtree(folder)
            if (number + 1) % 50 == 0:
                print(f"{number + 1} cases, {bad} bad, {time.monotonic() - started:.0f} s", flush=True)
    print(
        f"{options.cases} damaged runs, seed {options.seed}: {bad} bad ({time.monotonic() - started:.0f} s)"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""kill -9 at any moment: every run folder stays readable, and the run ends as if nobody had killed it.

    python scripts/kill_cases.py --kills 500 --seed 0 [--photographs]

Runs of a few dozen steps with data workers, a checkpoint every other step, and validation are killed again and again,
at a random time or at a random flush, rename or line, and taken up with ``--resume auto`` until they end. After each
kill the folder must hold readable metrics and, once one was written, a sound checkpoint; at the end metrics and last
checkpoint must be those of a run that nobody killed, and nothing may be left over. Exit status 1 otherwise. With
--photographs images are read from a folder, from tar shards and from a pack in turns, cropped at random, and every run
must end as one on the folder that nobody killed: an image that came twice or not at all would change its weights.
"""

import argparse
import io
import random
import re
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from forked_runs import RECIPE, final, in_a_fork, litter, same, warm_up
from PIL import Image

from ipu_train.data import check
from ipu_train.data.folder import raise_problem
from ipu_train.data.pack import Packing, pack
from ipu_train.tracking import MetricsError, read_metrics
from ipu_train.training import checkpoint

OVERRIDES = [
    "data.length=48",
    "training.epochs=2",
    "training.gradient_accumulation=2",
    "optimizer.momentum=0.9",
]


PHOTOGRAPHS = {"train": 48, "val": 8}
PER_SHARD = 7  # no multiple of a batch: runs are cut within shards


def photographs(root):
    """The same images in three forms; overrides for each, those for the folder first."""
    generator = np.random.default_rng(0)
    for part, count in PHOTOGRAPHS.items():
        for number in range(count):
            folder = root / "folder" / part / f"class{number % 4}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    parts = check.open_parts(root / "folder")
    (root / "shards").mkdir()
    for part in parts:
        for index, label in enumerate(part.files.labels):
            with tarfile.open(root / "shards" / f"{part.name}-{index // PER_SHARD:06d}.tar", "a") as tar:
                for ending, data in (("png", part.files.read(index)), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{index:06d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    pack(parts, root / "pack", Packing(), raise_problem, 1, progress=False)
    names = {"folder": "imagefolder", "shards": "webdataset", "pack": "packed"}
    keys = ["data.augment=random_resized_crop", "data.cache=false", "data.image_size=8"]
    return [[f"data.name={name}", f"data.path={root / where}", *keys] for where, name in names.items()]


def unreadable(folder, had_checkpoint):
    """What is wrong with a folder whose process was killed."""
    problems = []
    if (folder / "metrics.jsonl").exists():
        try:
            read_metrics(folder / "metrics.jsonl")
        except MetricsError as error:
            problems.append(str(error))
    sound, skipped = checkpoint.newest_sound(folder / "checkpoints")
    problems += skipped
    if had_checkpoint and sound is None:
        problems.append("the checkpoints have gone")
    return problems, sound is not None


def lineage(rng, recipe, folder, most, overrides):
    """One run, killed until it has had enough; problems and number of kills."""
    problems, kills, had_checkpoint = [], 0, False
    for attempt in range(rng.randint(3, 12)):
        if kills >= most:
            break
        wire = kill_after = None
        if rng.random() < 0.5:
            wire = (rng.choice(["flush", "rename", "line", "call"]), rng.randint(1, 40), "SIGKILL")
        else:
            kill_after = rng.uniform(0.3, 6.0)
        status = in_a_fork(recipe, folder, overrides, "auto", wire, kill_after)
        if status == 0:
            break
        kills += 1
        if status != -9:
            problems.append(f"attempt {attempt}, {wire or kill_after}, ended with {status}")
        found, had_checkpoint = unreadable(folder, had_checkpoint)
        problems += [f"attempt {attempt}, {wire or kill_after}: {problem}" for problem in found]
    status = in_a_fork(recipe, folder, overrides, "auto")
    if status != 0:
        problems.append(f"the last part ended with {status}")
    return problems + [f"{name} is left over" for name in litter(folder)], kills


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photographs", action="store_true")
    options = parser.parse_args()
    warm_up()
    started, kills, runs, bad = time.monotonic(), 0, 0, 0
    with tempfile.TemporaryDirectory() as root:
        recipe = Path(root) / "killed.yaml"
        overrides, forms = OVERRIDES, [[]]
        recipe.write_text(RECIPE)
        if options.photographs:
            recipe.write_text(re.sub(r"(?m)^data:.*\n", "", RECIPE))
            overrides, forms = OVERRIDES[1:], photographs(Path(root))
        expected = {}
        while kills < options.kills:
            rng = random.Random(f"{options.seed} {runs}")
            workers = rng.choice([0, 1])
            own = [*overrides, f"data.workers={workers}", *forms[runs % len(forms)]]
            if not expected:
                in_a_fork(recipe, Path(root) / "whole", own, False)
                expected = final(Path(root) / "whole")
            folder = Path(root) / str(runs)
            problems, killed = lineage(rng, recipe, folder, options.kills - kills, own)
            found = final(folder)
            if options.photographs:  # which name the source
                found["state/images"] = expected["state/images"]
            problems += [f"{key} differs" for key in expected if not same(expected[key], found.get(key))]
            runs, kills, bad = runs + 1, kills + killed, bad + bool(problems)
            for problem in problems[:8]:
                print(f"run {runs - 1}: {problem}", flush=True)
            if runs % 5 == 0:
                print(
                    f"{kills} kills, {runs} runs, {bad} bad, {time.monotonic() - started:.0f} s", flush=True
                )
    print(
        f"{kills} kills of {runs} runs, seed {options.seed}: {bad} bad ({time.monotonic() - started:.0f} s)"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

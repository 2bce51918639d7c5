"""kill -9 at any moment: every run folder stays readable, and the run ends as if nobody had killed it.

    python scripts/kill_cases.py --kills 500 --seed 0

Runs of a few dozen steps with data workers, a checkpoint every other step, and validation are killed again and again,
at a random time or at a random flush, rename or line, and taken up with ``--resume auto`` until they end. After each
kill the folder must hold readable metrics and, once one was written, a sound checkpoint; at the end metrics and last
checkpoint must be those of a run that nobody killed, and nothing may be left over. Exit status 1 otherwise.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from forked_runs import RECIPE, final, in_a_fork, litter, same, warm_up

from ipu_train.tracking import MetricsError, read_metrics
from ipu_train.training import checkpoint

OVERRIDES = [
    "data.length=48",
    "training.epochs=2",
    "training.gradient_accumulation=2",
    "optimizer.momentum=0.9",
]


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
    options = parser.parse_args()
    warm_up()
    started, kills, runs, bad = time.monotonic(), 0, 0, 0
    with tempfile.TemporaryDirectory() as root:
        recipe = Path(root) / "killed.yaml"
        recipe.write_text(RECIPE)
        expected = {}
        while kills < options.kills:
            rng = random.Random(f"{options.seed} {runs}")
            workers = rng.choice([0, 1])
            overrides = [*OVERRIDES, f"data.workers={workers}"]
            if not expected:
                in_a_fork(recipe, Path(root) / "whole", overrides, False)
                expected = final(Path(root) / "whole")
            folder = Path(root) / str(runs)
            problems, killed = lineage(rng, recipe, folder, options.kills - kills, overrides)
            found = final(folder)
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

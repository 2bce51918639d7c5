"""SIGTERM in every part of a run, half of them to the whole process group with its data workers.

    python scripts/signal_cases.py --each 20 --seed 0

Seven places: while planning, before the first call, in a training call, in validation, at a line of metrics, while a
checkpoint is written, and after training. Exit status 143 within 30 seconds, and then everything is saved or there is
provably nothing to save: the newest checkpoint is of the last step of ``metrics.jsonl``, or there is no line. Taken up
with ``--resume auto`` the run must end as one that was never stopped. Exit status 1 otherwise.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from forked_runs import RECIPE, final, in_a_fork, litter, same, warm_up

from ipu_train.training import checkpoint

OVERRIDES = ["data.length=24", "training.epochs=2", "data.workers=2"]
PLACES = {"plan": 1, "take up": 1, "call": 24, "validation": 2, "line": 26, "flush": 60, "results": 1}
LONGEST = 30  # seconds


def unsaved(folder):
    """Steps that metrics know of and the newest sound checkpoint does not."""
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    done = max((json.loads(line)["step"] for line in lines), default=0)
    sound, _ = checkpoint.newest_sound(folder / "checkpoints")
    saved = sound[1].state["step"] if sound is not None else 0
    return done - saved


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=20, help="signals in each place")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warm_up()
    rng, bad, sent, slowest = random.Random(options.seed), 0, 0, 0.0
    with tempfile.TemporaryDirectory() as root:
        recipe = Path(root) / "stopped.yaml"
        recipe.write_text(RECIPE)
        in_a_fork(recipe, Path(root) / "whole", OVERRIDES, False)
        expected = final(Path(root) / "whole")
        for place, most in PLACES.items():
            statuses = []
            for number in range(options.each):
                end = "group SIGTERM" if number % 2 else "SIGTERM"
                wire, folder = (place, rng.randint(1, most), end), Path(root) / f"{place} {number}"
                started = time.time()
                status = in_a_fork(recipe, folder, OVERRIDES, False, wire)
                mark = Path(f"{folder}.signal")
                took = time.time() - mark.stat().st_mtime if mark.exists() else 0.0
                problems = (
                    [] if status == 143 else [f"ended with {status} after {time.time() - started:.0f} s"]
                )
                problems += [f"took {took:.0f} s"] if took > LONGEST else []
                problems += [f"{unsaved(folder)} steps are lost"] if unsaved(folder) > 0 else []
                again = in_a_fork(recipe, folder, OVERRIDES, "auto")
                found = final(folder)
                problems += [f"taken up it ended with {again}"] if again else []
                problems += [f"{key} differs" for key in expected if not same(expected[key], found.get(key))]
                problems += [f"{name} is left over" for name in litter(folder)]
                if problems:
                    bad += 1
                    print(f"{wire}: {'; '.join(problems[:6])}", flush=True)
                sent, slowest = sent + 1, max(slowest, took)
                statuses.append(status)
            print(f"{place}: {len(statuses)} signals, statuses {sorted(set(statuses))}", flush=True)
    print(f"{sent} signals, seed {options.seed}: {bad} bad; slowest end {slowest:.1f} s after its signal")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

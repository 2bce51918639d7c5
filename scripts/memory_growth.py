"""Memory and file handles of a long run: neither may grow.

    python scripts/memory_growth.py --steps 10000

Trains a tiny network for that many steps with data workers, a checkpoint every 50 steps and validation, and reads
resident memory and open files of the process every 250 steps. Prints both at a tenth of the run, half way and at the
end, and the growth of memory from a tenth of the run on (medians of a tenth of the readings); exit status 1 above 1 %
or when the number of open files has changed.
"""

import argparse
import gc
import os
import statistics
import sys
import tempfile
from pathlib import Path

from forked_runs import RECIPE

from ipu_train import config, trainer
from ipu_train.training.keeper import Keeper

EVERY = 250


def resident():
    """Resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files():
    return len(os.listdir("/proc/self/fd"))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10000)
    options = parser.parse_args()
    readings = []
    original = Keeper.tell_device

    def tell_device(self, *args):
        calls.append(1)
        if len(calls) % EVERY == 0:
            self.wait()  # a checkpoint that is being written has files and memory of its own
            gc.collect()
            readings.append((len(calls), resident(), open_files()))
        return original(self, *args)

    calls = []
    Keeper.tell_device = tell_device
    epochs, steps = max(1, options.steps // 1000), min(1000, options.steps)
    with tempfile.TemporaryDirectory() as root:
        recipe = Path(root) / "long.yaml"
        recipe.write_text(RECIPE)
        overrides = [
            f"data.length={2 * steps}",
            f"training.epochs={epochs}",
            "data.workers=1",
            f"run_dir={root}/run",
        ]
        overrides += ["logging.every_steps=10", "checkpoint.every_steps=50", "optimizer.momentum=0.9"]
        trainer.train(config.load(recipe, overrides))
    first = len(readings) // 10
    window = max(1, len(readings) // 10)
    start = statistics.median(memory for _, memory, _ in readings[first : first + window])
    end = statistics.median(memory for _, memory, _ in readings[-window:])
    for at in (first, len(readings) // 2, len(readings) - 1):
        step, memory, files = readings[at]
        print(f"step {step}: {memory / 2**20:.1f} MiB resident, {files} open files")
    growth, files = end / start - 1, {count for _, _, count in readings[first:]}
    print(f"{readings[-1][0]} steps: memory grew by {growth:.2%}, open files {sorted(files)}")
    return 1 if growth > 0.01 or len(files) > 1 else 0


if __name__ == "__main__":
    sys.exit(main())

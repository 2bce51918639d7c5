"""Writes what the IPU model predicts, in images per second, into the tables of configs/README.md.

    python scripts/recipe_throughput.py

Cells that end in `; 12,345` are brought up to date, each for the recipe that its row names. A few minutes, no IPU.
"""

import re
from pathlib import Path

import torch

from ipu_train.config import load
from ipu_train.planning import predict

TABLE = Path(__file__).resolve().parent.parent / "configs" / "README.md"
_ROW = re.compile(r"^\| `(\w+)` \|.*; ([\d,]+) \|")


def updated(line):
    """The line, with the figure of today's model if it holds one."""
    found = _ROW.match(line)
    if found is None:
        return line
    rate = predict(load(found.group(1))).images_per_second
    print(f"{found.group(1):40s} {found.group(2):>8s} -> {rate:8,.0f}", flush=True)
    return line[: found.start(2)] + f"{rate:,.0f}" + line[found.end(2) :]


def main():
    torch.set_num_threads(1)
    lines = TABLE.read_text("utf-8").splitlines()
    TABLE.write_text("\n".join(map(updated, lines)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

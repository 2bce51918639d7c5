"""CIFAR-10 with several norms and seeds: trains what is missing, then writes the table.

Runs are ordinary ``ipu-train`` runs under ``--runs``; one that was stopped goes on, one that is done is only read, so
the script can be repeated with more epochs' worth of patience, more norms or more seeds.

    python scripts/cifar10_norms.py --data FOLDER --norms batch,group,group+pn --seeds 0,1 --epochs 4

FOLDER holds train/CLASS/*.jpg and test/CLASS/*.jpg.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import torch


def command(options, norm, micro_batch, seed, folder):
    """The ipu-train command of one cell of the table; the global batch size stays the same."""
    name, _, proxy = norm.partition("+")
    accumulation = options.global_batch_size // (micro_batch * options.replicas)
    return [
        sys.executable, "-m", "ipu_train", "--config", options.config,
        "data.name=imagefolder", f"data.path={options.data}", "data.image_size=32", "data.augment=flip_crop",
        f"model.name={options.model}", f"model.norm={name}", f"model.proxy_norm={str(proxy == 'pn').lower()}",
        f"training.epochs={options.epochs}", f"training.seed={seed}", f"training.micro_batch_size={micro_batch}",
        f"training.gradient_accumulation={accumulation}", f"training.replicas={options.replicas}",
        "logging.every_steps=50", f"run_dir={folder}",
    ]  # fmt: skip


def metrics(folder):
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def final_accuracy(folder, epochs):
    """Validation accuracy after the last epoch; None while the run is not finished."""
    done = [m for m in metrics(folder) if m["split"] == "validation" and m["epoch"] == epochs]
    return done[-1]["accuracy"] if done else None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", default="cifar10_resnet20_gn_pn")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--norms", default="batch,group,group+pn")
    parser.add_argument("--micro-batch-sizes", default="8")
    parser.add_argument("--global-batch-size", type=int, default=128)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--runs", default="runs/cifar10_norms")
    parser.add_argument("--out", help="write the table to this Markdown file")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    lines = [
        f"| norm | micro-batch | seeds | accuracy after {options.epochs} epochs (mean) | each seed |",
        "|---|---|---|---|---|",
    ]
    for norm in options.norms.split(","):
        for micro_batch in (int(size) for size in options.micro_batch_sizes.split(",")):
            found = []
            for seed in seeds:
                folder = (
                    Path(options.runs) / f"{options.model}_{norm}_b{micro_batch}_e{options.epochs}_s{seed}"
                )
                if final_accuracy(folder, options.epochs) is None:
                    call = command(options, norm, micro_batch, seed, folder)
                    subprocess.run(call + (["--resume"] if folder.exists() else []), check=True)
                found.append(final_accuracy(folder, options.epochs))
            each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in found)
            mean = f"{100 * statistics.mean(found):.2f} %"
            lines.append(f"| {norm} | {micro_batch} | {len(found)} | {mean} | {each} |")
            print(lines[-1], flush=True)
    table = "\n".join(lines)
    print(table)
    if options.out:
        head = (
            f"CIFAR-10, {options.model}, global batch {options.global_batch_size}, {options.replicas} replicas.\n\n"
            f"    {' '.join(['python', *sys.argv])}\n\n"
            f"torch {torch.__version__}, Python {platform.python_version()}\n\n"
        )
        Path(options.out).write_text(head + table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

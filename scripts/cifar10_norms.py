"""CIFAR-10 with several models, norms, micro-batch sizes and seeds at one global batch: trains what is missing, then
writes the table.

Runs are ordinary ``ipu-train`` runs under ``--runs``; one that was stopped goes on, one that is done is only read. So
the script can be stopped at any time and repeated, with more norms, sizes or seeds; the table is written after every
run, from all that is done. A seed is run for all cells before the next one begins.

    python scripts/cifar10_norms.py --data FOLDER --epochs 4 --out scripts/results/cifar10_norms.md

FOLDER holds train/CLASS/*.jpg and test/CLASS/*.jpg. ``--train-per-class`` and ``--test-per-class`` take only the first
images of each class, by name, for machines where whole epochs take too long. ``--jobs`` runs several at once, for
machines with many cores or a GPU that one run does not fill. Further settings go to every run as they are, such as
``device.compute=cuda`` or ``training.precision=16.32``.
"""

import argparse
import contextlib
import itertools
import json
import math
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch
from cifar10_trainings import check_same

from ipu_train.config import load

RECIPES = {"resnet20": "cifar10_resnet20_gn_pn", "efficientnet_cifar_g16": "cifar10_efficientnet_gn_pn"}
DIVERGED = 4  # exit status of a run whose loss is no longer finite; its cell stays empty
SUBSET = "images_"  # how the folder of the first images of each class begins; their numbers follow
NORMS = "batch,layer,group,instance,group+pn,layer+pn"


def settings_of(options, norm, micro_batch, seed):
    """What is changed of the recipe; the global batch size is the same in all runs."""
    name, _, proxy = norm.partition("+")
    accumulation = options.global_batch_size // (micro_batch * options.replicas)
    return [
        "data.name=imagefolder", f"data.path={options.images}", "data.image_size=32", "data.augment=flip_crop",
        f"model.norm={name}", f"model.proxy_norm={str(proxy == 'pn').lower()}",
        f"training.epochs={options.epochs}", f"training.seed={seed}", f"training.micro_batch_size={micro_batch}",
        f"training.gradient_accumulation={accumulation}", f"training.replicas={options.replicas}",
        f"schedule.warmup_epochs={min(1, options.epochs / 4)}", "logging.every_steps=50",
        "device.allow_out_of_memory=true",  # the emulator has room for what an IPU's tiles have not
        *options.settings,
    ]  # fmt: skip


def subset(options):
    """The data folder, or one of links to the first images of each class, by name."""
    limits = {"train": options.train_per_class, "test": options.test_per_class}
    if not any(limits.values()):
        return options.data
    folder = Path(options.runs).resolve() / (SUBSET + "{train}_{test}".format(**limits))
    for split, limit in limits.items():
        for images in sorted((Path(options.data).resolve() / split).iterdir()):
            target = folder / split / images.name
            target.mkdir(parents=True, exist_ok=True)
            for image in sorted(images.iterdir())[:limit]:
                with contextlib.suppress(FileExistsError):
                    (target / image.name).symlink_to(image)
    return str(folder)


def check_images(folder, options):
    """A run that is done counts for as many images of each class as are asked for; where a data set lies may change.

    Raises:
        SystemExit: it is of other numbers of images.
    """
    before, now = (Path(p).name for p in (load(str(folder / "config.yaml")).config.data.path, options.images))
    if before != now and any(name.startswith(SUBSET) for name in (before, now)):
        sys.exit(
            f"{folder} holds a run of the images in {before}, not {now}: choose another --runs, or delete it"
        )


def final_accuracy(folder, epochs):
    """Validation accuracy after the last epoch; None while the run is not finished."""
    path = folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    done = [m for m in records if m["split"] == "validation" and m["epoch"] == epochs]
    return done[-1]["accuracy"] if done else None


def folder_of(options, model, norm, micro_batch, seed):
    return Path(options.runs) / f"{model}_{norm}_b{micro_batch}_e{options.epochs}_s{seed}"


def cell(accuracies):
    """``91.23 ± 0.20 (3)``: mean, sample standard deviation and number of seeds, in percent."""
    if not accuracies:
        return ""
    percent = [100 * accuracy for accuracy in accuracies]
    spread = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
    return f"{statistics.mean(percent):.2f}{spread} ({len(percent)})"


def table(options):
    """Markdown: one table a model, norms down, micro-batch sizes across."""
    lines = []
    for model in options.models:
        heads = " | ".join(f"micro-batch {size}" for size in options.micro_batch_sizes)
        lines += [
            f"### {model}",
            "",
            f"| norm | {heads} |",
            "|---|" + "---|" * len(options.micro_batch_sizes),
        ]
        for norm in options.norms:
            cells = []
            for size in options.micro_batch_sizes:
                folders = [folder_of(options, model, norm, size, seed) for seed in options.seeds]
                found = [final_accuracy(folder, options.epochs) for folder in folders]
                cells.append(cell([accuracy for accuracy in found if accuracy is not None]))
            lines.append(f"| {norm} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def document(options):
    counts = [len(list((Path(options.images) / split).glob("*/*"))) for split in ("train", "test")]
    return (
        "# CIFAR-10: norms and micro-batch sizes\n\n"
        f"{counts[0]:,} training and {counts[1]:,} test images. "
        f"Validation accuracy in percent after {options.epochs} epochs: mean ± standard deviation (number of seeds). "
        f"Global batch {options.global_batch_size}, {options.replicas} replicas; "
        "the recipes' schedule over that many epochs. Empty: not run.\n\n"
        f"    python {' '.join(map(shlex.quote, sys.argv))}\n\n"
        f"torch {torch.__version__}, Python {platform.python_version()}\n\n{table(options)}"
    )


def listed(text):
    return text.split(",")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--train-per-class", type=int)
    parser.add_argument("--test-per-class", type=int)
    parser.add_argument("--models", type=listed, default=list(RECIPES))
    parser.add_argument("--norms", type=listed, default=listed(NORMS))
    parser.add_argument("--micro-batch-sizes", type=listed, default=listed("2,8,64"))
    parser.add_argument("--global-batch-size", type=int, default=128)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seeds", type=listed, default=listed("0,1,2"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minutes", type=float, help="start no run after this many minutes")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once; what they print goes to RUN.log")
    parser.add_argument("--runs", default="runs/cifar10_norms")
    parser.add_argument("--out", help="write the table to this Markdown file")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    options.micro_batch_sizes = [int(size) for size in options.micro_batch_sizes]
    options.seeds = [int(seed) for seed in options.seeds]
    for size in options.micro_batch_sizes:
        if options.global_batch_size % (size * options.replicas):
            parser.error(
                f"{options.replicas} replicas of micro-batch {size} do not divide {options.global_batch_size}"
            )
    unknown = sorted(set(options.models) - set(RECIPES))
    if unknown:
        parser.error(f"no recipe for {', '.join(unknown)}; there is one for {', '.join(RECIPES)}")
    return options


def train(options, cell, deadline):
    """Train one cell of the table unless it is done, or the time is over; whether it trained."""
    seed, model, micro_batch, norm = cell
    folder = folder_of(options, model, norm, micro_batch, seed)
    recipe, settings = RECIPES[model], settings_of(options, norm, micro_batch, seed)
    if final_accuracy(folder, options.epochs) is not None:
        check_same(folder, recipe, settings)
        check_images(folder, options)
        return False
    if time.monotonic() > deadline:
        return False
    call = [sys.executable, "-m", "ipu_train", "--config", recipe, *settings, f"run_dir={folder}"]
    resumable = any((folder / "checkpoints").glob("step_*"))
    if folder.exists() and not resumable:  # stopped before its first checkpoint
        shutil.rmtree(folder)
    call += ["--resume"] if resumable else []
    if options.jobs == 1:
        done = subprocess.run(call)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{folder}.log", "a", encoding="utf-8") as log:
            done = subprocess.run(call, stdout=log, stderr=log)
        print(f"{folder.name}: {100 * (final_accuracy(folder, options.epochs) or 0):.2f} %", flush=True)
    if done.returncode not in (0, DIVERGED):
        raise subprocess.CalledProcessError(done.returncode, call)
    return True


def main():
    options = parse()
    options.images = subset(options)
    deadline = time.monotonic() + 60 * (math.inf if options.minutes is None else options.minutes)
    cells = itertools.product(options.seeds, options.models, options.micro_batch_sizes, options.norms)
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(train, options, cell, deadline) for cell in cells]
        try:
            for run in as_completed(runs):
                if run.result() and options.out:
                    Path(options.out).write_text(document(options), encoding="utf-8")
        finally:  # after Ctrl-C or a run that failed nothing more begins
            for run in runs:
                run.cancel()
    if options.out:
        Path(options.out).write_text(document(options), encoding="utf-8")
    print(table(options))


if __name__ == "__main__":
    main()

"""Tunes every norm with the same budget: eight trials each of learning rate, weight decay and group size.

A trial trains on 90 % of CIFAR-10's *training* images and is judged by the other 10 %, always the same ones; the test
images are never seen. The search is the same for all norms, one setting after another, each from the best found so far:
four learning rates a factor of two apart (at batch 128: 0.1 to 0.8, of the EfficientNet 0.025 to 0.2), two more weight
decays, and two more group sizes, or where a norm has no groups the two rates half a step from the best. Runs are
ordinary ``ipu-train`` runs: what was stopped goes on. The best of each norm, and all trials, are written as a table
after each trial, with a JSON file beside it; a trial that is in there is not run again.

    python scripts/cifar10_tuning.py --data FOLDER --epochs 4 --image-size 16 --out tuning.md

What a few epochs cannot tell, ``--finalists`` asks again at the length of the trainings: two trials of each norm of
ResNet-20 v2, the best rates of the search, and lower ones with more channels a group.

    python scripts/cifar10_tuning.py --data FOLDER --epochs 30 --image-size 16 --finalists --out finalists.md

FOLDER holds train/CLASS/*.jpg. ``--model efficientnet_cifar_g16`` tunes the CIFAR EfficientNet; ``--trials 4`` makes
only the first four of each norm, the rates. Further settings go to every run.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import torch
from cifar10_trainings import DEFAULT, MEAN, RECIPES, STD, by_epoch, check_same, records

# Those of the CIFAR EfficientNet go lower: of 0.1, 0.2 and 0.4 its first trials preferred the lowest.
RATES = {DEFAULT: (0.1, 0.2, 0.4, 0.8), "efficientnet_cifar_g16": (0.1, 0.05, 0.025, 0.2)}
DECAY, OTHER_DECAYS = 5e-4, (2e-4, 1e-3)
GROUP_SIZE, OTHER_GROUP_SIZES = 4, (2, 8)
TRIALS = len(RATES[DEFAULT]) + 2 + 2
# (rate, group size): what the search found best, and what it could not tell from it.
FINALISTS = {
    "batch": ((0.4, None), (0.2, None)),
    "group+pn": ((0.3, 4), (0.2, 16)),
    "layer+pn": ((0.2, None), (0.1, None)),
    "group": ((0.3, 4), (0.2, 16)),
    "layer": ((0.2, None), (0.1, None)),
}
ORIGIN = (
    " The first finalist of a norm is what its recipe had been; the second has a lower rate, and where there are "
    "groups 16 channels in each, which had been seen to do well with Proxy Norm on the test images before."
)
HELD_OUT = 5000  # images


def trials_of(options):
    """How many trials a norm has in all."""
    return len(FINALISTS["batch"]) if options.finalists else TRIALS


def next_trial(norm, found, options):
    """(rate, decay, group size) of the trial after those of ``found``, in their order."""
    if options.finalists:
        rate, size = FINALISTS[norm][len(found)]
        return rate, DECAY, size
    rates = RATES[options.model]
    groups = norm.startswith("group")
    size = GROUP_SIZE if groups else None
    number = len(found)
    if number < len(rates):
        return rates[number], DECAY, size
    number -= len(rates)
    before = found[: len(rates) + number // 2 * 2]  # trials of other settings than the one that is varied now
    best = max(before, key=lambda trial: trial["accuracy"])
    rate, decay = best["learning_rate"], best["weight_decay"]
    if number < 2:
        return rate, OTHER_DECAYS[number], size
    if groups:
        return rate, decay, OTHER_GROUP_SIZES[number - 2]
    return float(f"{rate * 2 ** (-0.5, 0.5)[number - 2]:.2g}"), decay, size


def settings_of(options, rate, decay, size):
    return [
        "data.name=imagefolder", f"data.path={Path(options.data) / 'train'}", "data.validation_fraction=0.1",
        f"data.image_size={options.image_size}", "data.augment=flip_crop", f"data.mean={MEAN}", f"data.std={STD}",
        f"optimizer.learning_rate={rate}", "optimizer.learning_rate_batch_size=128",
        f"optimizer.weight_decay={decay}", "optimizer.nesterov=true", "schedule.warmup_epochs=1",
        *([] if size is None else [f"model.norm_group_size={size}"]),
        f"training.epochs={options.epochs}", "training.micro_batch_size=64", "training.gradient_accumulation=2",
        "training.replicas=1", f"training.seed={options.seed}", f"validation.every_epochs={options.epochs}",
        "validation.micro_batch_size=250", "logging.every_steps=39", "logging.plots=false",
        "device.allow_out_of_memory=true", *options.settings,
    ]  # fmt: skip


def run_trial(options, norm, rate, decay, size):
    """The held-out accuracy of one trial; trains what is not there yet."""
    groups = "" if size is None else f"_g{size}"
    name = f"{options.model}_{norm}_lr{rate:g}_wd{decay:g}{groups}_e{options.epochs}_s{options.seed}"
    folder = Path(options.runs) / name
    done = [r for r in records(folder) if r["split"] == "validation" and r["epoch"] == options.epochs]
    recipe, settings = RECIPES[options.model][norm], settings_of(options, rate, decay, size)
    if done:
        check_same(folder, recipe, settings)
    else:
        call = [sys.executable, "-m", "ipu_train", "--config", recipe, *settings, f"run_dir={folder}"]
        resumable = any((folder / "checkpoints").glob("step_*"))
        subprocess.run(call + (["--resume"] if resumable else []), check=True)
    last = by_epoch(records(folder))[-1]
    return {
        "norm": norm, "learning_rate": rate, "weight_decay": decay, "group_size": size,
        "accuracy": last["validation_accuracy"], "train_loss": last.get("train_loss"),
    }  # fmt: skip


def protocol(options):
    """What trials must have in common to be compared; ``device`` says how they are computed, not what."""
    common = {key: getattr(options, key) for key in ("model", "epochs", "image_size", "seed")}
    common["settings"] = [setting for setting in options.settings if not setting.startswith("device.")]
    return common


def recorded(options):
    """The trials of the JSON file beside ``--out``, by norm, rate, decay and group size.

    Raises:
        SystemExit: they have been made in another way.
    """
    path = Path(options.out).with_suffix(".json") if options.out else None
    if path is None or not path.exists():
        return {}
    content = json.loads(path.read_text("utf-8"))
    if content["protocol"] != protocol(options):
        sys.exit(
            f"{path} holds trials of {content['protocol']}, not of {protocol(options)}: choose another --out"
        )
    keys = ("norm", "learning_rate", "weight_decay", "group_size")
    return {tuple(trial[key] for key in keys): trial for trial in content["trials"]}


def table(found):
    lines = [
        "| norm | rate at 128 | decay | group size | held-out accuracy, % | training loss |",
        "|---|---|---|---|---|---|",
    ]
    for trial in found:
        loss = "" if trial["train_loss"] is None else f"{trial['train_loss']:.3f}"
        cells = [
            trial["norm"],
            f"{trial['learning_rate']:g}",
            f"{trial['weight_decay']:g}",
            trial["group_size"] or "",
        ]
        lines.append("| " + " | ".join(map(str, [*cells, f"{100 * trial['accuracy']:.2f}", loss])) + " |")
    return "\n".join(lines)


def standard_errors(found):
    """Of the held-out accuracies, in percentage points; in words."""
    errors = [100 * math.sqrt(t["accuracy"] * (1 - t["accuracy"]) / HELD_OUT) for t in found]
    ends = dict.fromkeys(f"{error:.1f}" for error in (min(errors), max(errors)))
    return " to ".join(ends)


def document(options, found):
    norms = dict.fromkeys(trial["norm"] for trial in found)
    best = [max((t for t in found if t["norm"] == norm), key=lambda t: t["accuracy"]) for norm in norms]
    side = f"{options.image_size} x {options.image_size}"
    fewest, trials = min(sum(trial["norm"] == norm for trial in found) for norm in norms), trials_of(options)
    so_far = "" if fewest == trials else f"So far each has had {fewest} or more. "
    origin = ORIGIN if options.finalists else ""
    return (
        f"# Tuning of {options.model}: {trials} trials for each norm\n\n{so_far}{options.epochs} epochs on 90 % of the "
        f"training images at {side} pixels, judged by the other 10 %; seed {options.seed}, global batch 128, "
        f"torch {torch.__version__}. Of {HELD_OUT:,} images an accuracy has a standard error of "
        f"{standard_errors(found)} points: settings that are no further apart are not told apart.{origin}\n\n"
        f"    {command_of(sys.argv[1:])}\n\n"
        f"## Best of each\n\n{table(best)}\n\n## All trials\n\n{table(found)}\n"
    )


def command_of(arguments):
    """The call as another person would make it: folders of this machine by what they hold."""
    words = list(arguments)
    for flag, word in (("--data", "FOLDER"), ("--runs", "RUNS"), ("--out", "tuning.md")):
        if flag in words[:-1]:
            words[words.index(flag) + 1] = word
    return " ".join(["python scripts/cifar10_tuning.py", *words])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", choices=list(RECIPES), default=DEFAULT)
    parser.add_argument("--norms", default="batch,group+pn,layer+pn,group,layer")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--trials", type=int, help=f"of each norm, the first of {TRIALS} (finalists: 2); default: all"
    )
    parser.add_argument(
        "--finalists", action="store_true", help="the best of the search, to be trained in full"
    )
    parser.add_argument("--runs", default="runs/cifar10_tuning")
    parser.add_argument(
        "--out", help="write the tables to this Markdown file, and the trials beside it as JSON"
    )
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    most = trials_of(options)
    trials = most if options.trials is None else options.trials
    if not 1 <= trials <= most:
        parser.error(f"--trials must be 1 to {most}, not {trials}")
    if options.finalists and options.model != DEFAULT:
        parser.error(f"--finalists are those of {DEFAULT}, not of {options.model}")
    norms = options.norms.split(",")
    unknown = [norm for norm in norms if norm not in RECIPES[options.model]]
    if unknown:
        parser.error(
            f"no recipe for {', '.join(unknown)}; there is one for {', '.join(RECIPES[options.model])}"
        )
    known = recorded(options)
    found = {norm: [] for norm in norms}
    for _ in range(trials):  # every norm has its n-th trial before any has the next
        for norm in norms:
            trial = next_trial(norm, found[norm], options)
            found[norm].append(known.pop((norm, *trial), None) or run_trial(options, norm, *trial))
            everything = [trial for trials in found.values() for trial in trials] + list(known.values())
            if options.out:
                Path(options.out).write_text(document(options, everything), encoding="utf-8")
                text = json.dumps({"protocol": protocol(options), "trials": everything}, indent=1) + "\n"
                Path(options.out).with_suffix(".json").write_text(text, encoding="utf-8")
    print(document(options, everything))


if __name__ == "__main__":
    main()

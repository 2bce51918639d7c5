"""Random runs that are stopped somewhere, taken up again, and compared bit for bit with runs that never stopped.

    python scripts/resume_cases.py --cases 300 --seed 0 [--hard] [--only 17] [--keep FOLDER]

Each case draws a recipe (norm, optimizer, schedule, loss scaling, batch, precision, mixing, averaging, ...) and one to
three ends: a signal to the process or to its whole group, or kill -9, at an event of the run (a training call, the
validation, a flush or a rename while a checkpoint is written, a line of metrics). The process really gets that
signal: each run is a fork of this process. After the last end the run is taken up once more and goes to its end. The
files of the last checkpoint and ``metrics.jsonl``, without its images per second, must then be those of a run of the
same recipe that was never stopped. With ``--hard`` each case has several of the features that state is easily lost of
(device iterations, mixing, statistics of Proxy Norm per update, updates on the host, averages, overflows that are
skipped or rolled back, periods of automatic loss scaling), and three ends in a row, most of them in a validation or
while a checkpoint is written.
Prints one line a case that differs, and a summary; exit status 1 if any does.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from forked_runs import RECIPE, final, in_a_fork, litter, same, warm_up

from ipu_train import config
from ipu_train.training import divergence

NORMS = [
    ["model.norm=group", "model.norm_groups=4"],
    ["model.norm=group", "model.norm_groups=4", "model.proxy_norm=true"],
    ["model.norm=layer", "model.norm_groups=null"],
    ["model.norm=layer", "model.norm_groups=null", "model.proxy_norm=true"],
    ["model.norm=batch", "model.norm_groups=null"],
    ["model.norm=sync_batch", "model.norm_groups=null"],
    ["model.norm=instance", "model.norm_groups=null"],
]
OPTIMIZERS = {
    "sgd": [[], ["optimizer.momentum=0.9"], ["optimizer.momentum=0.9", "optimizer.nesterov=true"],
            ["optimizer.momentum=0.9", "optimizer.use_combined_accum=true"], ["optimizer.max_grad_norm=1"],
            ["optimizer.momentum=0.9", "optimizer.velocity_accum_type=float16"]],
    "adam": [[], ["optimizer.eps=1e-5"]],
    "adamw": [[], ["optimizer.first_order_momentum_accum_type=float16"]],
    "rmsprop": [[], ["optimizer.momentum=0.9"], ["optimizer.centered=true"], ["optimizer.use_tf_variant=true"]],
    "lamb": [[]],
    "lars": [[]],
}  # fmt: skip
SCHEDULES = [
    ["schedule.name=constant"],
    ["schedule.name=cosine"],
    ["schedule.name=cosine", "schedule.warmup_epochs=0.5"],
    ["schedule.name=step", "schedule.milestones=[0.3, 0.6]"],
    ["schedule.name=exponential", "schedule.decay_epochs=1"],
    ["schedule.name=exponential", "schedule.decay_epochs=0.5", "schedule.staircase=false"],
]
DIVERGED = "diverged"
ENDS = ["SIGINT", "SIGTERM", "group SIGTERM", "SIGKILL"]
HARD_EVENTS = ["validation", "flush", "flush", "rename", "call"]
EVENTS = ["call", "validation", "flush", "rename", "line"]


def draw(rng):
    """A recipe as overrides; combinations that the schema refuses are drawn again by the caller."""
    optimizer = rng.choice(list(OPTIMIZERS))
    precision = rng.choice(["32.32", "16.32", "16.16"])
    overrides = [*rng.choice(NORMS), f"optimizer.name={optimizer}", *rng.choice(OPTIMIZERS[optimizer])]
    overrides += [*rng.choice(SCHEDULES), f"training.precision={precision}"]
    if optimizer in ("adam", "adamw", "rmsprop"):
        overrides.append("optimizer.learning_rate=0.002")
    if rng.random() < 0.5:
        overrides.append(f"optimizer.weight_decay={rng.choice([0.001, 0.05])}")
    if precision != "32.32" and rng.random() < 0.6:
        overrides.append("training.stochastic_rounding=true")
    scaling = rng.choice(["none", "fixed", "stepped", "automatic"])
    if scaling == "fixed":
        overrides.append("optimizer.loss_scaling=8")
    elif scaling == "stepped":
        overrides += ["optimizer.loss_scaling=8", "optimizer.loss_scaling_epochs=[0.5, 1.25]"]
    elif scaling == "automatic":
        overrides.append("optimizer.automatic_loss_scaling=true")
    accumulation, replicas, iterations = rng.choice([1, 2, 3]), rng.choice([1, 2]), rng.choice([1, 1, 2, 3])
    overrides += [f"training.gradient_accumulation={accumulation}", f"training.replicas={replicas}"]
    overrides.append(f"training.device_iterations={iterations}")
    overrides.append(f"data.length={2 * accumulation * replicas * iterations * rng.choice([3, 4])}")
    if rng.random() < 0.3:
        overrides.append(f"data.workers={rng.choice([1, 2])}")
    if rng.random() < 0.4:
        overrides += rng.choice(
            [["averaging.name=mean"], ["averaging.name=exponential", "averaging.start_epoch=1"]]
        )
    if rng.random() < 0.3:
        overrides.append("training.mixup_alpha=0.3")
    if rng.random() < 0.3:
        overrides.append("training.cutmix_lambda=0.7")
    if rng.random() < 0.15:
        overrides = [o for o in overrides if "norm_statistics" not in o]
        overrides += [
            "model.name=efficientnet_b0",
            "model.options.width=0.1",
            "model.options.depth=0.1",
            "data.image_size=16",
        ]
    if rng.random() < 0.3 and "model.proxy_norm=true" in overrides:
        overrides.append("model.proxy_norm_statistics=per_update")
    if rng.random() < 0.2:
        overrides.append("device.fuse_micro_batches=off")
    if rng.random() < 0.2:
        overrides.append("training.on_divergence=skip")
    return overrides


def draw_hard(rng):
    """A recipe with three or more of the features in which state hides."""
    proxy = ["model.norm=group", "model.norm_groups=4", "model.proxy_norm=true"]
    features = [
        ["training.device_iterations=3", "data.length=72"],
        ["training.mixup_alpha=0.3", "training.cutmix_lambda=0.7"],
        [*proxy, "model.proxy_norm_statistics=per_update"],
        [f"optimizer.name={rng.choice(['lars', 'lamb', 'rmsprop'])}"],
        [f"averaging.name={rng.choice(['mean', 'exponential'])}"],
        ["training.precision=16.16", "training.stochastic_rounding=true"],
        [
            "training.precision=16.32", "optimizer.automatic_loss_scaling=true", "optimizer.loss_scaling=64",
            "device.session_options={automaticLossScalingSettings.updatePeriod: 3}",
        ],
        [
            "training.precision=16.16", "optimizer.loss_scaling=16777216", "optimizer.loss_scaling_epochs=[0.5]",
            "optimizer.loss_scaling_factor=9.5367431640625e-07",
            f"training.on_divergence={rng.choice(['skip', 'rollback'])}", "training.divergence_limit=50",
        ],
        [f"data.workers={rng.choice([1, 2])}", "training.replicas=2", "model.norm=sync_batch"],
        ["model.norm=batch", "training.gradient_accumulation=3"],
        ["data.augment=flip_crop", "data.random_erasing=0.5"],
        ["validation.patience=1", "validation.every_epochs=1"],
    ]  # fmt: skip
    chosen = rng.sample(features, rng.choice([3, 4, 5]))
    overrides = [*rng.choice(NORMS), *rng.choice(SCHEDULES), "data.length=36"]
    return [*overrides, *(override for feature in chosen for override in feature)]


def valid(rng, recipe, hard=False):
    """Overrides that the schema takes."""
    while True:
        overrides = draw_hard(rng) if hard else draw(rng)
        try:
            return overrides, config.load(recipe, overrides).config
        except config.ConfigError:
            continue


def case(seed, number, root, hard=False):
    """Problems of one case, empty when the runs are the same; and what was done."""
    rng = random.Random(f"{'hard ' * hard}{seed} {number}")
    recipe = root / "case.yaml"
    recipe.write_text(RECIPE)
    overrides, cfg = valid(rng, recipe, hard)
    whole, cut = root / f"{number}_whole", root / f"{number}_cut"
    status = in_a_fork(recipe, whole, overrides, False)
    done = [" ".join(overrides)]
    if status == divergence.EXIT_STATUS:
        return [], [*done, DIVERGED]
    if status != 0:
        return [f"the whole run ended with {status}"], done
    problems = []
    calls = 2 * (cfg.data.length // (cfg.global_batch_size * cfg.training.device_iterations))
    for attempt in range(3 if hard else rng.choice([1, 1, 2, 3])):
        event = rng.choice(HARD_EVENTS if hard else EVENTS)
        most = {"call": calls, "validation": 2, "flush": 30, "rename": 8, "line": calls + 2}[event]
        end = rng.choice(ENDS)
        wire = (event, rng.randint(1, most), end)
        status = in_a_fork(recipe, cut, overrides, "auto" if attempt else False, wire)
        done.append(f"{end} at {event} {wire[1]}: {status}")
        allowed = {"SIGINT": (0, 130, -2), "SIGKILL": (0, -9)}.get(end, (0, 143, -15))
        if status not in allowed:
            problems.append(f"{end} at {event} {wire[1]} ended with {status}")
    status = in_a_fork(recipe, cut, overrides, "auto")
    if status != 0:
        problems.append(f"the last part ended with {status}")
    expected, found = final(whole), final(cut)
    problems += [
        f"{key} differs"
        for key in sorted(set(expected) | set(found))
        if not same(expected.get(key), found.get(key))
    ]
    problems += [f"{name} is left over" for name in litter(cut)]
    return problems, done


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hard", action="store_true", help="recipes with many features, three ends each")
    parser.add_argument("--only", type=int, help="number of a single case")
    parser.add_argument("--keep", type=Path, help="folder in which the runs of cases that differ stay")
    options = parser.parse_args()
    warm_up()
    numbers = (
        [options.only] if options.only is not None else range(options.first, options.first + options.cases)
    )
    started, different, diverged, kind = time.monotonic(), 0, 0, "hard " * options.hard
    for count, number in enumerate(numbers, start=1):
        with tempfile.TemporaryDirectory() as folder:
            problems, done = case(options.seed, number, Path(folder), options.hard)
            diverged += DIVERGED in done
            if problems:
                different += 1
                print(f"case {number}: {'; '.join(problems[:8])}\n    " + "\n    ".join(done), flush=True)
                if options.keep is not None:
                    shutil.copytree(folder, options.keep / str(number), dirs_exist_ok=True)
        if count % 10 == 0:
            print(f"{count} cases, {different} differ, {time.monotonic() - started:.0f} s", flush=True)
    print(
        f"{len(numbers)} {kind}cases of seed {options.seed}: {different} differ, "
        f"{diverged} had nothing to compare, since the recipe diverges ({time.monotonic() - started:.0f} s)"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

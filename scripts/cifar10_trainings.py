"""CIFAR-10 trainings of one network with several norms, cell by cell: what is done is kept, what was stopped goes on.

A cell is a norm at a micro-batch size with a seed, ``batch@64`` or ``group+pn@64``; its recipe is that of the norm. All
cells of a seed are trained before those of the next. Runs are ordinary ``ipu-train`` runs under ``--runs``; the script
can be stopped at any time and started again, and interrupted runs resume exactly. After each run a small file goes to
``--results``: the settings, and loss and accuracy of each epoch. A cell that has its file there is not trained again.

    python scripts/cifar10_trainings.py --data FOLDER --image-size 16 --epochs 30 --seeds 0,1,2 \\
        --results scripts/results/cifar10_trainings

What another learning rate, decay or group size makes of a cell is a variant of it:

    ... --cells group+pn@64 --variant g16 model.norm_group_size=16

FOLDER holds train/CLASS/*.jpg and test/CLASS/*.jpg. ``scripts/what_the_norms_do.py`` makes tables and
pictures from the files. Further settings go to every run as they are, such as ``device.compute=cuda``.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from ipu_train import config
from ipu_train.training.recipe_changes import refused_changes

RECIPES = {
    "resnet20v2": {
        "batch": "cifar10_resnet20v2_bn", "group": "cifar10_resnet20v2_gn", "layer": "cifar10_resnet20v2_ln",
        "group+pn": "cifar10_resnet20v2_gn_pn", "layer+pn": "cifar10_resnet20v2_ln_pn",
    },
    "efficientnet_cifar_g16": {
        "batch": "cifar10_efficientnet_bn", "group": "cifar10_efficientnet_gn", "layer": "cifar10_efficientnet_ln",
        "group+pn": "cifar10_efficientnet_gn_pn", "layer+pn": "cifar10_efficientnet_ln_pn",
    },
}  # fmt: skip
DEFAULT = "resnet20v2"
CELLS = "batch@64,group+pn@64,layer+pn@64,group@64,layer@64,batch@2"
# The same for all norms, to take Batch Norm's regularisation by noise out of the comparison (Labatie et al. 2021).
REGULARISATION = {
    "none": [],
    "light": [
        "training.mixup_alpha=0.1",
        "training.label_smoothing=0.05",
        "model.options={stochastic_depth: 0.05}",
    ],
    "medium": [
        "training.mixup_alpha=0.2",
        "training.label_smoothing=0.1",
        "model.options={stochastic_depth: 0.1}",
    ],
    "strong": [
        "training.mixup_alpha=0.4",
        "training.label_smoothing=0.1",
        "model.options={stochastic_depth: 0.2}",
    ],
}
# Of CIFAR-10's training pixels.
MEAN, STD = "[0.4914,0.4822,0.4465]", "[0.2470,0.2435,0.2616]"


def recipe_of(options, norm):
    """The model's own recipe; other models train by that of the default model."""
    return RECIPES.get(options.model, RECIPES[DEFAULT])[norm]


def name_of(options, norm, micro_batch, seed):
    extra = "" if options.regularisation == "none" else f"_{options.regularisation}"
    extra += f"_{options.variant}" if options.variant else ""
    return f"{options.model}_{norm}_b{micro_batch}_p{options.image_size}_e{options.epochs}{extra}_s{seed}"


def settings_of(options, norm, micro_batch, seed):
    """What is changed of the norm's recipe; the global batch is the same in all cells."""
    return [
        "data.name=imagefolder", f"data.path={options.data}", f"data.image_size={options.image_size}",
        "data.augment=flip_crop", f"data.mean={MEAN}", f"data.std={STD}",
        *([] if options.model == DEFAULT else [f"model.name={options.model}"]),
        f"training.epochs={options.epochs}", "schedule.warmup_epochs=1", f"training.seed={seed}",
        f"training.micro_batch_size={micro_batch}",
        f"training.gradient_accumulation={options.global_batch_size // micro_batch}", "training.replicas=1",
        f"validation.every_epochs={options.validate_every}", "validation.micro_batch_size=250",
        "logging.every_steps=39", "logging.plots=false", f"checkpoint.every_steps={options.save_every}",
        f"checkpoint.keep={options.keep}",
        "device.allow_out_of_memory=true",  # the emulator has room for what an IPU's tiles have not
        *REGULARISATION[options.regularisation], *options.settings,
    ]  # fmt: skip


def records(folder):
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def is_done(folder, epochs):
    return any(r["split"] == "validation" and r["epoch"] == epochs for r in records(folder))


def check_same(folder, recipe, settings):
    """A run that is done counts for what is asked for only where it was made so.

    Raises:
        SystemExit: it is of other settings, which its folder's name does not tell.
    """
    other = refused_changes(folder / "config.yaml", config.load(recipe, settings))
    if other:
        sys.exit(
            f"{folder} holds a run of other settings ({'; '.join(other)}): choose another --runs, or delete it"
        )


def by_epoch(found):
    """Means of the training records of each epoch, and the validation after it."""
    epochs = {}
    for record in found:
        epochs.setdefault(record["epoch"], {"train": [], "validation": []})[record["split"]].append(record)
    result = []
    for epoch, splits in sorted(epochs.items()):
        row = {"epoch": epoch}
        for key in ("loss", "accuracy"):
            values = [record[key] for record in splits["train"]]
            if values:
                row[f"train_{key}"] = round(sum(values) / len(values), 5)
            if splits["validation"]:
                row[f"validation_{key}"] = round(splits["validation"][-1][key], 5)
        result.append(row)
    return result


def powers_of(folder):
    """The four power terms of each norm, means of an epoch, where the run recorded them (logging.inspect_every)."""
    from ipu_train.tracking.powers import POWERS_FILE, TERMS

    path = folder / POWERS_FILE
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        {
            "epoch": line["epoch"],
            "layers": {
                layer["name"]: [float(f"{layer[term]:.4g}") for term in TERMS] for layer in line["layers"]
            },
        }
        for line in lines
    ]


def write_result(options, name, norm, micro_batch, seed, folder):
    settings = [s for s in settings_of(options, norm, micro_batch, seed) if not s.startswith("data.path=")]
    epochs = by_epoch(records(folder))
    content = {
        "norm": norm, "micro_batch_size": micro_batch, "seed": seed, "epochs": options.epochs,
        "image_size": options.image_size, "regularisation": options.regularisation,
        "accuracy": epochs[-1]["validation_accuracy"], "recipe": recipe_of(options, norm), "settings": settings,
        "torch": torch.__version__, "python": platform.python_version(), "by_epoch": epochs,
    }  # fmt: skip
    if options.variant:
        content["variant"] = options.variant
    powers = powers_of(folder)
    if powers:
        content["powers"] = powers
    text = json.dumps(content)
    text = text.replace('"by_epoch": [', '"by_epoch": [\n  ').replace('}, {"epoch"', '},\n  {"epoch"')
    text = text.replace('"powers": [', '"powers": [\n  ')
    path = Path(options.results) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {100 * content['accuracy']:.2f} %", flush=True)


def train(options, norm, micro_batch, seed):
    """Train a cell to its end and write its result, unless that is there already."""
    name = name_of(options, norm, micro_batch, seed)
    if (Path(options.results) / f"{name}.json").exists():
        print(f"{name}: has been trained", flush=True)
        return
    folder = Path(options.runs).expanduser() / name
    recipe, settings = recipe_of(options, norm), settings_of(options, norm, micro_batch, seed)
    if is_done(folder, options.epochs):
        check_same(folder, recipe, settings)
    else:
        call = [sys.executable, "-m", "ipu_train", "--config", recipe, *settings, f"run_dir={folder}"]
        resumable = any((folder / "checkpoints").glob("step_*"))
        if folder.exists() and not resumable:  # stopped before its first checkpoint
            shutil.rmtree(folder)
        print(f"{time.strftime('%H:%M:%S')} {name}{' (goes on)' if resumable else ''}", flush=True)
        subprocess.run(call + (["--resume"] if resumable else []), check=True)
    write_result(options, name, norm, micro_batch, seed, folder)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--cells", default=CELLS, help=f"norm@micro-batch, in order; {CELLS}")
    parser.add_argument(
        "--model", default=DEFAULT, help=f"{', '.join(RECIPES)}; others train by the recipes of {DEFAULT}"
    )
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--regularisation", choices=list(REGULARISATION), default="none")
    parser.add_argument("--global-batch-size", type=int, default=128)
    parser.add_argument("--validate-every", type=int, default=1, help="epochs between two validations")
    parser.add_argument("--save-every", type=int, default=195, help="weight updates between two checkpoints")
    parser.add_argument("--keep", type=int, default=3, help="newest checkpoints kept of each run")
    parser.add_argument(
        "--variant", help="a word for further settings that change the recipe; such runs are listed apart"
    )
    parser.add_argument("--runs", default="runs/cifar10_trainings")
    parser.add_argument("--results", default="scripts/results/cifar10_trainings")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    options.cells = [
        (norm, int(size)) for norm, _, size in (c.partition("@") for c in options.cells.split(","))
    ]
    for norm, size in options.cells:
        if norm not in RECIPES[DEFAULT]:
            parser.error(f"no recipe for {norm}; there is one for {', '.join(RECIPES[DEFAULT])}")
        if options.global_batch_size % size:
            parser.error(f"micro-batches of {size} do not divide {options.global_batch_size}")
    return options


def main():
    options = parse()
    for seed in options.seeds:
        for norm, micro_batch in options.cells:
            train(options, norm, micro_batch, seed)


if __name__ == "__main__":
    main()

"""The README's section "What the norms do", from recorded trainings: table, sentences and picture, by one command.

    python scripts/what_the_norms_do.py            # scripts/results/cifar10_trainings/*.json
    python scripts/what_the_norms_do.py --check    # whether README and picture's table are those of the recorded runs
    python scripts/what_the_norms_do.py --runs runs/imagenet/* --picture imagenet.png   # run folders of ipu-train

The recorded runs are those of ``scripts/cifar10_trainings.py``. Trainings are compared only where model, image size,
epochs and regularisation agree; the README shows the longest ones that every norm has, Batch Norm at two sizes. With
``--runs`` the same table and picture are made of run folders, for example those of the recipes resnet50v2_bn,
resnet50v2_gn, resnet50v2_gn_pn and resnet50v2_ln_pn, and nothing of the repository changes.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from recorded_trainings import (
    NAMES,
    accuracy,
    cells_in_order,
    groups_of,
    last_loss,
    recorded_runs,
    table_of_variants,
    variants_of,
)

REPOSITORY = Path(__file__).resolve().parent.parent
RECORDED = REPOSITORY / "scripts" / "results" / "cifar10_trainings"
DOCUMENT = REPOSITORY / "scripts" / "results" / "cifar10_trainings.md"
PICTURE = REPOSITORY / "scripts" / "results" / "what_the_norms_do.png"
README = REPOSITORY / "README.md"
BEGIN, END = "<!-- norms: written by scripts/what_the_norms_do.py -->", "<!-- end of norms -->"
PREFACE = """\
# CIFAR-10 trainings of ResNet-20 v2 and the CIFAR EfficientNet

What `scripts/cifar10_trainings.py` recorded in `cifar10_trainings/`, one file for each run with its settings, versions,
and loss and accuracy of each epoch. All 50,000 training images, global batch 128, Nesterov's momentum, weight decay
5e-4 on weights and proxy parameters only, one epoch of warm-up, cosine to 0; learning rates 0.4 (Batch Norm) and 0.2
(Group Norm with 16 channels a group, Layer Norm), the same with and without Proxy Norm. They were chosen on held-out
training images, with as many trials for each norm: [eight of four epochs](cifar10_tuning.md), and for Batch and Group
Norm so far [two of thirty epochs](cifar10_finalists.md); Batch Norm's two are 0.1 points apart, so that it keeps its
rate. Group Norm's settings had been seen to do well on the test images before the held-out ones confirmed them; on the
latter Batch Norm is 1.5 points ahead of Group Norm + Proxy Norm (one seed). The CIFAR EfficientNet has 0.1 for every
norm ([what other rates do](cifar10_tuning_efficientnet.md)). Accuracy over the 10,000 test images after the last epoch:
mean ± standard deviation (number of seeds). One CPU thread; the emulator.

    python scripts/cifar10_trainings.py --data FOLDER --image-size SIDE --epochs EPOCHS --seeds 0,1,2
    python scripts/what_the_norms_do.py
"""
POWERS = """\
What power the outputs of the norms have, before their affine step, in the first and the last epoch that was inspected:
means over all norms of the network (`logging.inspect_every`; `ipu-train inspect` explains the terms). The squared mean
of means is what Proxy Norm is to keep small: channels that say the same of every image.

![the four terms over depth]({picture})
"""
VARIANTS = """\
Settings other than the recipes' (4 channels a group at 0.3 were the recipes' before the trials of thirty epochs):
"""
COLOURS = {
    "batch": "#E69F00",
    "group+pn": "#0072B2",
    "layer+pn": "#009E73",
    "group": "#56B4E9",
    "layer": "#CC79A7",
}


def run_of_folder(folder):
    """A run folder in the form of a recorded run; None while it is not finished."""
    from cifar10_trainings import by_epoch

    from ipu_train import config

    read = config.load(folder / "config.yaml").config
    metrics = folder / "metrics.jsonl"
    epochs = by_epoch([json.loads(line) for line in metrics.read_text("utf-8").splitlines()])
    if not epochs or epochs[-1]["epoch"] != read.training.epochs or "validation_accuracy" not in epochs[-1]:
        print(f"{folder}: not finished, left out", file=sys.stderr)
        return None
    training = read.training
    mixed = training.mixup_alpha or training.cutmix_lambda < 1 or training.label_smoothing
    extra = f"mixup {training.mixup_alpha:g}, CutMix {training.cutmix_lambda:g}, smoothing {training.label_smoothing:g}"
    return {
        "norm": read.model.norm + ("+pn" if read.model.proxy_norm else ""), "model": read.model.name,
        "micro_batch_size": training.micro_batch_size, "seed": training.seed, "epochs": training.epochs,
        "image_size": read.data.image_size, "regularisation": extra if mixed else "none",
        "accuracy": epochs[-1]["validation_accuracy"], "by_epoch": epochs,
    }  # fmt: skip


def mean(cells, norm, size):
    runs = cells.get((norm, size), [])
    return statistics.mean(100 * run["accuracy"] for run in runs) if runs else None


def table(cells):
    lines = [
        "| norm | micro-batch | validation accuracy, % (seeds) | training loss, last epoch |",
        "|---|---|---|---|",
    ]
    for norm, size in cells_in_order(cells):
        runs = cells[norm, size]
        lines.append(f"| {NAMES.get(norm, norm)} | {size} | {accuracy(runs)} | {last_loss(runs)} |")
    return "\n".join(lines)


def sentences(cells):
    """What is to be seen, in numbers that the table has."""
    said = []
    large = max(size for norm, size in cells if norm == "batch")
    top, small = mean(cells, "batch", large), min(size for norm, size in cells if norm == "batch")
    if small < large:
        fall = top - mean(cells, "batch", small)
        said.append(
            f"Batch Norm {'loses' if fall > 0 else 'gains'} {abs(fall):.1f} points when the micro-batch shrinks from "
            f"{large} to {small} images; the others compute the same at every micro-batch size."
        )
    for plain in ("group", "layer"):
        without, with_pn = mean(cells, plain, large), mean(cells, plain + "+pn", large)
        if without is None or with_pn is None:
            continue
        line = f"Proxy Norm adds {with_pn - without:.1f} points to {NAMES[plain]}"
        if top > without:
            line += f", {100 * (with_pn - without) / (top - without):.0f} % of its distance to Batch Norm at {large}"
        said.append(line + ".")
    said.append(distance(cells, large, small))
    return " ".join(said)


def distance(cells, large, small):
    """Where the better of the two norms with Proxy Norm is, seen from Batch Norm; empty where there is neither."""
    found = [(mean(cells, norm, large), norm) for norm in ("group+pn", "layer+pn") if (norm, large) in cells]
    if not found or ("batch", large) not in cells:
        return ""
    best, norm = max(found)

    def from_batch_norm(size):
        behind = mean(cells, "batch", size) - best
        if abs(behind) < 0.05:
            return "level with"
        return f"{abs(behind):.1f} points {'behind' if behind > 0 else 'ahead of'}"

    further = f" and {from_batch_norm(small)} it at {small}" if small < large else ""
    which = f"The better of the two, {NAMES[norm]}," if len(found) > 1 else NAMES[norm]
    return f"{which} is {from_batch_norm(large)} Batch Norm at {large}{further}."


def protocol(key, cells):
    model, side, epochs, extra = key
    seeds = sorted({len(runs) for runs in cells.values()})
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    regularised = "no extra regularisation" if extra == "none" else f"regularisation {extra}"
    return f"{model}, {side} x {side} pixels, {epochs} epochs, {regularised}, {many} seed{'' if many == '1' else 's'}"


def is_whole(cells):
    """Whether every norm is there, and Batch Norm with a small micro-batch, too."""
    norms = [norm for norm, _ in cells]
    return set(norms) >= {"batch", "group", "layer", "group+pn", "layer+pn"} and norms.count("batch") > 1


def draw(path, key, cells):
    """Accuracy of each run by norm, and the training loss over epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    ordered = cells_in_order(cells)
    for place, (norm, size) in enumerate(ordered):
        runs = cells[norm, size]
        values = [100 * run["accuracy"] for run in runs]
        colour = COLOURS.get(norm, "#555555")
        mean = statistics.mean(values)
        # no bars: they would have to begin at zero, and what the norms differ by is a twentieth of them
        fill = "full" if size == ordered[0][1] else "none"
        left.plot(mean, place, "D", color=colour, markersize=11, fillstyle=fill)
        left.annotate(
            f"{mean:.1f}", (mean, place), (0, 9), textcoords="offset points", ha="center", fontsize=8
        )
        left.plot(values, [place] * len(values), "o", color="#222222", markersize=3)
        right.plot(
            [row["epoch"] for row in runs[0]["by_epoch"]],
            [
                statistics.mean(rows)
                for rows in zip(*([row["train_loss"] for row in run["by_epoch"]] for run in runs))
            ],
            color=colour,
            linestyle="-" if size == ordered[0][1] else "--",
            marker="o",
            markersize=3,
            label=f"{norm} at {size}",
        )
    left.set_yticks(range(len(ordered)), [f"{norm} at {size}" for norm, size in ordered])
    left.margins(0.08, 0.12)
    left.invert_yaxis()
    left.set_xlabel("validation accuracy, %: mean, and a dot for each seed")
    right.set_xlabel("epoch")
    right.set_ylabel("training loss, mean of the epoch")
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color="#e3e3e3", linewidth=0.7)
        axes.set_axisbelow(True)
    figure.suptitle(protocol(key, cells), fontsize=10)
    figure.savefig(path, dpi=130)


def powers_by_norm(cells, variants):
    """(norm, settings other than its recipe's) -> the recorded epochs of one training, with the largest micro-batch."""
    everything = [((norm, ""), cells[norm, size]) for norm, size in cells_in_order(cells)]
    everything += [((norm, changed), runs) for (norm, _, changed), runs in variants.items()]
    found = {}
    for which, runs in everything:
        recorded = [run["powers"] for run in runs if run.get("powers")]
        if recorded:
            found.setdefault(which, recorded[0])
    return found


def mean_terms(epoch):
    """The four terms of an epoch, averaged over layers."""
    return [statistics.mean(terms) for terms in zip(*epoch["layers"].values())]


def table_of_powers(powers):
    lines = [
        "| norm | epoch | squared mean of means | variance of means | squared mean of stds | variance of stds |",
        "|---|---|---|---|---|---|",
    ]
    for (norm, changed), epochs in powers.items():
        which = NAMES.get(norm, norm) + (f" with {changed}" if changed else "")
        for epoch in (epochs[0], epochs[-1]):
            terms = " | ".join(f"{term:.3f}" for term in mean_terms(epoch))
            lines.append(f"| {which} | {epoch['epoch']} | {terms} |")
    return "\n".join(lines)


def draw_powers(path, key, powers):
    """The four terms over depth, as means over the epochs of a training of each norm."""
    from ipu_train.tracking import powers_picture
    from ipu_train.tracking.powers import Layer

    layers = []
    for (norm, changed), epochs in powers.items():
        settings = [setting.strip("`").partition(".")[2] for setting in changed.split(", ") if changed]
        line = "\n".join([norm, *settings])
        for depth, name in enumerate(epochs[0]["layers"], start=1):
            terms = zip(*(epoch["layers"][name] for epoch in epochs))
            layers.append(Layer(line, depth, name, *map(statistics.mean, terms)))
    model, side, epochs, _ = key
    title = f"{model}, {side} x {side} pixels: power of the norms' outputs during {epochs} epochs"
    powers_picture.draw_powers(str(path), layers, title)


def powers_picture_of(key):
    """Beside the document: one picture for each protocol."""
    model, side, epochs, extra = key
    return DOCUMENT.with_name(f"powers_{model}_p{side}_e{epochs}{'' if extra == 'none' else '_' + extra}.png")


def difference(key, other):
    """What trainings differ in from those of ``key``, where that is one thing: network, more epochs, regularisation."""
    said = [
        f"With {other[0]} in place of {key[0]}",
        f"After {other[2]} epochs",
        f"With {other[3]} regularisation, the same for all",
    ]
    differing = [text for text, place in zip(said, (0, 2, 3)) if other[place] != key[place]]
    return differing[0] if len(differing) == 1 and other[1] == key[1] and other[2] >= key[2] else None


def others(key, groups):
    """A paragraph on each protocol that differs in one thing, which not every norm has had; empty where none does."""
    paragraphs = []
    for other, cells in groups.items():
        what = difference(key, other)
        if what and len(cells) > 1:
            order = cells_in_order(cells)
            found = [f"{NAMES.get(n, n)} at {size}: {accuracy(cells[n, size])}" for n, size in order]
            said = [f"{what}, % (seeds): {'; '.join(found)}."]
            sizes = [size for norm, size in cells if norm == "batch"]
            said += filter(None, [distance(cells, max(sizes), min(sizes))] if sizes else [])
            paragraphs.append(" ".join(said))
    return "\n\n".join(paragraphs)


def said_of_variants(variants):
    """One sentence on what was tried in full beside the recipes; empty where nothing was."""
    found = [
        f"{NAMES.get(norm, norm)} at {size} with {changed}: {accuracy(runs)}"
        for (norm, size, changed), runs in variants.items()
    ]
    return f"With settings other than the recipes', % (seeds): {'; '.join(found)}." if found else ""


def document(runs):
    parts, groups = [PREFACE], groups_of(runs)
    for key, cells in groups.items():
        parts += [f"## {protocol(key, cells)[0].upper()}{protocol(key, cells)[1:]}\n", table(cells), ""]
        if is_whole(cells):
            parts += [sentences(cells), ""]
        variants = variants_of(key, runs)
        if variants:
            parts += [VARIANTS, table_of_variants(variants), ""]
        powers = powers_by_norm(cells, variants)
        if powers:
            parts += [POWERS.format(picture=powers_picture_of(key).name), table_of_powers(powers), ""]
    return "\n".join(parts)


def section(key, groups, runs):
    cells = groups[key]
    more = [text for text in (said_of_variants(variants_of(key, runs)), others(key, groups)) if text]
    return "\n".join(
        [
            BEGIN,
            f"CIFAR-10, {protocol(key, cells)}, one global batch of 128 images, each norm at its own learning rate",
            "([all runs and the commands](scripts/results/cifar10_trainings.md)):",
            "",
            table(cells),
            "",
            sentences(cells),
            "",
            *(line for text in more for line in (text, "")),
            "![accuracy and loss by norm](scripts/results/what_the_norms_do.png)",
            END,
        ]
    )


def rewritten(readme, text):
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"README.md has no section between {BEGIN} and {END}")
    return before + text + after


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 where something is out of date"
    )
    parser.add_argument(
        "--runs", nargs="+", type=Path, help="run folders of ipu-train in place of recorded runs"
    )
    parser.add_argument("--picture", type=Path, help="with --runs: where the picture goes")
    options = parser.parse_args()
    if options.runs:
        runs = [run for run in map(run_of_folder, options.runs) if run is not None]
        for key, cells in groups_of(runs).items():
            print(f"{protocol(key, cells)}\n\n{table(cells)}\n")
            if options.picture:  # one for each protocol
                several = len(groups_of(runs)) > 1
                suffix = "_" + "_".join(str(part) for part in key[:3]) if several else ""
                draw(
                    options.picture.with_name(options.picture.stem + suffix + options.picture.suffix),
                    key,
                    cells,
                )
        return
    recorded = recorded_runs(RECORDED)
    groups = groups_of(recorded)
    whole = [key for key, cells in groups.items() if is_whole(cells)]
    if not whole:
        raise SystemExit(f"{RECORDED} has no trainings of all norms under one protocol yet")
    key = whole[-1]
    texts = {
        DOCUMENT: document(recorded),
        README: rewritten(README.read_text("utf-8"), section(key, groups, recorded)),
    }
    if options.check:
        stale = [
            path.name for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text
        ]
        if stale:
            raise SystemExit(f"out of date: {', '.join(stale)}; run: python scripts/what_the_norms_do.py")
        return
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    draw(PICTURE, key, groups[key])
    for other, cells in groups.items():
        powers = powers_by_norm(cells, variants_of(other, recorded))
        if powers:
            draw_powers(powers_picture_of(other), other, powers)
    print(f"{protocol(key, groups[key])}\n\n{table(groups[key])}\n\n{sentences(groups[key])}")


if __name__ == "__main__":
    main()

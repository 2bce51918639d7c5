"""Recorded trainings of norms, as ``scripts/cifar10_trainings.py`` writes them: read, grouped and in words."""

import json
import statistics

ORDER = ["batch", "group+pn", "layer+pn", "group", "layer", "instance"]
NAMES = {
    "batch": "Batch Norm", "group": "Group Norm", "layer": "Layer Norm", "instance": "Instance Norm",
    "group+pn": "Group Norm + Proxy Norm", "layer+pn": "Layer Norm + Proxy Norm",
}  # fmt: skip
CHANGED = ("optimizer.", "model.norm")  # how the settings begin that make a variant of a recipe


def recorded_runs(folder):
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return [{**run, "model": model_of(run)} for run in runs]


def model_of(run):
    """The recipe's model, or the one that a setting names in its place."""
    named = [setting.partition("=")[2] for setting in run["settings"] if setting.startswith("model.name=")]
    return named[-1] if named else run["recipe"].split("_")[1]


def protocol_of(run):
    """(model, image size, epochs, regularisation): trainings are compared where these agree."""
    return run["model"], run["image_size"] or 0, run["epochs"], run["regularisation"]


def groups_of(runs):
    """Protocol -> (norm, micro-batch) -> runs by the norms' recipes, the longest trainings last."""
    groups = {}
    for run in runs:
        if not run.get("variant"):
            cells = groups.setdefault(protocol_of(run), {})
            cells.setdefault((run["norm"], run["micro_batch_size"]), []).append(run)
    return dict(sorted(groups.items(), key=lambda item: (item[0][2], item[0][1])))


def cells_in_order(cells):
    place = {norm: number for number, norm in enumerate(ORDER)}
    return sorted(cells, key=lambda cell: (place.get(cell[0], 99), -cell[1]))


def accuracy(runs):
    """``91.2 ± 0.3 (3)``: mean, sample standard deviation and number of seeds, in percent."""
    values = [100 * run["accuracy"] for run in runs]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread} ({len(values)})"


def last_loss(runs):
    """Training loss of the last epoch, a mean over seeds."""
    return f"{statistics.mean(run['by_epoch'][-1]['train_loss'] for run in runs):.3f}"


def variants_of(key, runs):
    """(norm, micro-batch, settings other than the recipe's) -> runs of a protocol, the norms in their order."""
    found = {}
    for run in runs:
        if run.get("variant") and protocol_of(run) == key:
            changed = ", ".join(f"`{setting}`" for setting in run["settings"] if setting.startswith(CHANGED))
            found.setdefault((run["norm"], run["micro_batch_size"], changed), []).append(run)
    return {cell: found[cell] for cell in cells_in_order(sorted(found))}


def table_of_variants(variants):
    lines = [
        "| norm | micro-batch | setting | validation accuracy, % (seeds) | training loss, last epoch |",
        "|---|---|---|---|---|",
    ]
    for (norm, size, changed), runs in variants.items():
        lines.append(
            f"| {NAMES.get(norm, norm)} | {size} | {changed} | {accuracy(runs)} | {last_loss(runs)} |"
        )
    return "\n".join(lines)

"""Export every model family with every norm and compare logits: ONNX Runtime, torch.export, TorchScript, torchvision.

python scripts/exported_models.py [--families resnet8,resnet50,...] [--formats onnx,...] [--out FILE.md]

Weights are random and away from their initial values, images are random; differences are the largest over batches of 1
and of 7, in float32. The status is 1 where one is above 1e-4 (of the largest logit where that is above 1) and above
twice what float32 itself costs: the network's own difference from float64, which such rows tell besides. Norms over the
2 x 2 pixels that 64 x 64 leave can enlarge rounding a thousand times (the two such rows that were found, ONNX of
resnet50v2 with instance+pn and of efficientnet_b0 with frn, differ by 2.8e-5 and 4.5e-5 at 128 x 128). All of it takes
more than an hour, so that a call goes on where the last one ended: rows that FILE.md has already stay.
"""

import argparse
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import torch

from ipu_train import models
from ipu_train.export import formats
from ipu_train.export.compare import agrees, largest_difference, own_rounding
from ipu_train.export.libraries import same_network
from ipu_train.models import folded

# family: (side in pixels, options that keep it small without leaving out a kind of layer)
FAMILIES = {
    "resnet20": (32, {}),
    "resnet20v2": (32, {}),
    "resnext29_32x4d": (32, {"width": 0.5}),
    "efficientnet_cifar": (32, {"depth": 0.5}),
    "efficientnet_cifar_g16": (32, {"depth": 0.5}),
    "resnet18": (64, {}),
    "resnet50": (64, {}),
    "resnet50v2": (64, {}),
    "resnext50_32x4d": (64, {}),
    "efficientnet_b0": (64, {}),
    "efficientnet_b0_g16": (64, {}),
}
NORMS = ["batch", "sync_batch", "layer", "layer+pn", "group", "group+pn", "instance", "instance+pn", "none"]
NORMS += ["evonorm_s0", "evonorm_b0", "frn"]
LIBRARIES = ["torch", "onnx", "onnxscript", "onnxruntime", "torchvision", "timm"]


def network(name, norm, options):
    torch.manual_seed(0)
    kind, _, proxy = norm.partition("+")
    built = models.build(name, 10, norm=kind, proxy_norm=proxy == "pn", **options)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.rand_like(parameter) - 0.1)
        for key, buffer in built.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return built.eval()


def recorded(path):
    """The rows of an earlier call, by model and norm."""
    if path is None or not path.exists():
        return {}
    rows = [
        line for line in path.read_text().splitlines() if line.startswith("| ") and "| norm |" not in line
    ]
    return {tuple(cell.strip() for cell in row.split("|")[1:3]): row for row in rows}


def write(path, rows, wanted):
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    head = [
        "# Exported models\n",
        f"`python scripts/exported_models.py --out {path}`, seed 0, on a CPU: largest difference of logits to the",
        f"network's own, batches of 1 and 7, float32 ({versions}).",
        "Where one is above 1e-4, what float32 itself costs the network, against float64, stands beside it.",
        f"{len(rows)} of {len(FAMILIES) * len(NORMS)} pairs of model and norm; the same command computes the others.\n",
        "| model | norm | largest logit | " + " | ".join([*wanted, "torchvision or timm"]) + " |",
        "|---|---|---|" + "---|" * (len(wanted) + 1),
    ]
    order = [(name, norm) for name in FAMILIES for norm in NORMS if (name, norm) in rows]
    path.write_text("\n".join([*head, *(rows[key] for key in order)]) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--norms", default=",".join(NORMS))
    parser.add_argument("--formats", default=",".join(formats.FORMATS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    wanted = options.formats.split(",")
    rows = recorded(options.out)
    bad = 0
    for name in options.families.split(","):
        side, more = FAMILIES[name]
        for norm in options.norms.split(","):
            if (name, norm) in rows:
                continue
            built, shape, cells, largest = network(name, norm, more), (3, side, side), [], 0.0
            for form in wanted:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "file"
                    formats.write(form, folded(built), shape, path, None)
                    difference, largest = largest_difference(built, formats.read(form, path), shape)
                cells.append(f"{difference:.1e}")
                if not agrees(difference, largest):
                    own = own_rounding(built, shape)
                    bad += difference > 2 * own  # two roundings
                    cells[-1] += f" (float32 itself: {own:.1e})"
            theirs, _ = same_network(name, built, shape)
            cells.append("-" if theirs is None else f"{theirs.difference:.1e} ({theirs.library})")
            rows[name, norm] = f"| {name} | {norm} | {largest:.3g} | " + " | ".join(cells) + " |"
            print(rows[name, norm], flush=True)
            if options.out is not None:
                write(options.out, rows, wanted)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

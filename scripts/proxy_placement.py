"""How far Proxy Norm reaches in fresh CIFAR ResNets: the largest and the mean squared mean of instance means (P1).

v1 as it is (the ReLU after each addition without Proxy Norm), v1 with ``proxy_after_addition``, and v2. P1 near 1 means
that channels are nearly constants; noise images, which make it no smaller than real ones do.

    python scripts/proxy_placement.py --seeds 3 --out scripts/results/proxy_placement.md
"""

import argparse
import platform
import statistics
from pathlib import Path

import torch

from ipu_train import models
from ipu_train.models.power import site_powers

PREFACE = """\
# Where Proxy Norm stands in a ResNet

Squared mean of instance means (P1) at the norms of fresh networks with Proxy Norm: the largest, and the mean ± standard
deviation over {seeds} seeds. 32 noise images of 16 x 16 pixels. In v1 the ReLU after each addition follows no norm, so
that the residual stream is not normalised; `model.options.proxy_after_addition=true` puts Proxy Norm there, with the
proxy of a sum of unit power. These are fresh networks: whether trainings gain by it is not measured here.

    python scripts/proxy_placement.py --seeds 3 --out scripts/results/proxy_placement.md

torch {torch}, Python {python}
"""
FORMS = {"v1": {}, "v1, after additions too": {"proxy_after_addition": True}, "v2": None}


def measured(depth, norm, options, seeds):
    """(largest, mean) P1 over the norms of a network, of each seed."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = models.build(
            f"resnet{depth}{'v2' if options is None else ''}", 10, norm=norm, **(options or {})
        )
        powers = site_powers(network, torch.randn(32, 3, 16, 16))
        found.append([terms.squared_mean_of_means.item() for terms in powers.values()])
    return [(max(values), statistics.mean(values)) for values in found]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out")
    options = parser.parse_args()
    lines = [
        PREFACE.format(seeds=options.seeds, torch=torch.__version__, python=platform.python_version()),
        "| network | norm | Proxy Norm in | largest P1 | mean P1 |",
        "|---|---|---|---|---|",
    ]
    for depth in (20, 56):
        for norm in ("group", "layer"):
            for form, changes in FORMS.items():
                found = measured(depth, norm, changes, options.seeds)
                largest = statistics.mean(value for value, _ in found)
                means = [value for _, value in found]
                spread = f" ± {statistics.stdev(means):.3f}" if len(means) > 1 else ""
                lines.append(
                    f"| ResNet-{depth} | {norm} | {form} | {largest:.3f} | {statistics.mean(means):.3f}{spread} |"
                )
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        Path(options.out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

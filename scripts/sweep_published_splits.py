"""The splits that ``pipeline_splits: auto`` finds beside published hand-made ones, both planned in full.

    python scripts/sweep_published_splits.py [--markdown PATH]

Each row is one published configuration: network, micro-batch, precision, chip and the modules at which the next IPU
begins, as stated in Graphcore's public repositories (the last column). Names are translated to this project's by
``ipumodel.published.names.translate``. The configurations run with what else they state; replicas do not change
the comparison.
"""

import argparse
import sys
from pathlib import Path

import torch

from ipu_train.config import load_text
from ipu_train.ipumodel.published.names import translate
from ipu_train.planning.partition import equal_count
from ipu_train.planning.settle import splitter_of
from ipu_train.planning.traces import Traces
from ipu_train.tracking import table

_EXAMPLES = "graphcore/examples applications/pytorch/cnns/train/configs.yml"
_TENSORFLOW = "graphcore/examples applications/tensorflow/cnns/training"
_RESEARCH = "graphcore-research Making_EfficientNet_More_Efficient/configs.yml"
# The row with accumulation 16 states 1, with which no pipeline fills; 16 stands in for it.
# model, norm, precision, micro-batch, accumulation, available memory proportion, half partials, chip, splits, source
PUBLISHED = [
    ("resnet50", "group", "16.16", 4, 64, 0.6, False, "mk1", "layer1/2 layer2/3 layer3/4", f"{_EXAMPLES}@df5dcba"),
    ("resnet50", "batch", "16.32", 16, 256, 0.6, False, "mk2", "layer1/2 layer2/3 layer3/4", f"{_EXAMPLES}@d180551"),
    ("resnet50", "group", "16.16", 4, 64, 0.6, True, "mk1", "b1/2/relu b2/3/relu b3/5/relu",
     f"{_TENSORFLOW}/configs.yml@d180551"),
    ("resnet50", "group", "16.16", 2, 256, 0.1, False, "mk1", "b3/1/relu", f"{_TENSORFLOW}/README.md@2ad56a5"),
    ("efficientnet_b0_g16", "group", "16.32", 12, 8, 0.6, True, "mk2", "_blocks/4", f"{_EXAMPLES}@b30108f"),
    ("efficientnet_b0_g16", "group", "16.32", 12, 8, 0.6, True, "mk2", "block3b", f"{_RESEARCH}@6c320fd"),
    ("efficientnet_b2_g16", "group", "16.32", 12, 16, 0.2, True, "mk2", "block2b block4a block5d",
     f"{_RESEARCH}@6c320fd"),
    ("efficientnet_b4_g16", "group", "16.16", 3, 16, 0.4, True, "mk2", "block4a", f"{_TENSORFLOW}/configs.yml@32fc7bd"),
    ("efficientnet_b4_g16", "group", "16.32", 6, 32, 0.15, True, "mk2", "blocks/1/1 blocks/3/0 blocks/4/5",
     f"{_EXAMPLES}@9b61ab6"),
    ("efficientnet_b4_g16", "group", "16.32", 4, 48, 0.6, True, "mk2", "block2c block4c block6a",
     f"{_RESEARCH}@6c320fd"),
]  # fmt: skip
# Side of the images in pixels, as the configurations state it.
_SIZES = {"efficientnet_b2_g16": 260, "efficientnet_b4_g16": 380}
_RECIPE = """
model: {{name: {model}, norm: {norm}, proxy_norm: false}}
data: {{name: synthetic, image_size: {size}, num_classes: 1000}}
optimizer: {{momentum: 0.9}}
training: {{micro_batch_size: {batch}, gradient_accumulation: {accumulation}, precision: "{precision}"}}
device: {{chip: {chip}, available_memory_proportion: {proportion}, partials: {partials}}}
"""


def compare(row):
    """One line of the table: published, equal-count and found splits, with fit, worst tile and images/s of each."""
    model, norm, precision, batch, accumulation, proportion, half, chip, splits, source = row
    text = _RECIPE.format(
        model=model,
        norm=norm,
        size=_SIZES.get(model, 224),
        batch=batch,
        accumulation=accumulation,
        precision=precision,
        chip=chip,
        proportion=proportion,
        partials="half" if half else "float",
    )
    resolved = load_text(text, Path(f"{model}.yaml"))
    splitter = splitter_of(resolved, traces=Traces())
    names = _modules(splitter.program)
    published = tuple(translate(name, names) for name in splits.split())
    equal = equal_count(len(splitter.cuts) + 1, len(published) + 1)
    found = splitter.solve(len(published) + 1)
    reports = [
        splitter.report(published),
        splitter.report(tuple(splitter.cuts[i - 1].name for i in equal)),
        found.report,
    ]
    gain = reports[2].images_per_second / reports[0].images_per_second
    return [
        f"{model} {norm}",
        f"{batch} x {accumulation}",
        f"{chip} x {len(published) + 1}",
        *(_text(report) for report in reports),
        f"{gain:.2f}",
        " ".join(published),
        " ".join(found.splits),
        source,
    ]


def _modules(program):
    """Names of the modules in which operations run, in order of execution."""
    first = {}
    for index, op in enumerate(program.forward()):
        path = op.layer
        while path:
            first.setdefault(path, index)
            path = path.rpartition(".")[0]
    return sorted(first, key=lambda name: (first[name], name.count(".")))


def _text(report):
    verdict = "" if report.fits else " (too large)"
    return f"{report.images_per_second:,.0f}, {report.worst_tile_bytes / 1e3:,.0f} kB{verdict}"


HEADER = [
    "network",
    "batch",
    "IPUs",
    "published",
    "equal count",
    "auto",
    "gain",
    "published splits",
    "auto",
    "source",
]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--markdown", metavar="PATH", help="write the table to this file, too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for row in PUBLISHED:
        rows.append(compare(row))
        print(table(HEADER[:7], [rows[-1][:7]]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(HEADER[:7], rows))
    if options.markdown:
        lines = [
            "# Pipeline splits: published ones and those of `pipeline_splits: auto`",
            "",
            "Predicted images/s of one replica, and the worst tile. Made by `scripts/sweep_published_splits.py`.",
            "",
            "| " + " | ".join(HEADER) + " |",
            "|" + "---|" * len(HEADER),
            *("| " + " | ".join(map(str, row)) + " |" for row in rows),
        ]
        Path(options.markdown).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

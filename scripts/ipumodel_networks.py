"""Compares predicted whole networks with published runs: what fits, what does not, and how fast they were.

    python scripts/ipumodel_networks.py CONFIGS.csv --output FOLDER

CONFIGS.csv holds published training configurations that ran (see ``ipu_train/ipumodel/README.md`` for the
columns). Writes ``configs.csv`` (each row with its prediction), ``throughput.txt`` and ``limits.txt``.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from ipu_train.ipumodel.__main__ import CONFIG_COLUMNS, predict_configs
from ipu_train.ipumodel.published import networks
from ipu_train.ipumodel.published.configs import NEEDED, read_config
from ipu_train.ipumodel.published.predictor import Predictor
from ipu_train.ipumodel.published.tables import keep_given, read_rows, write_rows
from ipu_train.models import build, names, native_image_size

# Row of the table, chip, published images/s of the whole system, where published.
FIGURE = "Masters et al. 2021 (arXiv 2106.03640), figure, POD16, SDK 2.0"
PAGE = "Graphcore performance page"
PUBLISHED = (
    ("C095", "mk2", 26400, FIGURE),
    ("C101", "mk2", 29700, FIGURE),
    ("C113", "mk2", 24900, FIGURE),
    ("C097", "mk2", 12600, FIGURE),
    ("C103", "mk2", 15200, FIGURE),
    ("C115", "mk2", 13400, FIGURE),
    ("C046", "mk2", 2730, FIGURE),
    ("C105", "mk2", 4640, FIGURE),
    ("C117", "mk2", 4170, FIGURE),
    ("C111", "mk2", 8500, FIGURE + ", marker partly hidden"),
    ("C123", "mk2", 8020, FIGURE),
    ("C052", "mk2", 27600, "MLPerf Training v1.0 log, POD16"),
    ("C143", "mk2", 85000, "MLPerf Training v1.0 log, POD64"),
    ("C052", "bow", 42029, PAGE),
    ("C054", "bow", 145287, PAGE),
    ("C066", "bow", 8936, PAGE),
)
# Runs of the same figure, as changes to a row of the table: half resolution with twice the micro-batch (the paper's
# configurations), name, row, cells, published images/s.
_B0_HALF = {"dataset_image_size": "imagenet 160", "micro_batch_size": "24", "gradient_accumulation": "4"}
_B2_HALF = {"dataset_image_size": "imagenet 196", "micro_batch_size": "24", "gradient_accumulation": "8"}
HALF_RESOLUTION = (
    ("B0 at 160 pixels", "C101", _B0_HALF, 47400),
    ("B0 at 160 pixels", "C113", _B0_HALF, 43400),
    ("B2 at 196 pixels", "C103", _B2_HALF, 24300),
    ("B2 at 196 pixels", "C115", _B2_HALF, 21100),
)
# Group norm row, Proxy Norm row, published cost of Proxy Norm in throughput.
PROXY_NORM = (
    ("C101", "C113", -0.16),
    ("C103", "C115", -0.12),
    ("C105", "C117", -0.10),
    ("C111", "C123", -0.06),
)
LIMITS = (
    ("C052", (16, 20, 24, 28, 32)),
    ("C101", (12, 24, 32, 48)),
    ("C105", (4, 8, 12)),
    ("C001", (4, 6, 8)),
)


def network(model: str, **options: object) -> torch.nn.Module:
    """A network of the zoo, or one of those that are only predicted."""
    return build(model, **options) if model in names() else networks.build(model, **options)


def sized(model: str) -> int:
    """Side in pixels of the images a network is made for."""
    return native_image_size(model) if model in names() else networks.native_size(model)


def throughput_lines(predictor, rows):
    """Predicted beside published images/s, and what Proxy Norm costs."""
    found = {}
    yield "row   network              chip norm         predicted published ratio  source"
    for name, chip, published, source in PUBLISHED:
        row = rows[name]
        config = replace(read_config(row), chips=(chip,))
        report = predictor.predict(config)
        found[name, chip] = report.images_per_second
        yield (
            f"{name:5s} {config.model:20s} {chip:4s} {row['norm'][:12]:12s} {report.images_per_second:9,.0f} "
            f"{published:9,d} {report.images_per_second / published:5.2f}  {source}; "
            f"{report.throughput.cycles_per_image_per_ipu:,.0f} cycles per image and IPU"
        )
    yield ""
    for what, name, cells, published in HALF_RESOLUTION:
        rate = predictor.predict(read_config(dict(rows[name], **cells))).images_per_second
        yield (
            f"half resolution: {what}, G16, {rows[name]['norm']}: {rate:,.0f}, published {published:,d}, "
            f"ratio {rate / published:.2f}"
        )
    yield ""
    for plain, proxy, published in PROXY_NORM:
        cost = found[proxy, "mk2"] / found[plain, "mk2"] - 1
        name = rows[plain]["model"]
        yield f"Proxy Norm (LN + PN) against group norm, {name}: {cost:.1%}, published {published:.0%}"


def limit_lines(predictor, rows):
    """Fits or not, for micro-batches up to well beyond the published ones."""
    for name, sizes in LIMITS:
        for size in sizes:
            config = replace(read_config(rows[name]), micro_batch=size)
            report = predictor.predict(config)
            share = report.worst_tile_bytes / report.target.bytes_per_tile
            published = int(rows[name]["micro_batch_size"])
            verdict = "fits" if report.fits else "does not fit"
            yield (
                f"{name} {config.model:20s} micro-batch {size:3d} (published {published}): "
                f"worst tile {share:.2f} of capacity, {verdict}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs")
    parser.add_argument("--output", required=True, help="folder for the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns, table = read_rows(options.configs, ["id"] + NEEDED)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {row["id"]: dict(row) for row in table}
    predictor = Predictor(network)
    lines = list(throughput_lines(predictor, rows))
    (folder / "throughput.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    lines = list(limit_lines(predictor, rows))
    (folder / "limits.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    published = keep_given(columns, table, CONFIG_COLUMNS)
    predict_configs(table)
    kept = [c for c in columns if c not in ("also_published_at", "memory_class")]
    write_rows(
        folder / "configs.csv",
        kept + [c for c in CONFIG_COLUMNS + published if c not in kept],
        table,
    )
    supported = [row for row in table if row["fits"] != "unsupported"]
    agree = sum(row["fits"] == row["published_fits"][:3].strip() for row in supported)
    print(
        f"{len(supported)} of {len(table)} rows have a model in the zoo; {agree} agree with the publication"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

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

FURTHER = Path(__file__).parent / "results" / "ipumodel" / "further_runs.csv"
# Row of the table or of further_runs.csv, chip, published images/s of the whole system, where published, and whether
# constants may be fitted to it: networks B1, B3 and B5 were put aside when their markers were read.
FIGURE = "Masters et al. 2021 (arXiv 2106.03640), figure of the published code, POD16, SDK 2.0"
PAGE = "Graphcore performance page"
# Read off img/front_page.png of graphcore-research, B0 to B5: a disc and the lines to its neighbours fitted to the
# pixels of a marker's colour that nothing hides. The axis' ticks lie within 0.01 pixels of a line, one pixel is 0.95 %,
# and markers that are hidden in part are good to about a pixel.
_READ = {
    "G1-GN-Native": (26445, 14642, 12630, 6940, 2737, 1271),
    "G16-GN-Native": (29629, 18416, 15265, 10061, 4680, 1739),
    "G16-LN_PN-Native": (24854, 15948, 13442, 8880, 4165, 1570),
    "G16-GN-Half": (47357, 28218, 23880, 16204, 9191, 3333),
    "G16-LN_PN-Half": (43344, 25265, 21091, 14132, 8038, 2961),
}
# Rows of the survey for these runs; the others are in further_runs.csv as "paper B1-G1-GN-Native" and so on.
_SURVEY = {
    "B0-G1-GN-Native": "C095",
    "B2-G1-GN-Native": "C097",
    "B4-G1-GN-Native": "C099",
    "B0-G16-GN-Native": "C101",
    "B2-G16-GN-Native": "C103",
    "B4-G16-GN-Native": "C105",
    "B4-G16-GN-Half": "C111",
    "B0-G16-LN_PN-Native": "C113",
    "B2-G16-LN_PN-Native": "C115",
    "B4-G16-LN_PN-Native": "C117",
    "B4-G16-LN_PN-Half": "C123",
}


def _row_of(run):
    return _SURVEY.get(run, f"paper {run}")


PUBLISHED = (
    *(
        (_row_of(f"B{size}-{kind}"), "mk2", rate, FIGURE, size % 2 == 0)
        for kind, rates in _READ.items()
        for size, rate in enumerate(rates)
    ),
    ("C052", "mk2", 27600, "MLPerf Training v1.0 log, POD16", True),
    ("C143", "mk2", 85000, "MLPerf Training v1.0 log, POD64", True),
    ("C052", "bow", 42029, PAGE, True),
    ("C054", "bow", 145287, PAGE, True),
    ("C066", "bow", 8936, PAGE, True),
)
# What Proxy Norm costs: size and resolution, group norm row, Proxy Norm row, published change of throughput.
PROXY_NORM = tuple(
    (f"B{size} {resolution}", _row_of(f"B{size}-{plain}"), _row_of(f"B{size}-{proxy}"),
     _READ[proxy][size] / _READ[plain][size] - 1)
    for resolution, plain, proxy in (
        ("native", "G16-GN-Native", "G16-LN_PN-Native"),
        ("half", "G16-GN-Half", "G16-LN_PN-Half"),
    )
    for size in range(6)
)  # fmt: skip
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
    yield "row                          network              chip predicted published ratio  source"
    for name, chip, published, source, fitted in PUBLISHED:
        config = replace(read_config(rows[name], sized), chips=(chip,))
        report = predictor.predict(config)
        found[name, chip] = report.images_per_second
        yield (
            f"{name:28s} {config.model:20s} {chip:4s} {report.images_per_second:9,.0f} "
            f"{published:9,d} {report.images_per_second / published:5.2f}  {source}; "
            f"{report.throughput.cycles_per_image_per_ipu:,.0f} cycles per image and IPU"
            + ("" if fitted else "; nothing was fitted to it")
        )
    yield ""
    for what, plain, proxy, published in PROXY_NORM:
        cost = found[proxy, "mk2"] / found[plain, "mk2"] - 1
        yield f"Proxy Norm (LN + PN) against group norm, {what}: {cost:.1%}, published {published:.1%}"


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
    rows = {row["id"]: dict(row) for row in [*table, *read_rows(str(FURTHER), ["id"] + NEEDED)[1]]}
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

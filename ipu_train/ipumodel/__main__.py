"""``python -m ipu_train.ipumodel layers|configs IN.csv OUT.csv``: predictions beside each row of a table."""

import argparse
import sys

from ipu_train.ipumodel.tables import read_rows, write_rows
from ipu_train.ipumodel.target import Target

LAYER_COLUMNS = ["cycles", "total_bytes", "max_tile_bytes", "note"]
CONFIG_COLUMNS = ["fits", "total_bytes", "worst_tile_bytes", "images_per_second", "note"]


def predict_layers(rows):
    """Adds ``LAYER_COLUMNS`` to each row of layers; an unsupported row gets the reason in ``note``."""
    from ipu_train.ipumodel.layers import predict_layer

    for row in rows:
        row.update(dict.fromkeys(LAYER_COLUMNS, ""))
        try:
            found = predict_layer(row["tool"], row["parameters"], Target.named(row["chip"]))
        except ValueError as error:
            row["note"] = f"unsupported: {error}"
            continue
        row.update(
            cycles=found.cycles,
            total_bytes=found.total_bytes,
            max_tile_bytes=found.max_tile_bytes,
            note=found.note,
        )


def predict_configs(rows):
    """Adds predictions to each row of configurations; the published ``fits`` moves to ``published_fits``."""
    from ipu_train.ipumodel.configs import Predictor, read_config
    from ipu_train.models import build

    predictor = Predictor(build)
    for row in rows:
        if "fits" in row:
            row["published_fits"] = row["fits"]
        row.update(dict.fromkeys(CONFIG_COLUMNS, ""))
        try:
            config = read_config(row)
            report = predictor.predict(config)
        except ValueError as error:
            row.update(fits="unsupported", note=str(error))
            continue
        row.update(
            fits="yes" if report.fits else "no",
            total_bytes=report.total_bytes,
            worst_tile_bytes=report.worst_tile_bytes,
            images_per_second=round(report.images_per_second, 1),
            note="; ".join(config.notes),
        )


def main(arguments=None):
    """The command line; returns the exit code (2 for bad input)."""
    parser = argparse.ArgumentParser(
        prog="python -m ipu_train.ipumodel",
        description="Predicts what layers or training configurations cost on an IPU.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("layers", "single layers"), ("configs", "training configurations")):
        command = commands.add_parser(name, help=text)
        command.add_argument("input", metavar="IN.csv")
        command.add_argument("output", metavar="OUT.csv")
    options = parser.parse_args(arguments)
    try:
        if options.command == "layers":
            columns, rows = read_rows(options.input, ["chip", "tool", "parameters"])
            predict_layers(rows)
            added = LAYER_COLUMNS
        else:
            from ipu_train.ipumodel.configs import NEEDED

            columns, rows = read_rows(options.input, NEEDED)
            predict_configs(rows)
            added = CONFIG_COLUMNS + (["published_fits"] if "fits" in columns else [])
        write_rows(options.output, columns + [c for c in added if c not in columns], rows)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

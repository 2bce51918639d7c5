"""``python -m ipu_train.ipumodel layers|configs IN.csv OUT.csv``: predictions beside each row of a table."""

import argparse
import sys

from ipu_train.ipumodel.layers import Unsupported, predict_layer
from ipu_train.ipumodel.tables import read_rows, write_rows
from ipu_train.ipumodel.target import Target

_LAYER_COLUMNS = ["cycles", "total_bytes", "max_tile_bytes", "note"]


def layers(rows):
    """Adds the predicted columns to each layer row."""
    for row in rows:
        row.update({name: "" for name in _LAYER_COLUMNS})
        try:
            target = Target.named(row["chip"])
            found = predict_layer(row["tool"], row["parameters"], target)
        except Unsupported as error:
            row["note"] = f"unsupported: {error}"
            continue
        except ValueError as error:
            row["note"] = f"unsupported: {error}"
            continue
        row.update(cycles=found.cycles, total_bytes=found.total_bytes, max_tile_bytes=found.max_tile_bytes)
        row["note"] = found.note
        yield row


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m ipu_train.ipumodel", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("layers", "single layers"), ("configs", "training configurations")):
        command = commands.add_parser(name, help=text)
        command.add_argument("input", metavar="IN.csv")
        command.add_argument("output", metavar="OUT.csv")
    options = parser.parse_args(arguments)
    try:
        columns, rows = read_rows(options.input, ["benchmark", "chip", "tool", "parameters"])
        list(layers(rows))
        write_rows(options.output, columns + [c for c in _LAYER_COLUMNS if c not in columns], rows)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

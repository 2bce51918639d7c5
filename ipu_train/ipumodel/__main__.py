"""``python -m ipu_train.ipumodel layers|configs IN.csv OUT.csv``: predictions beside each row of a table."""

import argparse
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from .published.tables import check_cells, check_writable, keep_given, read_rows, write_rows
from .target import Target

if TYPE_CHECKING:
    import torch

Row = Dict[str, Any]
LAYER_COLUMNS = ["cycles", "total_bytes", "max_tile_bytes", "note"]
CONFIG_COLUMNS = ["fits", "verdict", "total_bytes", "worst_tile_bytes", "images_per_second", "note"]


def predict_layers(rows: List[Row]) -> None:
    """Adds ``LAYER_COLUMNS`` to each row of layers; an unsupported row gets the reason in ``note``."""
    from .published.layers import predict_layer

    for row in rows:
        row.update(dict.fromkeys(LAYER_COLUMNS, ""))
        try:
            check_cells(row)
            found = predict_layer(row["tool"], row["parameters"], Target.named(row["chip"]))
        except ValueError as error:
            row["note"] = f"unsupported: {error}"
            continue
        except Exception as error:  # a row that finds a bug in the model must not take the others with it
            row["note"] = f"unsupported: {_bug(error)}"
            continue
        row.update(
            cycles=found.cycles,
            total_bytes=found.total_bytes,
            max_tile_bytes=found.max_tile_bytes,
            note=found.note,
        )


def predict_configs(rows: List[Row]) -> None:
    """Adds ``CONFIG_COLUMNS`` to each row of configurations; ``fits`` is yes, no or unsupported."""
    from ipu_train.models import build, names, native_image_size

    from .published import networks
    from .published.configs import read_config
    from .published.predictor import Predictor

    def native_size(model: str) -> int:
        return native_image_size(model) if model in names() else networks.native_size(model)

    def network(model: str, **options: Any) -> "torch.nn.Module":
        return build(model, **options) if model in names() else networks.build(model, **options)

    predictor = Predictor(network)
    for row in rows:
        row.update(dict.fromkeys(CONFIG_COLUMNS, ""))
        try:
            check_cells(row)
            config = read_config(row, native_size)
            report = predictor.predict(config)
        except ValueError as error:
            row.update(fits="unsupported", note=str(error))
            continue
        except Exception as error:  # as for layers
            row.update(fits="unsupported", note=_bug(error))
            continue
        row.update(
            fits="yes" if report.fits else "no",
            verdict=report.verdict,
            total_bytes=report.total_bytes,
            worst_tile_bytes=report.worst_tile_bytes,
            images_per_second=round(report.images_per_second, 1),
            note="; ".join(config.notes),
        )


def _bug(error: Exception) -> str:
    return f"the model failed on this row, {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def main(arguments: Optional[List[str]] = None) -> int:
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
            needed, added, predict = ["chip", "tool", "parameters"], LAYER_COLUMNS, predict_layers
        else:
            from .published.configs import NEEDED

            needed, added, predict = NEEDED, CONFIG_COLUMNS, predict_configs
        columns, rows = read_rows(options.input, needed)
        kept = keep_given(columns, rows, added)
        check_writable(options.output)
        predict(rows)
        added = added + kept
        write_rows(options.output, columns + [c for c in added if c not in columns], rows)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

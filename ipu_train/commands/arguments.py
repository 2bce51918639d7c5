"""The arguments that training and ``plan`` have in common: a configuration and changes to it."""

import argparse

from ..command_line import Parser


def parser(command: str, description: str) -> Parser:
    """A parser of ``--config X [section.key=value ...]`` for ``ipu-train COMMAND``; training has no word of its own."""
    result = Parser(
        prog=f"ipu-train {command}".strip(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--config", required=True, metavar="X", help="a YAML file, or the name of a recipe")
    result.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="changes to the configuration, such as training.epochs=5 or run_dir=runs/mine",
    )
    return result

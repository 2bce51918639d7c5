"""``ipu-train config``: what a configuration resolves to, what a key means, and the schema of them all."""

import argparse
from typing import List

from ..command_line import Parser

_DESCRIPTION = """\
Print a configuration with all defaults filled in and where each value comes from. What a training would refuse before
it opens the data is refused here, too: unknown models, norms and options, and groups that a network cannot have.

ipu-train config --explain [section[.key]]   what keys mean, their types, defaults, and the recipes that set them
ipu-train config --json-schema               the schema of a configuration file, for editors (JSON Schema 2020-12)
"""


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="ipu-train config",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--config", metavar="X", help="a YAML file, or the name of a recipe")
    result.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="changes to the configuration, such as training.epochs=5 or run_dir=runs/mine",
    )
    what = result.add_mutually_exclusive_group()
    what.add_argument(
        "--explain", nargs="?", const="", metavar="section.key", help="explain a key, a section, or all"
    )
    what.add_argument("--json-schema", action="store_true", help="print the JSON Schema of a configuration")
    return result


def main(arguments: List[str]) -> int:
    """Print what is asked for; gives the exit status 0.

    Raises:
        ConfigError: a configuration that cannot be used, or a key that does not exist.
    """
    options = parser().parse_intermixed_args(arguments)
    if options.explain is None and not options.json_schema:
        if options.config is None:
            parser().error("give --config X, or --explain [section.key], or --json-schema")
        return _print(options.config, options.overrides)
    if options.config is not None or options.overrides:
        parser().error("--explain and --json-schema are about every configuration; leave --config away")
    from ..config import reference

    print(
        reference.schema_text() if options.json_schema else reference.explain(options.explain).rstrip(),
        end="" if options.json_schema else "\n",
    )
    return 0


def _print(config: str, overrides: List[str]) -> int:
    from ..config import load
    from ..early_checks import check_network

    resolved = load(config, overrides)
    check_network(resolved)
    print(resolved.explain())
    return 0

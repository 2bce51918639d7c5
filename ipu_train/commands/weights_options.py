"""The options with which commands are told whose weights they use."""

import argparse
from pathlib import Path
from typing import Any, Iterable, List, Tuple

from .. import outputs
from ..command_line import Parser
from ..inference import asked as asked_
from ..inference.asked import WHICH, Asked


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """A parser with ``--run``, ``--checkpoint``, ``--weights`` and ``--config``."""
    result = Parser(
        prog=f"ipu-train {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--run", type=Path, metavar="DIR", help="a run folder, such as runs/mine")
    result.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="in place of --run: a checkpoint (folder step_... or the weights.safetensors in it) or, with --config, a "
        "file with a state dict",
    )
    result.add_argument(
        "--weights",
        choices=WHICH,
        help="of a run: of the best validation (validation.metric), the last (default), or averaged over the epochs",
    )
    result.add_argument("--config", metavar="X", help="the network of a file with a state dict")
    return result


def asked(options: Any, overrides: List[str]) -> Asked:
    """Whose weights the options name; imports no torch.

    Raises:
        UseError: there are none such.
        ConfigError: a configuration, or changes to one, that cannot be used.
    """
    return asked_.asked(options.run, options.checkpoint, options.weights, overrides, options.config)


def split_words(words: Iterable[str]) -> Tuple[List[str], List[str]]:
    """Free words of a command line: overrides (``section.key=value``), and the others."""
    overrides: List[str] = []
    others: List[str] = []
    for word in words:
        key = word.partition("=")[0]
        is_override = "=" in word and not Path(word).exists() and "/" not in key
        (overrides if is_override else others).append(word)
    return overrides, others


def json_path(parser_: argparse.ArgumentParser, what: str) -> None:
    parser_.add_argument(
        "--json",
        type=outputs.place,
        metavar="PATH",
        help=f"write {what} to this file as JSON (-: standard output)",
    )

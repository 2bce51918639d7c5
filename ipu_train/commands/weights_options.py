"""The options with which commands are told whose weights they use."""

import argparse
from pathlib import Path
from typing import Any, List, Optional

_WHICH = ("best", "last", "averaged")


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """A parser with ``--run``, ``--checkpoint``, ``--weights`` and ``--config``."""
    result = argparse.ArgumentParser(
        prog=f"ipu-train {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
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
        choices=_WHICH,
        help="of a run: those of the best validation accuracy, the last (default), or averaged over the epochs",
    )
    result.add_argument("--config", metavar="X", help="the network of a file with a state dict")
    return result


def trained(options: Any, overrides: List[str]) -> Any:
    """The weights that the options name.

    Raises:
        UseError, CheckpointError, ConfigError: there are none such, or what is there cannot be used.
    """
    from ..inference.trained import chosen

    return chosen(options.run, options.checkpoint, options.weights, overrides, options.config)


def json_path(parser_: argparse.ArgumentParser, what: str) -> None:
    parser_.add_argument("--json", type=Path, metavar="PATH", help=f"write {what} to this file as JSON")


def check_writable(option: str, path: Optional[Path]) -> None:
    """Refuse a file that could not be written, before anything is computed.

    Raises:
        UseError: its folder is not there, or it is a folder itself.
    """
    from ..inference.errors import UseError

    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise UseError(f"{option} {path}: there is no folder {path.absolute().parent}")
    if path.is_dir():
        raise UseError(f"{option} {path}: is a folder; name a file")

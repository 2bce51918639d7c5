"""``ipu-train average``: one file of weights from several checkpoints, after the run."""

import argparse
import shlex
from pathlib import Path
from typing import List

from .. import outputs
from ..command_line import Parser
from ..config import text_override
from ..training import checkpoint_folder
from ..training.checkpoint_folder import STATE
from ..training.run_folder import CHECKPOINTS

_DECAY = 0.97  # of Masters et al. 2021 (arXiv 2106.03640), whose checkpoints are one epoch apart


class AverageError(ValueError):
    """Checkpoints that cannot be averaged; the message says which and why."""


def main(arguments: List[str]) -> int:
    """Average checkpoints, oldest first, into a safetensors file that ``model.weights`` takes; gives 0.

    Raises:
        AverageError, OutputError, CheckpointError: checkpoints that are missing, unreadable or of different networks;
            a file that cannot be written.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.kind == "mean" and options.decay is not None:
        parser.error("--decay is for --kind exponential; a mean has none")
    if (options.out.parent / STATE).is_file():  # a checkpoint's own weights must not be lost
        raise AverageError(f"--out {options.out} is inside a checkpoint: choose another file.")
    outputs.check("--out", options.out)
    folders = _checkpoints(options.paths)

    from safetensors.torch import save

    from .. import durable
    from ..optim import average_states
    from ..training import checkpoint

    decay = (options.decay or _DECAY) if options.kind == "exponential" else None
    try:
        average = average_states((checkpoint.load(f).weights for f in folders), options.kind, decay)
    except checkpoint.CheckpointError:
        raise
    except ValueError as error:
        raise AverageError(f"The checkpoints cannot be averaged: {error}.") from error
    try:
        durable.write(options.out, save({name: tensor.contiguous() for name, tensor in average.items()}))
    except OSError as error:
        raise AverageError(f"{options.out} cannot be written: {error}.") from error
    what = "mean" if decay is None else f"exponential average (decay {decay:g})"
    print(f"{what} of {len(folders)} checkpoints, {folders[0].name} to {folders[-1].name}, in {options.out}")
    weights = shlex.quote(text_override("model.weights", str(options.out)))
    print(f"Start from it with: ipu-train --config X {weights}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ipu-train average",
        description="Average the weights of several checkpoints: all that a run folder holds (checkpoint.keep says how "
        "many are kept), or those given one by one, oldest first.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="run folders or checkpoints")
    parser.add_argument(
        "--kind",
        choices=["exponential", "mean"],
        default="exponential",
        help="older weights fade (default), or the plain mean",
    )
    parser.add_argument(
        "--decay",
        type=_decay,
        help=f"share of the old average that exponential keeps at each checkpoint ({_DECAY})",
    )
    parser.add_argument("--out", type=_out, required=True, metavar="FILE.safetensors", help="file to write")
    return parser


def _out(text: str) -> Path:
    if not text.endswith(".safetensors"):
        # model.weights tells formats by the name
        raise argparse.ArgumentTypeError(f"must end in .safetensors, got {text}")
    return Path(text)


def _decay(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and below 1, got {text}")
    return value


def _checkpoints(paths: List[Path]) -> List[Path]:
    found: List[Path] = []
    for path in paths:
        inside = (
            [path] if (path / STATE).is_file() else checkpoint_folder.list_checkpoints(path / CHECKPOINTS)
        )
        if not inside:
            raise AverageError(
                f"No checkpoint in {path}: name a run folder or a folder step_... in its checkpoints."
            )
        found += inside
    return found

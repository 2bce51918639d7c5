"""``ipu-train sweep``: the arguments, and what is refused before torch is imported."""

import argparse
from typing import List, Optional, Tuple

from ..command_line import Parser
from ..config import load
from ..outputs import check as check_output
from ..outputs import check_page
from ..outputs import place as output_place
from ..tracking import tell
from . import folder as folders
from .errors import SweepError
from .points import grid, parse_settings, points

_SWEEP_DIR = "sweep_dir="


def main(arguments: List[str]) -> int:
    """Run a sweep and give the exit status: 0 done, 130 or 143 stopped by a signal, finished points written.

    Raises:
        SweepError, ConfigError, OutputError: bad input; :class:`NothingFits` when no point fits (all is written then).
    """
    options = _parser().parse_intermixed_args(arguments)
    overrides, chosen = _sweep_dir(options.overrides)
    base = load(options.config, overrides)
    check_page(options.html)
    check_output("--json", options.json, streams=True)
    if options.measure_steps < 1:
        raise SweepError(f"--measure-steps: must be at least 1, got {options.measure_steps}")
    if options.jobs is not None and options.jobs < 1:
        raise SweepError(f"--jobs: must be at least 1, got {options.jobs}")
    sweep = grid(
        base,
        _names(options.norms),
        _sizes(options.micro_batch_sizes),
        parse_settings(options.set),
        options.global_batch_size,
    )
    all_points, left_out = points(sweep)
    for message in left_out:
        tell(f"left out, {message}")
    path = folders.place(base, chosen, options.resume)

    from .run import run

    return run(base, sweep, all_points, path, options)


def _sweep_dir(overrides: List[str]) -> Tuple[List[str], Optional[str]]:
    chosen = [text[len(_SWEEP_DIR) :] for text in overrides if text.startswith(_SWEEP_DIR)]
    if chosen and not chosen[-1]:
        raise SweepError("sweep_dir= names no folder; write sweep_dir=PATH")
    return [text for text in overrides if not text.startswith(_SWEEP_DIR)], chosen[-1] if chosen else None


def _names(text: Optional[str]) -> Optional[List[str]]:
    if text is None:
        return None
    names = [name.strip().replace(" ", "") for name in text.split(",") if name.strip()]
    if not names:
        raise SweepError("--norms: names no norm; write for example batch,group,group+pn")
    return names


def _sizes(text: Optional[str]) -> Optional[List[int]]:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SweepError(f"--micro-batch-sizes {text}: must be whole numbers such as 1,2,4,8") from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ipu-train sweep",
        description="Predict memory and throughput over micro-batch sizes and norms at one global batch size.",
    )
    add = parser.add_argument
    add("--config", required=True, metavar="X", help="a YAML file, or the name of a recipe")
    add("--micro-batch-sizes", metavar="1,2,4", help="default: 1 to 32, and the configuration's own")
    add(
        "--norms",
        metavar="batch,group+pn",
        help="+pn adds Proxy Norm; default: batch,group,group+pn and its own",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="section.key=a,b",
        help="sweep over a setting; repeatable",
    )
    add(
        "--global-batch-size",
        type=int,
        metavar="N",
        help="images of a weight update; default: the configuration's",
    )
    add(
        "--json",
        type=output_place,
        metavar="PATH",
        help="write the result as JSON to this file, too (-: standard output)",
    )
    add("--html", metavar="PATH", help="write the report page to this file, too")
    add("--resume", action="store_true", help="go on with the newest sweep of this configuration")
    add("--jobs", type=int, metavar="N", help="processes; default: one for each core")
    add(
        "--measure",
        action="store_true",
        help="run a few real steps of each point and measure memory and accuracy",
    )
    add("--measure-steps", type=int, default=3, metavar="N", help="weight updates of --measure (default 3)")
    add(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="changes to the configuration, or sweep_dir=PATH",
    )
    return parser

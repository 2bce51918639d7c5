"""``ipu-train tune``: the arguments, and what is refused before torch is imported."""

import argparse
from pathlib import Path
from typing import List, Optional

from ..command_line import Parser
from ..config import Resolved, load
from ..outputs import check as check_output
from ..outputs import check_page
from .errors import TuneError
from .space import Space, replicas_for


def main(arguments: List[str]) -> int:
    """Search, show the best choices beside the given configuration and write the best one; gives 0.

    Raises:
        TuneError, ConfigError, OutputError: bad input; :class:`NoChoiceFits` when nothing fits.
    """
    options = _parser().parse_intermixed_args(arguments)
    base = load(options.config, options.overrides)
    sizes = _sizes(options.ipus, base)
    if not 0 <= options.headroom < 1:
        raise TuneError(
            f"--headroom {options.headroom}: is the share of memory to leave free, from 0 to below 1"
        )
    if options.jobs is not None and options.jobs < 1:
        raise TuneError(f"--jobs: must be at least 1, got {options.jobs}")
    space = Space(base, options.headroom, options.total_ipus)
    for size in sizes:
        replicas_for(space, size)
    output = _output(options.output, base)
    check_page(options.html)

    from .tuning import tune

    return tune(space, sizes, options.jobs, output, options.html)


def _output(chosen: Optional[str], base: Resolved) -> Path:
    """Where the YAML goes, proved writable before the search.

    Raises:
        TuneError, OutputError: it is the given configuration, or cannot be written.
    """
    path = Path(chosen) if chosen is not None else Path(f"{base.name}_tuned.yaml")
    if path.exists() and path.samefile(base.source):
        raise TuneError(f"--output {path} is the given configuration itself; choose another file")
    check_output("--output", path)
    return path


def _sizes(text: Optional[str], base: Resolved) -> List[int]:
    if text is None:  # of pipeline_splits: auto without a number they are found first
        return [base.config.ipus_per_replica] if base.config.knows_its_ipus else []
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        raise TuneError(f"--ipus {text}: must be whole numbers of at least 1 such as 1,2,4")
    return sizes


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ipu-train tune",
        description="Find micro-batch size, accumulation, recomputation, available memory proportion and pipeline "
        "splits with the most predicted images/s that fit in memory, at the configuration's global batch size.",
    )
    add = parser.add_argument
    add("--config", required=True, metavar="X", help="a YAML file, or the name of a recipe")
    add("--ipus", metavar="1,2,4", help="IPUs of a replica to try; default: the configuration's")
    add("--total-ipus", type=int, metavar="N", help="IPUs in all; default: as many as the replicas take")
    add(
        "--headroom",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="tile memory to leave free (default 0.05)",
    )
    add("--output", metavar="PATH", help="the tuned configuration; default: <name>_tuned.yaml")
    add("--html", metavar="PATH", help="write a report page of the choices and the plan of the best one")
    add("--jobs", type=int, metavar="N", help="processes; default: one for each core")
    add("overrides", nargs="*", metavar="section.key=value", help="changes to the configuration")
    return parser

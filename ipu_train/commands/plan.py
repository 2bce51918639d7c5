"""``ipu-train plan``: what a training step needs on an IPU, in memory per tile and cycles."""

import json
import sys
from typing import Any, List

from .. import outputs
from .arguments import parser as with_configuration


def main(arguments: List[str]) -> int:
    """Print the prediction; gives the exit status 0.

    Raises:
        ConfigError, OutputError: bad input.
        planning.DoesNotFit: the step does not fit.
    """
    parser = with_configuration(
        "plan", "Predict memory per tile and cycles of a training step on an IPU, without one."
    )
    parser.add_argument("--json", action="store_true", help="print the prediction as JSON")
    parser.add_argument("--plot", metavar="PATH", help="draw memory over the schedule to this picture")
    parser.add_argument(
        "--html", metavar="PATH", help="write a report page to look around in: one file, no network"
    )
    options = parser.parse_intermixed_args(arguments)

    from ..config import load

    resolved = load(options.config, options.overrides)
    outputs.check_picture(options.plot)
    outputs.check_page(options.html)
    if lists_splits(resolved):
        return 0

    from .. import planning

    planning.keep_plans()
    traces = planning.Traces()
    resolved = planning.with_splits(resolved, traces=traces)
    report = planning.predict(resolved, traces=traces)
    print(json.dumps(report.to_json(), indent=1) if options.json else planning.describe(resolved, report))
    if options.plot:
        report.plot(options.plot)
        print(f"picture  {options.plot}", file=sys.stderr)
    if options.html:
        from ..sweep.variations import write_page

        write_page(options.html, resolved, report)
    if not report.may_fit:
        raise planning.refuse(report, resolved)
    planning.check_filled(resolved)
    for line in resolved.config.without_effect():
        print(f"warning: {line}", file=sys.stderr)
    if not report.fits:
        print(f"warning: {planning.doubt(report)}", file=sys.stderr)
    return 0


def lists_splits(resolved: Any, speaks: bool = True) -> bool:
    """Whether the configuration asks for the legal split points; prints them then, if this process ``speaks``."""
    from ..config.device import LIST_SPLITS

    if resolved.config.device.pipeline_splits != LIST_SPLITS:
        return False
    if speaks:
        from ..planning.settle import list_split_points

        print(list_split_points(resolved))
    return True

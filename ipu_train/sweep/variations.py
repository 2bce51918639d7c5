"""Predictions around a configuration for the page's what-if: other micro-batches, Batch Norm, other recomputation."""

from typing import Any, Callable, Dict, List, Optional, Tuple

from .. import pages
from ..config import Resolved
from ..ipumodel.report import Report
from ..pages.contents import Point, point
from ..planning import Traces, predict
from ..planning.workers import Workers, cores
from ..tracking import counting, tell
from .points import at_micro_batch, change_norm, norm_of

_FACTORS = (0.25, 0.5, 1, 2)  # of the micro-batch; those that make the same global batch are looked at


def write_page(path: str, resolved: Resolved, report: Report) -> None:
    """The page of a plan with the points around it; tells where it is.

    Raises:
        PageError: it cannot be written.
    """
    with counting("what-if") as told:
        points = variations(resolved, report, cores(), told)
    pages.write(path, pages.plan_contents(resolved, report, points))
    tell(f"page     {path}")


def variations(
    resolved: Resolved, report: Report, jobs: int, done: Callable[[int, int], None] = lambda now, all: None
) -> List[Point]:
    """The configuration's own point and those around it, in the order of their choices.

    Args:
        resolved: with its pipeline splits settled, which stay as they are.
        report: its prediction.
        jobs: processes.
        done: told how many of how many points there are.
    """
    own = _choice(resolved, report.recompute)
    found = {_key(own): point(own, report.to_json(), given=True)}
    wanted = [(choice, other) for choice, other in _around(resolved, report) if _key(choice) not in found]
    traces = Traces()
    traces.prepare(other for _, other in wanted)
    with Workers(min(jobs, len(wanted)), Traces.itself, (traces,)) as workers:
        named = {i: choice for i, (choice, _) in enumerate(wanted)}
        for i, answer in workers.run(_predict, ((i, (other,)) for i, (_, other) in enumerate(wanted))):
            if answer is not None:
                found[_key(named[i])] = point(named[i], answer)
            done(len(found), len(wanted) + 1)
    return [found[key] for key in sorted(found)]


def _predict(traces: Traces, resolved: Resolved) -> Optional[Dict[str, Any]]:
    try:
        return predict(resolved, traces=traces).to_json()
    except ValueError:  # a network or a device that does not take this
        return None


def _around(resolved: Resolved, report: Report) -> List[Tuple[Dict[str, Any], Resolved]]:
    size, whole = resolved.config.training.micro_batch_size, resolved.config.global_batch_size
    modes = ("none", "standard") if len(report.ipus) == 1 else ("none", "pipeline")
    found = []
    for norm in dict.fromkeys((norm_of(resolved), "batch")):
        for mode in dict.fromkeys((report.recompute, *modes)):
            for factor in _FACTORS:
                other = size * factor
                if other < 1 or other != int(other):
                    continue
                try:
                    changed = change_norm(resolved, norm)
                    if mode != report.recompute:
                        changed = changed.changed(
                            [f"device.recompute={mode}", "device.recompute_checkpoints=[]"]
                        )
                    changed, note = at_micro_batch(changed, int(other), whole)
                except ValueError:  # the configuration does not allow it
                    continue
                if not note:
                    found.append((_choice(changed, mode), changed))
    return found


def _choice(resolved: Resolved, recompute: str) -> Dict[str, Any]:
    return {
        "norm": norm_of(resolved),
        "micro_batch_size": resolved.config.training.micro_batch_size,
        "recompute": recompute,
    }


def _key(choice: Dict[str, Any]) -> Tuple[Any, ...]:
    return tuple(choice.values())

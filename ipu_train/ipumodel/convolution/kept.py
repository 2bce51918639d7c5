"""Plans of convolutions, kept on disk between commands: the same problem is searched once, by whatever process."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from ..store import Store, digest_of
from ..target import Target
from .forms import Codelet, PlanOptions
from .params import Problem

_BESIDE = ("constants.py", "store.py", "target.py", "targets.py")  # what plans depend on beside this room
_plans = Store("plans")


def keep_in(folder: Optional[Path]) -> None:
    """Keep plans in a file in this folder, made where it is missing; None: keep nothing."""
    _plans.keep_in(folder, version())


def version() -> str:
    """Digest of the planner: of all that a plan depends on beside its problem."""
    room = Path(__file__).parent
    return digest_of([*sorted(room.glob("*.py")), *(room.parent / name for name in _BESIDE)])


def kept(
    problem: Problem,
    target: Target,
    options: PlanOptions,
    search: Callable[[], Any],
    plan_of: Callable[..., Any],
) -> Any:
    """The plan that is kept for a problem, or what ``search`` finds, which is kept then.

    Args:
        plan_of: makes a plan from its fields by name.
    """
    question = repr((problem, target, options))
    text = _plans.read(question)
    if text is not None:
        fields = json.loads(text)
        fields.update(problem=_problem(fields["problem"]), codelet=Codelet(**fields["codelet"]))
        return plan_of(**{**fields, "splits": tuple(fields["splits"])})
    plan = search()
    if _plans.keeps:
        _plans.write(question, json.dumps(asdict(plan)))
    return plan


def _problem(fields: Any) -> Problem:
    values: Dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Problem(**values)

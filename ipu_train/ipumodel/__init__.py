"""Memory and cycles of a traced program on an IPU target. Knows nothing of the PopTorch API.

    program = trace(model, images, splits=["layer3.0"])
    report = plan(program, Target.named("mk2"), Settings(gradient_accumulation=8))
    print(report.table())

Importing this package imports neither torch nor numpy; the first use of a name does.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Program": "program",
    "Report": "report",
    "Settings": "settings",
    "Target": "target",
    "plain_torch_memory": "plain_torch",
    "plan": "planner",
    "predict_layer": "published.layers",
    "trace": "tracer",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module("." + _HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

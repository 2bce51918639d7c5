"""Report pages: one HTML file, without network, that shows a plan, a sweep, a search or a run."""

from .contents import COSTS, choices_contents, plan_contents, run_contents, sweep_contents
from .errors import PageError
from .write import PAGE_FILE, page, write

__all__ = [
    "COSTS",
    "PAGE_FILE",
    "PageError",
    "choices_contents",
    "page",
    "plan_contents",
    "run_contents",
    "sweep_contents",
    "write",
]

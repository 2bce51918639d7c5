"""Programs that are compiled without being trained: ahead of a run, or for a profile of a few steps.

This face imports no torch; :mod:`.ahead` and :mod:`.profile` do.
"""

from .errors import CompileError

__all__ = ["CompileError"]

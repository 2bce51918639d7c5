"""Programs that are compiled without being trained: ahead of a run, or for a profile of a few steps."""

from .ahead import CompileError, compile_ahead
from .profile import ProfileError, profile

__all__ = ["CompileError", "ProfileError", "compile_ahead", "profile"]

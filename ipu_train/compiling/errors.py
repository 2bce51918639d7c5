"""The errors of this room."""


class CompileError(ValueError):
    """Programs that cannot be compiled ahead; the message says why."""

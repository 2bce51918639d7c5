"""The error of this room."""


class UseError(ValueError):
    """A model that cannot be used as asked; the message says why and what to do."""

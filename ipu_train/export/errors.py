"""The error of this room."""


class ExportError(ValueError):
    """A network that cannot be written as asked; the message says why and what to do."""

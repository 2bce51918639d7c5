"""What ``ipu-train inspect`` refuses."""


class InspectError(ValueError):
    """An inspection that cannot be made; the message says why and what to do."""

"""How a process ends because of another one. No torch in here."""

EXIT_STATUS = 5


class ProcessLost(ValueError):
    """Another process of the training has ended unexpectedly, and nobody has said why."""

    exit_status = EXIT_STATUS


class Elsewhere(ValueError):
    """The training ends for a reason that another process tells; this one is silent."""

    def __init__(self, exit_status: int = EXIT_STATUS) -> None:
        super().__init__("")
        self.exit_status = exit_status

"""What can be wrong with tuning; messages are meant for its user."""


class TuneError(ValueError):
    """Tuning that cannot be done; the message says what, where and what to do."""


class NoChoiceFits(TuneError):
    """Nothing that was tried fits in the memory of the IPUs."""

    exit_status = 3

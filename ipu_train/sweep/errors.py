"""What can be wrong with a sweep; messages are meant for its user."""


class SweepError(ValueError):
    """A sweep that cannot be made; the message says what, where and what to do."""


class NothingFits(SweepError):
    """The sweep is done and written, and none of its points fits in the memory of the IPUs."""

    exit_status = 3

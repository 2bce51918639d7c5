"""What cannot be shown."""


class PageError(ValueError):
    """A page that cannot be written where it was asked for; the message says what to do."""

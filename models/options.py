"""A network's own options, checked before anything is built from them."""


class OptionError(ValueError):
    """A value that an option cannot have; ``option`` is its name."""

    def __init__(self, option: str, message: str):
        super().__init__(message)
        self.option = option


def check_range(option: str, value: float, fits: bool, what: str) -> None:
    """OptionError with ``what`` the value must be unless it ``fits``."""
    if not fits:
        raise OptionError(option, f"{option} is {value}; it must be {what}")

"""What PopTorch does not refuse, but computes otherwise than torch, or hands on so that PopART fails."""


class Otherwise(str):
    """Said of a call as why it is refused, where it is not: a warning."""

"""What PopTorch does not refuse, but computes otherwise than torch, or hands on so that PopART fails."""


class Otherwise(str):
    """What a rule says of a call that is warned of and not refused."""

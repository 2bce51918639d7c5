"""What ``poptorch.Options`` is made of."""

"""The version of ipu-train, which setup.cfg reads here."""

__version__ = "0.1.0"

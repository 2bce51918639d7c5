"""The photographs and the run that the tests of this room use."""

from ..photographs import images, trained_run  # noqa: F401

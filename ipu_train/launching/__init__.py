"""How a training is started on an IPU-POD: instances, host workers, partition, and the line that starts them."""

from .shape import LaunchError, Shape, System, shape_of

__all__ = ["LaunchError", "Shape", "System", "shape_of"]

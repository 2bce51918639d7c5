"""A configuration's network, and all that the training loop works with, for programs that have loops of their own."""

from .network import build_network
from .training.assembly import Assembly, assemble, example_batch

__all__ = ["Assembly", "assemble", "build_network", "example_batch"]

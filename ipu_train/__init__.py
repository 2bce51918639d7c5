"""Train batch-independent CNNs on Graphcore IPUs through PopTorch, or on an embedded emulator of it.

This module imports nothing heavy: ``ipu-train --help`` must answer at once.
"""

__version__ = "0.1.0"

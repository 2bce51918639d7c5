"""``python -m ipu_train`` is ``ipu-train``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

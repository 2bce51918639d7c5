"""The operators built against the Poplar SDK: where their library is. Imports no torch."""

import os
from pathlib import Path

LIBRARY = "libproxy_norm.so"


def library_path() -> Path:
    folder = os.environ.get("IPU_TRAIN_POPART_OPS") or str(Path(__file__).resolve().parent / "build")
    return Path(folder) / LIBRARY


def is_built() -> bool:
    """Whether the library for the SDK is where :func:`ipu_train.kernels.op.load_library` looks for it."""
    return library_path().exists()

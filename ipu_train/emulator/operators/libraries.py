"""Compiled libraries of PopART operators: a program loads them, and there is nothing here that could run them."""

import ctypes
import os
from typing import Any

from .._logging import logger

_load = ctypes.CDLL.__init__


def leave_out_libraries() -> None:
    """From now on a library file that cannot be loaded is warned of, for ``ctypes`` and ``torch.ops.load_library``.

    Libraries that are named without a folder are looked for by the system, and missed as ever.
    """

    def load_or_warn(self: Any, name: Any, *args: Any, **kwargs: Any) -> None:
        try:
            _load(self, name, *args, **kwargs)
        except OSError as error:
            if name is None or os.path.basename(str(name)) == str(name):
                raise
            logger.warning(
                "%s is left out: what custom operators compute is said in Python (%s)", name, error
            )
            self._name, self._handle = str(name), 0

    ctypes.CDLL.__init__ = load_or_warn  # type: ignore[method-assign]

"""Where commands keep the plans of convolutions, so that the next command need not search them again."""

import os
from pathlib import Path
from typing import Optional

from ..ipumodel.convolution import kept

VARIABLE = "IPU_TRAIN_CACHE"  # another folder, or "off"


def keep_plans() -> None:
    """Keep plans in the user's cache folder, or where the environment says."""
    kept.keep_in(_folder())


def _folder() -> Optional[Path]:
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return None if chosen == "off" else Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "ipu-train"
    except RuntimeError:  # no home folder
        return None

"""Word that a process leaves when it ends with an error, so that the others, who find it gone, need not tell it again.

It is left in the store at which the processes met: ``torchrun``'s outlives each of them.
"""

import os
import time
from datetime import timedelta
from typing import Any, Optional

import torch

_PREFIX = "ipu-train"
_PATIENCE = timedelta(seconds=10)
_LINGERING = 15.0  # seconds: on a busy machine a process may notice late that another is gone
_LINGERING_FOR_THE_LAST = 3.0


class Notice:
    """Connected to the store of ``torch.distributed``, whose address the launcher has set."""

    def __init__(self) -> None:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._key = f"{_PREFIX}/{os.environ.get('TORCHELASTIC_RUN_ID', '')}/{attempt}"
        self._store: Any = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_PATIENCE
        )

    def may_speak(self, index: int) -> bool:
        """Whether this process, which ends, is the one to say why, its own error or another's end: nobody has yet."""
        before = self._ended(1)
        if before is None:  # process 0 has gone, and the store with it
            return index == 1
        return before == 1

    def linger(self, index: int, count: int) -> None:
        """Keep the store until the others have come by, if it is this process's: one that is killed never does."""
        if index or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            return
        limit = time.monotonic() + _LINGERING
        expected = count - 1  # one is dead, mostly; should it not be, it has a little more time
        while time.monotonic() < limit:
            found = self._ended(0) or count
            if found >= count:
                return
            if found >= expected:
                expected = count
                limit = min(limit, time.monotonic() + _LINGERING_FOR_THE_LAST)
            time.sleep(0.05)

    def _ended(self, more: int) -> Optional[int]:
        """How many have come by, ``more`` included; None without a store."""
        try:
            return int(self._store.add(f"{self._key}/ended", more))
        except RuntimeError:  # torch.distributed.DistError is one
            return None

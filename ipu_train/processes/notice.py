"""Word that a process leaves when it ends with an error, so that the others, who find it gone, need not tell it again.

It is left in the store at which the processes met: ``torchrun``'s outlives each of them.
"""

import os
import time
from datetime import timedelta
from typing import Any, Optional

import torch

_PREFIX = "ipu-train"
_PATIENCE = timedelta(seconds=30)
_LINGERING = 60.0  # seconds: who has no connection to the one that is gone notices late on a busy machine
_LINGERING_FOR_THE_LAST = 3.0


class Notice:
    """Connected to the store of ``torch.distributed``, whose address the launcher has set."""

    def __init__(self) -> None:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._key = f"{_PREFIX}/{os.environ.get('TORCHELASTIC_RUN_ID', '')}/{attempt}"
        self._store: Any = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_PATIENCE
        )
        # ends with the last reference to it, in the process that is its server
        self._server = torch.distributed.distributed_c10d._get_default_store()
        self._may_speak: Optional[bool] = None

    def may_speak(self, index: int) -> bool:
        """Whether this process, which ends, is the one to say why, its own error or another's end: nobody has yet.

        Asked again, it answers the same: a process counts once.
        """
        if self._may_speak is None:
            before = self._ended(1)
            # without an answer process 0 has gone, and the store with it
            self._may_speak = index == 1 if before is None else before == 1
        return self._may_speak

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

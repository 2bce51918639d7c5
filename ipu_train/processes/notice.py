"""Word that a process leaves when it ends with an error, so that the others, who find it gone, need not tell it again.

It is left in the store at which the processes met: ``torchrun``'s outlives each of them.
"""

import os
from datetime import timedelta
from typing import Any, Optional

import torch

_PREFIX = "ipu-train"
_PATIENCE = timedelta(seconds=10)


class Notice:
    """Connected to the store of ``torch.distributed``, whose address the launcher has set."""

    def __init__(self) -> None:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._key = f"{_PREFIX}/{os.environ.get('TORCHELASTIC_RUN_ID', '')}/{attempt}"
        self._store: Optional[Any] = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_PATIENCE
        )

    def leave(self) -> None:
        """This process ends, and has said why."""
        self._add(f"{self._key}/ended")

    def may_speak(self, index: int) -> bool:
        """Whether this process is the one to say that another has gone: nobody has, and that one has not itself."""
        first = self._add(f"{self._key}/ended")
        if first is None:  # process 0 has taken the store with it
            return index == 1
        return first == 1

    def _add(self, key: str) -> Optional[int]:
        """The count of those who have come here; None without a store."""
        try:
            return int(self._store.add(key, 1)) if self._store is not None else None
        except RuntimeError:  # torch.distributed.DistError is one
            return None

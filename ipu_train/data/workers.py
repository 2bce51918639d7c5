"""Processes that load images beside the main one, and leave signals to it.

Ctrl-C, systemd, scancel and containers signal every process of a job. A worker goes when the main process says so, with
SIGTERM, or has gone.
"""

import multiprocessing
import os
import signal
import threading
from typing import Any, Optional

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def context() -> Optional[Any]:
    """What starts workers: forks that are born with these signals blocked; None where there is no fork."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return None
    from multiprocessing.context import ForkContext, ForkProcess

    class Worker(ForkProcess):
        def start(self) -> None:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    class Workers(ForkContext):
        Process = Worker

    return Workers()


def leave_stopping_to(parent: int) -> None:
    """In a worker: end by SIGTERM of the main process ``parent`` alone.

    The main thread may be deep in a file system, so a thread of its own waits for signals.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)

    def wait() -> None:
        while True:
            received = signal.sigwaitinfo([signal.SIGTERM])
            if received.si_pid == parent or os.getppid() != parent:
                os._exit(0)

    threading.Thread(target=wait, daemon=True).start()

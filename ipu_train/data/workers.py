"""Processes that load images beside the main one."""

import os
import signal
import threading


def leave_stopping_to(parent: int) -> None:
    """In a data worker: signals to the whole process group are the main process's business.

    Ctrl-C, systemd, scancel and containers signal every process of a job. A worker goes when the main process says so,
    with SIGTERM, or has gone. The main thread may be deep in a file system, so a thread of its own waits for signals.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def wait() -> None:
        while True:
            received = signal.sigwaitinfo([signal.SIGTERM])
            if received.si_pid == parent or os.getppid() != parent:
                os._exit(0)

    threading.Thread(target=wait, daemon=True).start()

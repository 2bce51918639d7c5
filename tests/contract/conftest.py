"""Executors that give their device back after each test, since a machine may have a single IPU."""

import os

import pytest


@pytest.fixture()
def executors(poptorch):
    """``training(...)`` and ``inference(...)`` as poptorch's functions; all are destroyed at the end."""
    made = Executors(poptorch)
    yield made
    made.destroy()


class Executors:
    def __init__(self, poptorch):
        self.poptorch, self.made = poptorch, []

    def training(self, *args, **kwargs):
        self.made.append(self.poptorch.trainingModel(*args, **kwargs))
        return self.made[-1]

    def inference(self, *args, **kwargs):
        self.made.append(self.poptorch.inferenceModel(*args, **kwargs))
        return self.made[-1]

    def destroy(self):
        for executor in self.made:
            if executor.isCompiled() and executor.isAttachedToDevice():
                executor.detachFromDevice()  # at once, whoever still refers to the executable
            executor.destroy()
        self.made = []


@pytest.fixture()
def needs_ipus(poptorch):
    """Skips a test where there are IPUs, but fewer than it needs."""

    def check(count):
        simulated = os.environ.get("POPTORCH_IPU_MODEL", "0") not in ("", "0")
        if not simulated and not poptorch.ipuHardwareIsAvailable(count):
            pytest.skip(f"needs {count} IPUs")

    return check

"""What compiling and attaching log (PopTorch 3.4 user guide, "Logging"; scripts look for these words)."""

import logging
import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

import ipu_train
import ipu_train.emulator as poptorch
from ipu_train.emulator._logging import TRACE
from ipu_train.emulator.device import devices

from ..networks import options


@pytest.fixture()
def log(caplog):
    with caplog.at_level(TRACE, logger="poptorch::python"):
        yield caplog


def position(log, *parts):
    """Index of the first message that contains all the parts."""
    return next(i for i, text in enumerate(log.messages) if all(part in text for part in parts))


def test_compiling_logs_every_setting(log):
    chosen = options(iterations=2)
    chosen._Popart.set("hardwareInstrumentations", {1})
    poptorch.inferenceModel(nn.Linear(2, 2), chosen).compile(torch.ones(2, 2))
    assert "poptorch.Options set device_iterations to value 2" in log.messages
    assert "poptorch.Options set rearrangeAnchorsOnHost to value false" in log.messages
    assert "poptorch.Options added 1 to hardwareInstrumentations" in log.messages


@pytest.mark.parametrize("chosen, expected", [(True, "Enabled"), (False, "Disabled"), (None, None)])
def test_only_a_target_that_was_chosen_is_mentioned(caplog, chosen, expected):
    settings = options()
    if chosen is not None:
        settings.useIpuModel(chosen)
    with caplog.at_level(logging.INFO, logger="poptorch::python"):
        poptorch.inferenceModel(nn.ReLU(), settings)(torch.ones(1))
    found = [text for text in caplog.messages if "Ipu model" in text]
    assert found == ([f"From the user configuration: Ipu model: {expected}"] if expected else [])


@pytest.mark.parametrize("half", [False, True])
def test_the_graph_shows_types_of_weights_and_of_partial_sums(log, half):
    model = nn.Sequential(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(8, 3))
    chosen = options()
    chosen.Precision.setPartialsType(torch.half if half else torch.float)
    x = torch.randn(2, 4, 2)
    poptorch.inferenceModel(model.half() if half else model, chosen)(x.half() if half else x)
    kind = "Half" if half else "Float"
    lowered = position(log, "lowered to PopART")
    assert (
        position(log, f": {kind}(4, strides=[1], requires_grad=0, device=ipu:0) -> 1.running_var") > lowered
    )
    assert position(log, f": {kind}(3, 8, strides=[8, 1], ", "-> 3.weight") > lowered
    name = "half" if half else "float"
    position(log, f'"partialsType":"MatMulPartialsType::{name.upper()}"')
    position(log, f'"partialsType[0]":"{name}"')


def test_cycles_are_logged_where_they_are_counted(log):
    poptorch.inferenceModel(nn.ReLU(), options())(torch.ones(1))
    counting = poptorch.inferenceModel(nn.ReLU(), options().logCycleCount(True))
    assert not any("IPU cycles" in text for text in log.messages)
    counting(torch.ones(1))
    assert f"Total number of IPU cycles: {counting.cycleCount()}" in log.messages


class TestDevices:
    @pytest.fixture(autouse=True)
    def _all_devices_are_free(self, monkeypatch):
        monkeypatch.setattr(devices, "_others", {})

    def executor(self, kind):
        return poptorch.inferenceModel(nn.ReLU(), options().connectionType(kind))

    def test_on_demand_compiles_for_the_first_device_and_then_takes_a_free_one(self, log):
        first, second = (self.executor(poptorch.ConnectionType.OnDemand) for _ in range(2))
        for device, executor in enumerate((first, second)):
            log.clear()
            executor(torch.ones(1))
            acquired = position(log, "Acquired 1 IPU(s): running on device Id 0")
            compiled = position(log, "Finished Poplar compilation")
            assert acquired < compiled < position(log, f"Attached to device {device}")

    def test_otherwise_a_free_device_is_taken_before_compiling(self, log):
        busy = self.executor(poptorch.ConnectionType.Always)
        busy(torch.ones(1))
        other = self.executor(poptorch.ConnectionType.Always)
        log.clear()
        other(torch.ones(1))
        acquired = position(log, "Acquired 1 IPU(s): running on device Id 1")
        assert acquired < position(log, "Attached to device 1") < position(log, "Finished Poplar compilation")
        busy.detachFromDevice()
        log.clear()
        other.detachFromDevice()
        other(torch.ones(1))
        position(log, "Attached to device 0")

    def test_a_device_that_another_process_holds_is_waited_for_or_refused(self, log, monkeypatch, tmp_path):
        program = tmp_path / "hold.py"
        program.write_text(
            "import sys, torch\n"
            "import ipu_train.emulator as poptorch\n"
            "executor = poptorch.inferenceModel(torch.nn.ReLU(), poptorch.Options().useIpuId(5))\n"
            "executor.compile(torch.ones(1))\n"
            "print('holding', flush=True)\n"
            "sys.stdin.readline()\n"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        package = os.path.dirname(os.path.dirname(os.path.abspath(ipu_train.__file__)))
        paths = os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])
        environment = dict(os.environ, PYTHONPATH=paths)
        with subprocess.Popen([sys.executable, str(program)], text=True, env=environment, **pipes) as other:
            assert other.stdout.readline() == "holding\n"
            chosen = options().useIpuId(5)
            monkeypatch.setenv("POPTORCH_WAIT_FOR_IPU", "0")
            with pytest.raises(poptorch.Error, match="Failed to acquire"):
                poptorch.inferenceModel(nn.ReLU(), chosen)(torch.ones(1))
            monkeypatch.setenv("POPTORCH_WAIT_FOR_IPU", "1")
            timer = threading.Timer(0.2, other.stdin.close)
            timer.start()
            assert poptorch.inferenceModel(nn.ReLU(), chosen)(torch.ones(1)).item() == 1.0
            timer.join()
        position(log, "No IPU available, sleeping")

    def test_replicas_and_stages_count_as_ipus(self, log):
        class Split(nn.Module):
            def forward(self, x):
                with poptorch.Block("a", ipu_id=0):
                    x = x + 1
                with poptorch.Block("b", ipu_id=1):
                    return x * 2

        chosen = options(replicas=2)
        chosen.setExecutionStrategy(poptorch.ShardedExecution(poptorch.Stage("a"), poptorch.Stage("b")))
        poptorch.inferenceModel(Split(), chosen)(torch.ones(2))
        position(log, "Acquired 4 IPU(s)")

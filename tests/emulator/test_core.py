"""Exceptions, logging, enumerations and helpers (PopTorch 3.4 API reference)."""

import copy
import enum
import logging
import pickle
import re

import pytest
import torch

from ipu_train import emulator as poptorch
from ipu_train.emulator import _impl, _logging, enums, poptorch_core, profiling, testing
from ipu_train.emulator.poptorch_core import TestErrorType as ErrorType


class TestErrors:
    TYPES = {
        ErrorType.Poptorch: "poptorch_cpp_error",
        ErrorType.Popart: "popart_exception",
        ErrorType.PopartInternal: "popart_internal_exception",
        ErrorType.Poplibs: "poplibs_exception",
        ErrorType.PoplarUnrecoverable: "poplar_unrecoverable_runtime_error",
        ErrorType.PoplarUnknown: "poplar_unknown_runtime_error",
        ErrorType.PoplarRecoverableFullReset: "poplar_recoverable_runtime_error",
        ErrorType.PoplarLinkError: "poplar_link_error",
    }

    @pytest.mark.parametrize("kind", list(ErrorType))
    def test_errors_say_what_where_and_in_which_component(self, kind):
        with pytest.raises(poptorch.Error) as raised:
            poptorch_core._throwTestError(kind)
        error = raised.value
        assert error.type == self.TYPES[kind]
        assert error.type in str(error) and error.message in str(error)
        for level in ("throwTestError::topLevel", "throwTestError::bottomLevel"):
            assert error.location.count(level) == 1
            assert level in error.args[0]
            assert level not in error.message

    def test_recoverable_errors_say_how_to_recover(self):
        with pytest.raises(poptorch.RecoverableError) as raised:
            poptorch_core._throwTestError(ErrorType.PoplarRecoverableFullReset)
        assert raised.value.recovery_action == "FULL_RESET"
        assert "FULL_RESET" in str(raised.value)

    def test_only_one_kind_is_unrecoverable(self):
        for kind in ErrorType:
            with pytest.raises(poptorch.Error) as raised:
                poptorch_core._throwTestError(kind)
            assert isinstance(raised.value, poptorch.UnrecoverableError) == (
                kind == ErrorType.PoplarUnrecoverable
            )
            assert isinstance(raised.value, poptorch.RecoverableError) == (
                kind == ErrorType.PoplarRecoverableFullReset
            )

    def test_link_errors_end_with_what_the_linker_said(self):
        with pytest.raises(poptorch.Error) as raised:
            poptorch_core._throwTestError(ErrorType.PoplarLinkError)
        assert raised.value.message.endswith("-lfoo not found")

    def test_front_end_errors(self):
        error = poptorch.createPoptorchError("went wrong")
        assert isinstance(error, poptorch.Error) and not isinstance(error, RuntimeError)
        assert (error.type, error.message, error.location) == ("poptorch_py_error", "went wrong", "")
        assert str(error) == "'poptorch_py_error': went wrong"
        assert poptorch.Error is poptorch_core.Error
        assert issubclass(poptorch.RecoverableError, poptorch.Error)
        assert issubclass(poptorch.UnrecoverableError, poptorch.Error)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
    def test_errors_keep_their_attributes_across_processes(self, copied):
        error = copied(_impl.createPoptorchError("went wrong"))
        assert (error.type, error.message, str(error)) == (
            "poptorch_py_error",
            "went wrong",
            "'poptorch_py_error': went wrong",
        )


class TestHardware:
    def test_models_compile_without_tracing(self):
        assert poptorch.hasMLIRSupportOnPlatform() is True

    def test_the_emulator_counts_as_hardware_unless_told_otherwise(self, monkeypatch):
        monkeypatch.delenv("POPTORCH_EMULATOR_IPUS", raising=False)
        assert poptorch.ipuHardwareIsAvailable() and poptorch.ipuHardwareIsAvailable(64)
        assert not poptorch.ipuHardwareIsAvailable(65)
        assert not poptorch.ipuHardwareIsAvailable(3)  # devices have powers of two of IPUs
        monkeypatch.setenv("POPTORCH_EMULATOR_IPUS", "4")
        assert poptorch.ipuHardwareIsAvailable(4) and not poptorch.ipuHardwareIsAvailable(5)
        monkeypatch.setenv("POPTORCH_EMULATOR_IPUS", "0")
        assert not poptorch.ipuHardwareIsAvailable()
        with pytest.raises(AssertionError):
            poptorch.ipuHardwareVersion()
        monkeypatch.setenv("POPTORCH_EMULATOR_IPUS", "many")
        with pytest.raises(ValueError, match="POPTORCH_EMULATOR_IPUS"):
            poptorch.ipuHardwareIsAvailable()

    @pytest.mark.parametrize(
        "name, version", [(None, 2), ("ipu2", 2), ("ipu21", 21), ("ipu1", 1), ("wibble", -1)]
    )
    def test_versions(self, monkeypatch, name, version):
        monkeypatch.delenv("POPTORCH_IPU_MODEL_VERSION", raising=False)
        if name is not None:
            monkeypatch.setenv("POPTORCH_IPU_MODEL_VERSION", name)
        assert poptorch.ipuHardwareVersion() == version


@pytest.fixture
def level():
    """Puts the log level back."""
    before = poptorch.logger.level
    yield
    poptorch.logger.setLevel(before)


@pytest.mark.usefixtures("level")
class TestLogging:
    LEVELS = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "WARN": 3, "ERR": 4, "OFF": 6}

    @pytest.mark.parametrize("name", LEVELS)
    def test_levels_have_names_and_numbers(self, name):
        poptorch.setLogLevel(name)
        by_name = poptorch.logger.level
        poptorch.setLogLevel("OFF" if name != "OFF" else "TRACE")
        poptorch.setLogLevel(self.LEVELS[name])
        assert poptorch.logger.level == by_name

    def test_levels_are_ordered(self):
        levels = []
        for number in self.LEVELS.values():
            poptorch.setLogLevel(number)
            levels.append(poptorch.logger.level)
        assert levels == sorted(levels) and len(set(levels)) == 6

    def test_unadvertised_levels_are_understood(self):
        poptorch.setLogLevel("TRACE_ALL")
        poptorch.setLogLevel("DEBUG_IR")
        assert poptorch.logger.isEnabledFor(logging.DEBUG)

    def test_other_levels_are_refused(self):
        for number in (5, 7, -1):
            with pytest.raises(ValueError, match="Invalid log level integer"):
                poptorch.setLogLevel(number)
        with pytest.raises(ValueError, match=r"Unknown log level: X.*DEBUG, ERR, INFO, OFF, TRACE and WARN"):
            poptorch.setLogLevel("X")

    def test_popart_levels_are_names(self):
        for name in self.LEVELS:
            _logging.setPopartLogLevel(name)
        for wrong in (0, "FOO"):
            with pytest.raises(ValueError, match="Level must be one of"):
                _logging.setPopartLogLevel(wrong)
        _logging.setPopartLogLevel("WARN")

    @pytest.mark.parametrize(
        "text, level", [("DEBUG", "DEBUG"), ("2", "INFO"), (None, "WARN"), ("wibble", "WARN")]
    )
    def test_the_environment_sets_the_first_level(self, monkeypatch, caplog, text, level):
        monkeypatch.delenv("POPTORCH_LOG_LEVEL", raising=False)
        if text is not None:
            monkeypatch.setenv("POPTORCH_LOG_LEVEL", text)
        _logging._levelFromEnvironment()
        found = poptorch.logger.level
        poptorch.setLogLevel(level)
        assert poptorch.logger.level == found
        assert ("Unknown log level: wibble" in caplog.text) == (text == "wibble")

    def test_lines_go_to_standard_error_with_time_and_level(self, capsys):
        assert poptorch.logger.name == "poptorch::python"
        poptorch.setLogLevel("TRACE")
        poptorch.logger.warning("take %s", "care")
        poptorch.logger.debug("detail")
        _logging.trace("more detail")
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        clock = r"\[\d\d:\d\d:\d\d\.\d\d\d\]"
        assert re.fullmatch(clock + r" \[poptorch::python\] \[warning\] take care", lines[0])
        assert re.fullmatch(clock + r" \[poptorch::python\] \[debug\] detail", lines[1])
        assert re.fullmatch(clock + r" \[poptorch::python\] \[trace\] more detail", lines[2])
        assert captured.out == ""
        poptorch.setLogLevel("OFF")
        poptorch.logger.critical("nothing")
        assert capsys.readouterr().err == ""


def test_enumerations_have_poptorchs_values():
    expected = {
        "OutputMode": "Final EveryN All Sum Default",
        "ConnectionType": "Always OnDemand Never",
        "DataLoaderMode": "Sync Async AsyncRebatched",
        "SharingStrategy": "SharedMemory FileSystem Fork ForkServer",
        "ReductionType": "Sum Mean NoReduction",
        "MeanReductionStrategy": "Running Post PostAndLoss",
        "SyncPattern": "Full SinglePipeline ReplicaAndLadder",
        "HalfFloatCastingBehavior": "FloatDowncastToHalf HalfUpcastToFloat Default",
        "Liveness": "AlwaysLive OffChipAfterFwd OffChipAfterFwdNoOverlap OffChipAfterEachPhase",
        "AutoStage": "SameAsIpu AutoIncrement",
        "MultiConvPlanType": "Parallel Serial",
        "CommGroupType": "All Consecutive Orthogonal NoGrouping",
    }
    for name, members in expected.items():
        enumeration = getattr(poptorch, name)
        assert issubclass(enumeration, enum.IntEnum)
        assert [(m.name, m.value) for m in enumeration] == list(zip(members.split(), range(10)))
    assert [(m.name, m.value) for m in enums.VariableRetrievalMode] == [
        ("OnePerGroup", 0),
        ("AllReplicas", 2),
    ]
    assert {m.name: m.value for m in enums.MatMulSerializationMode} == {
        "InputChannels": "input_channels",
        "ReducingDim": "reducing_dim",
        "OutputChannels": "output_channels",
        "Disabled": "none",
    }
    assert {m.name: m.value for m in enums.OverlapMode} == {
        "NoOverlap": "no_overlap",
        "OverlapAccumulationLoop": "overlap_accumulation_loop",
        "OverlapDeviceIterationLoop": "overlap_device_iteration_loop",
    }
    assert set(enums.__all__) == set(expected) | {
        "VariableRetrievalMode",
        "MatMulSerializationMode",
        "OverlapMode",
    }


def test_outputs_are_compared_within_structures():
    a = torch.tensor([1.0, 2.0])
    assert testing.allclose(a, a + 1e-7)
    assert not testing.allclose(a, a + 1e-2)
    assert not testing.allclose(a, a * (1 + 5e-5)), "as close as torch.allclose asks for, as in PopTorch"
    assert testing.allclose(a, a * (1 + 5e-5), rtol=1e-4)
    assert testing.allclose([a, (a, a)], [a, (a, a)])
    assert not testing.allclose([a, a], [a]), "lengths must agree"
    assert not testing.allclose([a], (a,)), "types must agree"
    assert not testing.allclose(a, torch.ones(1)), "shapes must agree"


def test_trace_points_do_nothing():
    channel = profiling.Channel("steps")
    model = torch.nn.Linear(1, 1)
    assert channel.instrument(model, "forward", "train") is model
    with channel.tracepoint("one"):
        assert torch.is_tensor(model(torch.ones(1)))

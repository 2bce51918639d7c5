"""Stages, phases and execution strategies (PopTorch 3.4 user guide, "Multi-IPU execution strategies")."""

import pytest

from ipu_train import emulator as poptorch
from ipu_train.emulator.options import (
    ParallelPhasedExecution,
    Phase,
    PipelinedExecution,
    SerialPhasedExecution,
    ShardedExecution,
    Stage,
)


class TestStage:
    def test_starts_without_place(self):
        stage = Stage("a", "b")
        assert stage.blocks == ("a", "b")
        assert (stage._stage_id, stage._phase_id, stage._ipu) == (-1, -1, None)

    def test_is_made_of_strings(self):
        with pytest.raises(AssertionError):
            Stage("a", 1)

    def test_sits_on_an_integer_ipu(self):
        stage = Stage("a")
        assert stage.ipu(3) is stage and stage._ipu == 3
        with pytest.raises(AssertionError):
            stage.ipu("3")


class TestPhase:
    def test_strings_make_one_stage(self):
        phase = Phase("a", "b")
        assert [stage.blocks for stage in phase.stages] == [("a", "b")]

    def test_stages_stay_stages(self):
        a, b = Stage("a"), Stage("b")
        phase = Phase(a, b)
        assert phase.stages == [a, b] and phase.stage(1) is b
        assert phase.ipus(2, 5) is phase
        assert (a._ipu, b._ipu) == (2, 5)

    def test_a_mix_is_refused(self):
        with pytest.raises(AssertionError):
            Phase(Stage("a"), "b")

    def test_every_stage_needs_an_ipu(self):
        with pytest.raises(AssertionError):
            Phase(Stage("a"), Stage("b")).ipus(1)


@pytest.mark.parametrize("strategy", [PipelinedExecution, ShardedExecution])
class TestPipelined:
    def test_blocks_can_be_given_in_any_form(self, strategy):
        stage = Stage("c").ipu(7)
        execution = strategy("a", ["b", "b2"], stage)
        assert execution.stage("a").blocks == ("a",)
        assert execution.stage("b2").blocks == ("b", "b2")
        assert execution.stage("c") is stage
        assert [execution.stage(b)._stage_id for b in ("a", "b", "c")] == [0, 1, 2]

    def test_unknown_blocks_are_refused(self, strategy):
        with pytest.raises(AssertionError):
            strategy("a").stage("b")

    def test_a_block_is_in_one_stage_only(self, strategy):
        with pytest.raises(AssertionError):
            strategy("a", ["b", "a"])

    def test_an_auto_stage_stands_alone(self, strategy):
        with pytest.raises(AssertionError):
            strategy(poptorch.AutoStage.AutoIncrement, "a")
        with pytest.raises(AssertionError):
            strategy(3)

    def test_is_sharded_only_when_it_says_so(self, strategy):
        assert isinstance(strategy(), PipelinedExecution)
        assert strategy().backendOptions()["execution_mode"] == (1 if strategy is ShardedExecution else 0)


def test_options_pipeline_by_default_with_one_stage_per_ipu():
    strategy = poptorch.Options()._execution_strategy
    assert type(strategy) is PipelinedExecution
    assert strategy._auto_stage == poptorch.AutoStage.SameAsIpu


@pytest.mark.parametrize("strategy", [SerialPhasedExecution, ParallelPhasedExecution])
class TestPhased:
    def test_phases_can_be_given_in_any_form(self, strategy):
        phase = Phase("a")
        execution = strategy(phase, [Stage("b"), Stage("c")], ["d", "e"], "f")
        assert execution.phase(0) is phase
        assert [len(execution.phase(i).stages) for i in range(4)] == [1, 2, 1, 1]
        assert execution.stage("e").blocks == ("d", "e")
        assert [execution.stage(b)._phase_id for b in "abcdf"] == [0, 1, 1, 2, 3]

    def test_at_least_one_phase(self, strategy):
        with pytest.raises(AssertionError):
            strategy()

    def test_a_list_of_phases_is_refused(self, strategy):
        with pytest.raises(AssertionError):
            strategy([Phase("a"), Phase("b")])

    def test_a_block_is_in_one_stage_only(self, strategy):
        with pytest.raises(AssertionError):
            strategy("a", ["b", "a"])

    def test_the_backward_pass_may_have_a_phase_of_its_own(self, strategy):
        execution = strategy("a")
        assert not execution.backendOptions()["separate_backward_phase"]
        assert execution.useSeparateBackwardPhase() is execution
        assert execution.backendOptions()["separate_backward_phase"]


def test_liveness_of_phased_executions():
    serial = SerialPhasedExecution("a")
    assert serial.setTensorsLiveness(poptorch.Liveness.OffChipAfterEachPhase) is serial
    assert serial.backendOptions()["tensors_liveness"] == poptorch.Liveness.OffChipAfterEachPhase
    with pytest.raises(AssertionError):
        serial.setTensorsLiveness(3)
    parallel = ParallelPhasedExecution("a")
    assert (
        parallel.sendTensorsOffChipAfterFwd(False).backendOptions()["tensors_liveness"]
        == poptorch.Liveness.AlwaysLive
    )

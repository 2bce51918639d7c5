"""From blocks to stages, IPUs and pipelines (PopTorch 3.4 user guide, "Pipelined execution")."""

import pytest
import torch

from ipu_train import emulator as poptorch
from ipu_train.emulator.capture import stages
from ipu_train.emulator.capture.stages import StageTracker, forwardStages, reservedIpus
from ipu_train.emulator.enums import AutoStage
from ipu_train.emulator.options import (
    ParallelPhasedExecution,
    Phase,
    PipelinedExecution,
    SerialPhasedExecution,
    ShardedExecution,
    Stage,
)


def track(strategy, *blocks, before=False):
    """(IPU, stage) of one operation in each block, and the tracker."""
    tracker = StageTracker(strategy)
    if before:
        tracker.current()
    placements = []
    for block in blocks:
        tracker.enter(*block)
        placements.append(tuple(tracker.current()[:2]))
    return placements, tracker


class TestResolution:
    def test_operations_before_any_block_are_on_ipu_0_stage_0(self):
        for strategy in (
            PipelinedExecution(),
            PipelinedExecution(AutoStage.AutoIncrement),
            ShardedExecution("a"),
        ):
            assert tuple(StageTracker(strategy).current()[:2]) == (0, 0)

    def test_same_as_ipu(self):
        placements, _ = track(PipelinedExecution(), ("a", 2), ("b", 0), (None, 2))
        assert placements == [(2, 2), (0, 0), (2, 2)]

    def test_same_as_ipu_needs_an_ipu(self):
        with pytest.raises(AssertionError):
            track(PipelinedExecution(), ("a", None))

    def test_auto_increment_numbers_blocks_from_1(self):
        placements, _ = track(
            PipelinedExecution(AutoStage.AutoIncrement), (None, 0), (None, 1), (None, 2), (None, 1)
        )
        assert placements == [(0, 1), (1, 2), (2, 3), (1, 4)]

    def test_the_same_block_is_the_same_stage(self):
        placements, _ = track(
            PipelinedExecution(AutoStage.AutoIncrement), ("a", 0), ("b", 1), ("a", 0), ("c", 2)
        )
        assert placements == [(0, 1), (1, 2), (0, 1), (2, 3)]

    def test_explicit_stages_take_the_stages_ipu_then_the_blocks_then_their_own_number(self):
        strategy = PipelinedExecution(Stage("a").ipu(5), Stage("b"), ["c", "d"])
        placements, _ = track(strategy, ("a", 1), ("b", 3), ("c", None), ("d", None))
        assert placements == [(5, 0), (3, 1), (2, 2), (2, 2)]

    def test_explicit_stages_must_list_every_block(self):
        with pytest.raises(AssertionError):
            track(PipelinedExecution("a"), ("b", 0))

    def test_automatic_ids_count_blocks_and_can_start_again(self):
        tracker = StageTracker(PipelinedExecution(["0", "2"], ["1"]))
        stages = []
        for _ in range(2):
            tracker.useAutoId()
            for _ in range(3):
                tracker.enter(None, None)
                stages.append(tracker.current().stage)
        assert stages == [0, 1, 0, 0, 1, 0]

    def test_nothing_is_active_after_a_block_ends(self):
        tracker = StageTracker(PipelinedExecution())
        tracker.enter("a", 0)
        tracker.exit()
        with pytest.raises(poptorch.Error, match="No active Block"):
            tracker.current()
        tracker.enter("b", 1)
        assert tracker.current().ipu == 1


class TestPipelineLength:
    @pytest.mark.parametrize(
        "ipus, stages",
        [([], 1), ([0], 1), ([1], 2), ([0, 0, 0], 1), ([0, 1, 1, 2], 3), ([0, 1, 0], 3), ([1, 2, 1, 2], 5)],
    )
    def test_each_change_of_ipu_is_a_stage(self, ipus, stages):
        assert forwardStages(ipus) == stages

    def test_blocks_without_operations_do_not_count(self):
        tracker = StageTracker(PipelinedExecution())
        tracker.current()
        tracker.enter("a", 2)
        tracker.enter("b", 1)
        tracker.current()
        assert (tracker.forward_stages, tracker.num_ipus) == (2, 2)

    def blocks(self, forward_stages):
        return track(PipelinedExecution(), *[(None, i) for i in range(forward_stages)])[1]

    @pytest.mark.parametrize("forward_stages", [2, 4])
    def test_inference_needs_as_many_device_iterations_as_stages(self, forward_stages):
        tracker = self.blocks(forward_stages)
        opts = poptorch.Options().deviceIterations(forward_stages - 1).outputMode(poptorch.OutputMode.All)
        with pytest.raises(poptorch.Error, match="deviceIterations must be greater"):
            tracker.validate(opts, training=False)
        tracker.validate(opts.deviceIterations(forward_stages), training=False)

    @pytest.mark.parametrize("forward_stages, accumulation", [(2, 3), (4, 7)])
    def test_training_needs_accumulation_for_forward_and_backward_stages(self, forward_stages, accumulation):
        tracker = self.blocks(forward_stages)
        opts = poptorch.Options().deviceIterations(100).outputMode(poptorch.OutputMode.Final)
        opts.Training.gradientAccumulation(accumulation - 1)
        message = (
            rf"gradientAccumulation must be greater.*\({accumulation}\).*{forward_stages} pipeline stages"
            rf".*additional {forward_stages - 1}"
        )
        with pytest.raises(poptorch.Error, match=message):
            tracker.validate(opts, training=True)
        opts.Training.gradientAccumulation(accumulation)
        assert tracker.validate(opts, training=True) == forward_stages

    def test_one_ipu_has_no_minimum(self):
        opts = poptorch.Options().outputMode(poptorch.OutputMode.Final)
        for training in (True, False):
            assert self.blocks(1).validate(opts, training) == 1

    def test_shards_have_no_minimum(self):
        _, tracker = track(ShardedExecution(), (None, 0), (None, 1))
        opts = poptorch.Options().outputMode(poptorch.OutputMode.Final)
        for training in (True, False):
            assert tracker.validate(opts, training) == 2

    def test_every_n_outputs_do_not_go_with_a_pipeline(self):
        opts = poptorch.Options().deviceIterations(4).outputMode(poptorch.OutputMode.EveryN, 2)
        with pytest.raises(poptorch.Error, match="EveryN"):
            self.blocks(2).validate(opts, training=False)
        self.blocks(1).validate(opts, training=False)


class TestNumberOfIpus:
    def test_replicas_multiply(self):
        _, tracker = track(PipelinedExecution(), (None, 0), (None, 3), (None, 0))
        assert tracker.num_ipus == 4
        opts = poptorch.Options().replicationFactor(4).deviceIterations(3).outputMode(poptorch.OutputMode.All)
        assert tracker.validate(opts, training=False) == 16

    @pytest.mark.parametrize("ids", [(1, 2), (0, 2), (2,)])
    def test_ids_left_out_count_too(self, ids):
        """PopTorch's CompilerImpl::createDevice: the highest id says how many."""
        _, tracker = track(ShardedExecution(), *((None, ipu) for ipu in ids))
        opts = poptorch.Options().outputMode(poptorch.OutputMode.All)
        assert tracker.num_ipus == 3
        with pytest.raises(poptorch.Error, match="specifies the use of 3 IPUs"):
            tracker.validate(opts, training=False)
        assert tracker.validate(opts.autoRoundNumIPUs(), training=False) == 4

    def test_one_ipu_is_no_pipeline_whatever_its_id(self):
        _, tracker = track(PipelinedExecution(), (None, 1))
        opts = poptorch.Options().deviceIterations(4).outputMode(poptorch.OutputMode.EveryN, 2)
        assert tracker.validate(opts, training=False) == 2

    def test_hardware_wants_a_power_of_2(self, caplog):
        with pytest.raises(poptorch.Error, match=r"power of 2.*autoRoundNumIPUs"):
            reservedIpus(3, 1, any_number=False)
        stages._warn_of_rounding.cache_clear()
        for _ in ("training", "validation"):
            assert reservedIpus(3, 2, any_number=True) == 8
        (warning,) = caplog.records  # one for both programs of a run
        assert "8" in warning.getMessage() and "6" in warning.getMessage()
        caplog.clear()
        assert reservedIpus(2, 2, any_number=False) == 4
        assert not caplog.records

    def test_the_ipu_model_takes_any_number(self):
        _, tracker = track(ShardedExecution(), (None, 0), (None, 1), (None, 2))
        opts = poptorch.Options().outputMode(poptorch.OutputMode.All)
        assert tracker.validate(opts, training=False, hardware=False) == 3
        with pytest.raises(poptorch.Error, match="power of 2"):
            tracker.validate(opts, training=False)

    def test_the_number_is_refused_before_the_pipeline(self):
        _, tracker = track(PipelinedExecution(), (None, 0), (None, 1), (None, 2))
        opts = poptorch.Options().outputMode(poptorch.OutputMode.All)
        with pytest.raises(poptorch.Error, match="power of 2"):
            tracker.validate(opts, training=False)
        with pytest.raises(poptorch.Error, match="deviceIterations"):
            tracker.validate(opts.autoRoundNumIPUs(), training=False)

    def test_offline_compilation_takes_any_number(self):
        class Three(torch.nn.Module):
            def forward(self, x):
                for ipu in range(3):
                    with poptorch.Block(str(ipu), ipu_id=ipu):
                        x = x + 1
                return x

        for offline in (True, False):
            opts = poptorch.Options().deviceIterations(3)
            executor = poptorch.inferenceModel(Three(), opts.useOfflineIpuTarget() if offline else opts)
            if offline:
                executor.compile(torch.ones(3))
            else:
                with pytest.raises(poptorch.Error, match="power of 2"):
                    executor.compile(torch.ones(3))

    def test_a_process_has_a_limit(self):
        assert reservedIpus(64, 1, any_number=False) == 64
        with pytest.raises(poptorch.Error, match=r"Too many IPUs requested \(128\)"):
            reservedIpus(2, 64, any_number=False)
        _, tracker = track(ShardedExecution(), (None, 0), (None, 64))
        with pytest.raises(poptorch.Error, match=r"Too many IPUs requested \(65\)"):
            tracker.validate(poptorch.Options().outputMode(poptorch.OutputMode.All), training=False)


def test_parallel_phases_alternate_between_even_and_odd_ipus():
    opts = poptorch.Options().outputMode(poptorch.OutputMode.All)
    good = ParallelPhasedExecution(Phase("a").ipus(0), Phase("b").ipus(1), Phase("c").ipus(2))
    _, tracker = track(good, ("a", None), ("b", None), ("c", None))
    opts.autoRoundNumIPUs()
    tracker.validate(opts, training=False)
    bad = ParallelPhasedExecution(Phase("a").ipus(0), Phase("b").ipus(2))
    _, tracker = track(bad, ("a", None), ("b", None))
    with pytest.raises(poptorch.Error, match="odd"):
        tracker.validate(opts, training=False)
    _, tracker = track(
        SerialPhasedExecution(Phase("a").ipus(1), Phase("b").ipus(1)), ("a", None), ("b", None)
    )
    tracker.validate(opts, training=True)


def test_where_operations_went_is_logged(caplog):
    class Model(torch.nn.Module):
        def __init__(self, second):
            super().__init__()
            self.layer, self.second = torch.nn.ReLU(), second

        def forward(self, x):
            poptorch.Block.start("a", ipu_id=0)
            x = x * 2
            poptorch.Block.start("b", ipu_id=self.second)
            return self.layer(x) * 3

    for strategy, mode, second, pipelined in (
        (PipelinedExecution(), "Pipelined", 1, 1),
        (PipelinedExecution(), "Pipelined", 0, 0),
        (ShardedExecution(), "Sharded", 1, 0),
    ):
        caplog.clear()
        opts = poptorch.Options().deviceIterations(2).setExecutionStrategy(strategy)
        executor = poptorch.inferenceModel(Model(second), opts)
        with caplog.at_level("DEBUG", logger="poptorch::python"):
            executor.compile(torch.ones(2))
        assert f"enablePipelining set to value {pipelined}" in caplog.text
        for name, ipu in (("Mul:0", 0), ("layer/Relu:0", second), ("Mul:0/1", second)):
            assert f" {name} : mode({mode}), ipu({ipu}), stage({ipu})" in caplog.text

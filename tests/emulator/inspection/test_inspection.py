"""What an executor measures and shows (PopTorch 3.4 API reference, PoplarExecutor; user guide, inspecting tensors)."""

import json

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch
from ipu_train.emulator.device.measurements import Measurements, Timeline

from ..networks import Convolutional, FromFunction, images, options, run


class Line(nn.Module):
    """Loss sum(w * x): the gradient of w is the sum of x over a micro-batch."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return poptorch.identity_loss(self.w * x, "sum")


def train_line(chosen, x):
    model = Line()
    executor = poptorch.trainingModel(model, chosen, torch.optim.SGD(model.parameters(), lr=1.0))
    executor(x)
    return executor


class TestAnchors:
    X = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])

    @pytest.mark.parametrize(
        "mode, expected",
        [
            (None, [7.0, 8.0]),
            ("All", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
            ("Sum", [16.0, 20.0]),
            ("Final", [7.0, 8.0]),
        ],
    )
    def test_gradients_of_micro_batches_in_the_mode_asked_for(self, mode, expected):
        chosen = options(iterations=2, accumulation=2)
        chosen.anchorTensor("g", "Gradient___w", None if mode is None else getattr(poptorch.OutputMode, mode))
        assert train_line(chosen, self.X).getAnchoredTensor("g").tolist() == expected

    def test_updated_weights(self):
        chosen = options(iterations=2, accumulation=2)
        chosen.anchorTensor("w", "UpdatedVar___w")
        executor = train_line(chosen, self.X)
        assert (
            executor.getAnchoredTensor("w").tolist() == (-(self.X[:2].mean(0) + self.X[2:].mean(0))).tolist()
        )
        executor.copyWeightsToHost()
        assert executor.model.w.tolist() == executor.getAnchoredTensor("w").tolist()

    @pytest.mark.parametrize("start", [1.0, 4.0])
    def test_the_loss_scaling_in_use_while_it_is_automatic(self, start):
        """The scaling of a call is the one that the optimizer's state shows before it; here it doubles every time."""
        chosen = options()
        chosen.Training.setAutomaticLossScaling(True)
        chosen.anchorTensor("scale", "finalLossScale", poptorch.OutputMode.Final)
        model = Line()
        optimizer = poptorch.optim.SGD(
            model.parameters(), lr=0.0, loss_scaling=start, use_combined_accum=False
        )
        executor = poptorch.trainingModel(model, chosen, optimizer)
        executor.compile(self.X)
        scales = []
        for _ in range(3):
            factor = optimizer.state_dict()["ipu_state"]["lossScaleUpdateFactor"]
            executor(self.X)
            scales.append(executor.getAnchoredTensor("scale").item())
            assert scales[-1] == start * factor
        assert scales == [start, 2 * start, 4 * start]

    def test_a_fixed_loss_scaling_has_no_tensor(self):
        chosen = options()
        chosen.anchorTensor("scale", "finalLossScale")
        with pytest.raises(poptorch.Error, match="finalLossScale"):
            train_line(chosen, self.X)

    def test_anchored_gradients_change_no_update(self):
        chosen = options(iterations=2, accumulation=2)
        chosen.anchorTensor("g", "Gradient___w")
        with_anchor = train_line(chosen, self.X)
        without = train_line(options(iterations=2, accumulation=2), self.X)
        assert torch.equal(with_anchor.model.w.detach(), without.model.w.detach())

    def test_tensors_between_operations(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.act = nn.ReLU()

            def forward(self, x):
                return self.act(x) * 2

        chosen = poptorch.Options()
        chosen.anchorTensor("activation", "act/Relu:0")
        executor = poptorch.inferenceModel(Model(), chosen)
        executor(torch.tensor([-1.0, 3.0]))
        assert executor.getAnchoredTensor("activation").tolist() == [0.0, 3.0]
        assert "act/Relu:0" in executor.getTensorNames()

    @pytest.mark.parametrize("mode, text", [("EveryN", "EVERYN/2"), ("All", "ALL/1"), ("Sum", "Sum/1")])
    def test_the_log_says_what_is_kept(self, mode, text, caplog):
        chosen = options(iterations=2, accumulation=2)
        chosen.anchorTensor("g", "Gradient___w", getattr(poptorch.OutputMode, mode), 2)
        with caplog.at_level("DEBUG", logger="poptorch::python"):
            train_line(chosen, self.X)
        assert f"Gradient___w {text}" in caplog.text

    def test_unknown_names(self):
        executor = train_line(None, self.X)
        with pytest.raises(AssertionError, match="No tensor with name other"):
            executor.getAnchoredTensor("other")
        chosen = poptorch.Options()
        chosen.anchorTensor("g", "Gradient___nothing")
        with pytest.raises(poptorch.Error, match="does not exist"):
            train_line(chosen, self.X)


def test_tensor_names_need_a_compiled_model_and_follow_popart():
    model = Convolutional()
    executor = poptorch.trainingModel(model)
    with pytest.raises(AssertionError, match="compiled"):
        executor.getTensorNames()
    executor(*images(4))
    names = executor.getTensorNames()
    for name in ("input", "input/1", "conv.weight", "Gradient___conv.weight", "UpdatedVar___linear.bias"):
        assert name in names
    for start in ("loss", "scaledLearningRate", "weightDecayScaleFactor"):
        assert any(name.startswith(start) for name in names)


class TestIntermediateRepresentation:
    def test_operators_carry_scope_placement_and_attributes(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

            def forward(self, x):
                with poptorch.Block("0", ipu_id=0):
                    x = self.first(x)
                with poptorch.Block("1", ipu_id=1), poptorch.Attribute(colour="red"):
                    return self.second(x)

        for named in (True, False):
            chosen = poptorch.Options().deviceIterations(2)
            if not named:
                chosen.disableModuleNamescope()
            executor = poptorch.inferenceModel(Model(), chosen)
            executor(torch.ones(2, 2))
            gemms = [
                op for op in json.loads(executor._debugGetPopartIR())["maingraph"] if op["type"] == "Gemm"
            ]
            assert [op["name"] for op in gemms] == (
                ["first/Gemm", "second/Gemm"] if named else ["Gemm", "Gemm"]
            )
            assert [op["attributes"]["__ipu_number"] for op in gemms] == ["0", "1"]
            assert [op["attributes"].get("colour") for op in gemms] == [None, '"red"']


class TestCounters:
    def test_cycle_counts_need_logging_and_a_run(self):
        with pytest.raises(poptorch.Error, match="Cycle count logging is disabled"):
            poptorch.inferenceModel(nn.ReLU()).cycleCount()
        executor = poptorch.inferenceModel(nn.ReLU(), poptorch.Options().logCycleCount(True))
        executor.compile(torch.ones(1))
        with pytest.raises(
            poptorch.Error, match=r"Please run the model at least once before obtaining cycle count\."
        ):
            executor.cycleCount()
        executor(torch.ones(1))
        assert isinstance(executor.cycleCount(), int)
        assert executor.cycleCount() > 0

    @pytest.mark.parametrize("enabled", [True, False])
    def test_the_cycles_of_each_run_are_logged_on_request(self, enabled, caplog):
        executor = poptorch.inferenceModel(nn.ReLU(), poptorch.Options().logCycleCount(enabled))
        with caplog.at_level("INFO", logger="poptorch::python"):
            for _ in range(2):
                executor(torch.ones(1))
        lines = [text for text in caplog.messages if text.startswith("Total number of IPU cycles: ")]
        assert len(lines) == (2 if enabled else 0)
        assert not enabled or lines[-1].endswith(f" {executor.cycleCount()}")

    @pytest.mark.parametrize(
        "mode, period, outputs", [("All", None, 8), ("EveryN", 2, 4), ("Final", None, 2), ("Sum", None, 2)]
    )
    def test_perf_counters_have_an_entry_for_each_tensor_and_step(self, mode, period, outputs):
        chosen = poptorch.Options().deviceIterations(4).replicationFactor(2)
        chosen.outputMode(getattr(poptorch.OutputMode, mode), period)
        executor = poptorch.inferenceModel(FromFunction(lambda x, y: (x + y, x * y, x)), chosen)
        assert executor.getPerfCounters() == {
            "input": [[]], "input_complete": [[]], "output": [[]], "output_complete": [[]],
        }  # fmt: skip
        executor(torch.ones(8), torch.ones(8))
        counters = executor.getPerfCounters()
        assert [len(steps) for steps in counters["input"]] == [8, 8]
        assert [len(steps) for steps in counters["input_complete"]] == [8, 8]
        assert [len(steps) for steps in counters["output"]] == [outputs] * 3
        assert [len(steps) for steps in counters["output_complete"]] == [outputs] * 3
        latencies = [
            executor.getHostIpuLatency(), executor.getComputeLatency(), executor.getIpuHostLatency(),
            executor.getLatency(),
        ]  # fmt: skip
        for low, high, average in latencies:
            assert 0 <= low <= average <= high
        assert latencies[3][1] >= max(latency[0] for latency in latencies[:3])

    def test_latencies_are_between_the_events_that_the_reference_names(self):
        """Of three steps: the way there takes 1, 2 and 3 s, computing 30, 20 and 10 s, the way back 0.5 s."""
        timeline = Timeline(inputs=2, outputs=1)
        for step, (there, compute) in enumerate([(1.0, 30.0), (2.0, 20.0), (3.0, 10.0)]):
            begin = 100.0 * step
            timeline.stamp("input", at=begin)
            timeline.stamp("input_complete", at=begin + there)
            timeline.stamp("output", at=begin + there + compute)
            timeline.stamp("output_complete", at=begin + there + compute + 0.5)
        measured = Measurements(poptorch.Options())
        measured.called(1.0, timeline)
        assert measured.getHostIpuLatency() == pytest.approx((1.0, 3.0, 2.0))
        assert measured.getComputeLatency() == pytest.approx((10.0, 30.0, 20.0))
        assert measured.getIpuHostLatency() == pytest.approx((0.5, 0.5, 0.5))
        assert measured.getLatency() == pytest.approx((13.5, 31.5, 22.5))

    @pytest.mark.parametrize("fuse", [False, True])
    def test_training_counts_every_micro_batch(self, fuse):
        from ..networks import PerImage

        chosen = options(2, 3, 2, mode=poptorch.OutputMode.All)
        chosen._Emulator.fuseMicroBatches(fuse)
        executor = poptorch.trainingModel(PerImage(), chosen)
        executor(*images(12))
        counters = executor.getPerfCounters()
        assert [len(steps) for steps in counters["input"] + counters["output"]] == [12] * 4

    def test_compilation_time(self):
        executor = poptorch.inferenceModel(nn.ReLU())
        with pytest.raises(poptorch.Error, match="Please compile the model"):
            executor.compilationTime()
        executor.compile(torch.ones(1))
        assert executor.compilationTime().total_seconds() > 0
        hidden = poptorch.inferenceModel(nn.ReLU(), poptorch.Options().showCompilationProgressBar(False))
        hidden.compile(torch.ones(1))
        with pytest.raises(poptorch.Error, match="set showCompilationProgressBar"):
            hidden.compilationTime()


def test_synthetic_data_keeps_shapes_and_types_and_transfers_nothing():
    executor = poptorch.trainingModel(Convolutional(), poptorch.Options().enableSyntheticData(True))
    logits, loss = executor(*images(4))
    assert logits.shape == (4, 5)
    assert loss.shape == ()
    assert all(steps == [] for tensors in executor.getPerfCounters().values() for steps in tensors)
    assert executor.getLatency() == (0.0, 0.0, 0.0)
    inputs = torch.full((4,), 1e6)
    echo = poptorch.inferenceModel(
        FromFunction(lambda x: x * 1), poptorch.Options().enableSyntheticData(True)
    )
    assert echo(inputs).abs().max() < 100  # not what was passed


@pytest.mark.parametrize(
    "key, value, message",
    [("noSuchThing", 1, "Unknown .* option"), ("logDir", object(), "Unknown value type")],
)
def test_popart_settings_are_checked_at_compilation(key, value, message):
    chosen = poptorch.Options()
    chosen._Popart.set(key, value)
    executor = poptorch.inferenceModel(nn.ReLU(), chosen)
    with pytest.raises(poptorch.Error, match=message):
        executor(torch.ones(1))


class TestStashes:
    """A pipeline that recomputes its stages keeps their inputs and the checkpoints in them."""

    @staticmethod
    def stashed(checkpoints, recompute=3, ipus=(0, 1, 2)):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

            def forward(self, x, y):
                with poptorch.Block("a", ipu_id=ipus[0]):
                    x = self.a(x).relu()
                    if checkpoints:
                        x = poptorch.recomputationCheckpoint(x)
                    x = self.a(x)
                with poptorch.Block("b", ipu_id=ipus[1]):
                    x = self.b(x).relu()
                    if checkpoints > 1:
                        x, z = poptorch.recomputationCheckpoint(x, x * 2)
                        x = x + z
                with poptorch.Block("c", ipu_id=ipus[2]):
                    return nn.functional.mse_loss(self.c(x).relu(), y)

        chosen = options(accumulation=5).autoRoundNumIPUs(True)
        if recompute is not None:
            chosen._Popart.set("autoRecomputation", recompute)
        executor = poptorch.trainingModel(Model(), chosen)
        executor.compile(torch.ones(5, 2), torch.ones(5, 2))
        operators = json.loads(executor._debugGetPopartIR())["maingraph"]
        return [op["inputs"][0]["name"] for op in operators if op["type"] == "Stash"]

    def test_inputs_of_all_stages_but_the_last(self):
        assert self.stashed(0) == ["input", "a/Gemm:0/1"]  # of stage b: what the second call of a returns

    @pytest.mark.parametrize("checkpoints, count", [(1, 3), (2, 5)])
    def test_and_every_checkpoint(self, checkpoints, count):
        assert len(self.stashed(checkpoints)) == count

    def test_a_pipeline_recomputes_its_stages_unasked(self):
        """Compiler.cpp sets autoRecomputation where a program has not; Graphcore's BERT counts on it."""
        assert self.stashed(1, recompute=None) == self.stashed(1)

    @pytest.mark.parametrize("checkpoints, count", [(False, 4), (True, 5)])
    def test_what_comes_to_an_ipu_counts_and_what_stays_there_does_not(self, checkpoints, count):
        """In small what a test of Graphcore's BERT counts on IPUs: 6 without checkpoints, 8 with three."""

        def keep(x):
            return poptorch.recomputationCheckpoint(x) if checkpoints else x

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))

            def forward(self, x, mask, y):
                with poptorch.Block("embedding", ipu_id=0):
                    scale = 1 - mask  # comes to IPU 1; no gradient asks IPU 0 for the mask
                    x = self.layers[0](x)
                with poptorch.Block("first", ipu_id=1):
                    x = keep(self.layers[1](x).relu() * scale)
                with poptorch.Block("second", ipu_id=1):
                    x = keep(self.layers[2](x).relu())  # goes on to IPU 0, which keeps it
                with poptorch.Block("head", ipu_id=0):
                    x = self.layers[3](x).relu()
                with poptorch.Block("loss", ipu_id=0):
                    return nn.functional.mse_loss(x, y)

        strategy = poptorch.PipelinedExecution(poptorch.AutoStage.AutoIncrement)
        chosen = options(accumulation=9).autoRoundNumIPUs(True).setExecutionStrategy(strategy)
        executor = poptorch.trainingModel(Model(), chosen)
        executor.compile(*[torch.ones(9, 2)] * 3)
        operators = json.loads(executor._debugGetPopartIR())["maingraph"]
        names = [op["inputs"][0]["name"] for op in operators if op["type"] == "Stash"]
        assert len(names) == count
        assert [name for name in names if name.startswith("input")] == ["input"]

    def test_nothing_without_recomputation_of_stages_or_without_a_pipeline(self):
        assert self.stashed(1, recompute=0) == []
        assert self.stashed(1, recompute=None, ipus=(0, 0, 0)) == []


class TestStridedChannelGroups:
    """PopART's setting groupNormStridedChannelGrouping: "fast group norm" in Graphcore's CNN application."""

    @staticmethod
    def settings():
        chosen = poptorch.Options()
        chosen._Popart.set("groupNormStridedChannelGrouping", True)
        return chosen

    @staticmethod
    def truth(x, norm):
        """Channel i * groups + g is in group g; PopLibs, popnn/GroupNorm.hpp."""
        y = torch.empty_like(x)
        for g in range(norm.num_groups):
            part = x[:, g :: norm.num_groups]
            axes = tuple(range(1, x.dim()))
            variance, mean = torch.var_mean(part, axes, unbiased=False, keepdim=True)
            y[:, g :: norm.num_groups] = (part - mean) / (variance + norm.eps).sqrt()
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return y * norm.weight.detach().view(shape) + norm.bias.detach().view(shape)

    @pytest.mark.parametrize("shape", [(3, 6), (2, 6, 4, 5)])
    def test_groups_are_made_of_channels_that_lie_apart(self, shape):
        torch.manual_seed(0)
        norm = nn.GroupNorm(2, 6)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        x = torch.randn(shape)
        output = poptorch.inferenceModel(norm, self.settings())(x)
        torch.testing.assert_close(output, self.truth(x, norm), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(output, norm(x), atol=0.1)

    def test_layer_norm_and_instance_norm_are_as_ever(self):
        x = torch.randn(2, 6, 4, 5)
        for norm in (nn.GroupNorm(1, 6), nn.GroupNorm(6, 6), nn.LayerNorm(5), nn.InstanceNorm2d(6)):
            output = poptorch.inferenceModel(norm, self.settings())(x)
            torch.testing.assert_close(output, norm(x).detach(), rtol=1e-4, atol=1e-5)

    def test_training_differentiates_it(self):
        torch.manual_seed(0)
        norm, x = nn.GroupNorm(2, 4), torch.randn(3, 4, 2, 2)

        class Squared(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.norm = nn.Conv2d(4, 4, 1), norm

            def forward(self, x):
                return poptorch.identity_loss(self.norm(self.conv(x)).pow(3), "sum")

        model = Squared()
        before = model.conv.weight.detach().clone().requires_grad_()
        y = torch.nn.functional.conv2d(x, before, model.conv.bias.detach())
        self.truth(y, norm).pow(3).sum().backward()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        executor = poptorch.trainingModel(model, self.settings(), optimizer)
        executor(x)
        torch.testing.assert_close(
            model.conv.weight.detach(), before.detach() - before.grad, rtol=1e-3, atol=1e-4
        )


class TestFloatingPointExceptions:
    """Options.Precision.enableFloatingPointExceptions."""

    @pytest.mark.parametrize(
        "forward, value",
        [
            (lambda x: 1 / x, 0.0),
            (lambda x: x * x.new_full((1,), float("inf")), 0.0),
            (lambda x: torch.sqrt(x), -1.0),
            (lambda x: x > 0, float("nan")),
            (lambda x: torch.exp(x), 1000.0),
            (lambda x: x - x, float("inf")),
            (lambda x: torch.log(x), 0.0),
            (lambda x: x.half() * 2, 60000.0),
        ],
        ids=["division", "multiplication", "root", "comparison", "overflow", "inf_minus_inf", "log", "half"],
    )
    def test_the_run_raises_when_they_are_on(self, forward, value):
        x = torch.tensor([value])
        run(forward, x)  # off by default
        chosen = poptorch.Options()
        chosen.Precision.enableFloatingPointExceptions(True)
        executor = poptorch.inferenceModel(FromFunction(forward), chosen)
        executor.compile(torch.ones(1))
        executor(torch.ones(1))
        with pytest.raises(poptorch.Error, match=r"Floating point exception.*test_inspection\.py"):
            executor(x)

    def test_the_backward_pass_raises_too(self):
        class Root(Line):
            def forward(self, x):
                return poptorch.identity_loss((self.w * x).sqrt(), "sum")  # infinite slope at 0

        chosen = poptorch.Options()
        chosen.Precision.enableFloatingPointExceptions(True)
        with pytest.raises(poptorch.Error, match="the gradient of w"):
            poptorch.trainingModel(Root(), chosen)(torch.ones(2))

    def test_values_that_are_only_passed_on_raise_nothing(self):
        chosen = poptorch.Options()
        chosen.Precision.enableFloatingPointExceptions(True)
        x = torch.tensor([float("inf"), float("nan")])
        out = poptorch.inferenceModel(FromFunction(lambda t: t + 1), chosen)(x)
        assert torch.isinf(out[0])
        assert torch.isnan(out[1])

    def test_the_setting_is_a_bool(self):
        with pytest.raises(AssertionError):
            poptorch.Options().Precision.enableFloatingPointExceptions(1)

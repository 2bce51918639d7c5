"""What a compiled program would cost: the IPU model's report through the executor."""

import contextlib

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch
from ipu_train.ipumodel import Settings, Target, plan, trace

from ..networks import Convolutional, images, options, twins


class WithLabels(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Convolutional()

    def forward(self, x, labels):
        return self.model(x, labels)


def compiled(micro_batch=4, accumulation=2, momentum=0.9, choose=lambda chosen: None):
    model, _ = twins()
    chosen = options(1, accumulation)
    choose(chosen)
    executor = poptorch.trainingModel(
        model,
        chosen,
        poptorch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum),
    )
    executor.compile(*images(micro_batch * accumulation))
    return executor


def test_it_is_the_plan_of_one_micro_batch():
    report = compiled().report()
    program = trace(WithLabels(), [torch.empty(4, 3, 6, 6), torch.zeros(4, dtype=torch.int64)], loss=None)
    settings = Settings(precision="32.32", optimizer="momentum", gradient_accumulation=2)
    expected = plan(program, Target.named("mk2"), settings)
    assert report.to_json()["total_bytes"] == expected.to_json()["total_bytes"]
    assert report.to_json()["cycles"] == expected.to_json()["cycles"]
    assert report.micro_batch_size == 4


def _off_chip():
    return poptorch.TensorLocationSettings().useOnChipStorage(False)


@pytest.mark.parametrize(
    "choose, meant",
    [
        (lambda o: o._Popart.set("autoRecomputation", 1), {"recompute": "standard"}),
        (lambda o: o._Popart.set("autoRecomputation", 0), {"recompute": "none"}),
        (lambda o: o.TensorLocations.setOptimizerLocation(_off_chip()), {"optimizer_offload": True}),
        (lambda o: o.TensorLocations.setWeightLocation(_off_chip()), {"weights_offload": True}),
        (lambda o: o.TensorLocations.setActivationLocation(_off_chip()), {"activations_offload": True}),
        (lambda o: o.TensorLocations.numIOTiles(32), {"io_tiles": 32}),
        (lambda o: o._Popart.set("defaultPrefetchBufferingDepth", 3), {"prefetch_depth": 3}),
        (
            lambda o: o.replicationFactor(2).TensorLocations.setOptimizerLocation(
                poptorch.TensorLocationSettings().useReplicatedTensorSharding()
            ),
            {"replicas": 2, "replicated_tensor_sharding": True},
        ),
    ],
)
def test_memory_options_are_those_of_the_plan(choose, meant):
    """What PopTorch's options say of recomputation, streaming memory and I/O tiles is in the plan."""
    report = compiled(4 * meant.get("replicas", 1), 4, choose=choose).report()
    program = trace(WithLabels(), [torch.empty(4, 3, 6, 6), torch.zeros(4, dtype=torch.int64)], loss=None)
    usual = {"precision": "32.32", "optimizer": "momentum"}
    settings = Settings(gradient_accumulation=4, **usual, **meant)
    expected = plan(program, Target.named("mk2"), settings)
    assert report.to_json()["ipus"] == expected.to_json()["ipus"]
    assert report.images_per_second == expected.images_per_second


def test_momentum_costs_optimizer_state():
    state = [
        compiled(momentum=m).report().to_json()["ipus"][0]["categories_bytes"]["optimizer_state"]
        for m in (0.0, 0.9)
    ]
    weights = sum(p.numel() for p in Convolutional().parameters())
    assert state[0] == 0
    assert state[1] >= 4 * weights


def test_blocks_are_stages_on_ipus_of_their_own():
    model, _ = twins()
    poptorch.BeginBlock(model.conv, ipu_id=0)
    poptorch.BeginBlock(model.linear, ipu_id=1)
    chosen = options(1, 3)
    chosen.setExecutionStrategy(poptorch.PipelinedExecution(poptorch.AutoStage.SameAsIpu))
    executor = poptorch.trainingModel(model, chosen, poptorch.optim.SGD(model.parameters(), lr=0.1))
    executor(*images(12))
    report = executor.report()
    assert len(report.ipus) == 2
    assert "IPU 1" in report.table()


def test_it_needs_a_compiled_model_and_a_known_chip():
    with pytest.raises(poptorch.Error, match="has not been compiled"):
        poptorch.inferenceModel(Convolutional()).report()
    with pytest.raises(ValueError, match="mk2"):
        compiled().report("mk9")


def test_convolutions_planned_together_are_costed_like_others():
    class Twice(Convolutional):
        together = False

        def forward(self, x, labels):
            with poptorch.MultiConv() if self.together else contextlib.nullcontext():
                x = self.conv(x)
            return super().forward(x[:, :3], labels)

    costs = []
    for Twice.together in (True, False):
        model = Twice()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=0.1)
        executor = poptorch.trainingModel(model, options(1, 1), optimizer)
        executor.compile(*images(4))
        costs.append(executor.report().to_json())
    assert costs[0]["cycles"] == costs[1]["cycles"] > compiled(accumulation=1).report().cycles
    assert costs[0]["total_bytes"] == costs[1]["total_bytes"]

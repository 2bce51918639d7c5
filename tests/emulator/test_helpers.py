"""Private helpers of PopTorch 3.4 that released libraries import, such as PyTorch Geometric's for IPUs and Optimum."""

import json

import pytest
import torch

from ipu_train import emulator as poptorch
from ipu_train.emulator import _impl, _utils


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return poptorch.identity_loss(x * self.weight, "sum")


class TestWrapping:
    def test_a_wrapped_model_can_be_unwrapped_for_a_while(self):
        model = Scaled()
        executor = poptorch.trainingModel(model)
        _impl.unwrapModelIfNecessary(model)
        assert type(model) is Scaled and type(model.weight) is torch.nn.Parameter
        assert not _impl.isWrapped(model) and not _impl.isWrapped(model.weight)
        _impl.rewrapModelIfNecessary(model)
        assert _impl.isWrapped(model) and _impl.isWrapped(model.weight)
        executor(torch.ones(2, 3))
        assert torch.allclose(model.weight, torch.full((3,), 1 - 0.01 * 2)), "and weights still come home"
        executor.destroy()

    def test_a_model_that_is_not_wrapped_stays_as_it_is(self):
        model = Scaled()
        _impl.unwrapModelIfNecessary(model)
        _impl.rewrapModelIfNecessary(model)
        assert type(model) is Scaled and not _impl.isWrapped(model)


class TestTensors:
    def test_batches_are_combined(self):
        batches = [[torch.full((2, 3), float(i)), torch.tensor([i])] for i in range(3)]
        images, labels = _utils.combine_batch_tensors_gen(batches)
        assert torch.equal(images, torch.arange(3.0).repeat_interleave(2)[:, None].expand(6, 3))
        assert labels.tolist() == [0, 1, 2]

    def test_tensors_are_numbered_inside_a_forward_only(self):
        seen = []

        class Net(torch.nn.Module):
            def forward(self, x):
                y = x + 1
                seen.extend([poptorch.getIpuTensorId(x), poptorch.getIpuTensorId(y)])
                return y

        poptorch.inferenceModel(Net())(torch.ones(2))
        assert len(set(seen)) == 2
        with pytest.raises(poptorch.Error, match="getIpuTensorId"):
            poptorch.getIpuTensorId(torch.ones(2))

    def test_attributes_by_json_and_by_address(self):
        attributes = {"axis": 1}
        assert poptorch.accessAttributes(json.dumps(attributes)) == attributes
        assert poptorch.accessAttributes(f"attr:{id(attributes):x}") is attributes
        for wrong in ("axis", 3):
            with pytest.raises(ValueError, match="[Aa]ttributes"):
                poptorch.accessAttributes(wrong)


class Doubling:
    """Puts ``torch.relu`` aside while a model is captured, as libraries replace their own operators."""

    def replace(self):
        self.before, torch.relu = torch.relu, lambda x: x * 2

    def restore(self):
        torch.relu = self.before


def test_substitutions_hold_while_a_model_is_captured(monkeypatch):
    manager = poptorch._OverwriteContextManager
    monkeypatch.setattr(manager, "_subsitution_manager_types", list(manager._subsitution_manager_types))
    manager.registerSubsitutionManager(Doubling)
    manager.registerSubsitutionManager(Doubling)
    assert manager._subsitution_manager_types.count(Doubling) == 1

    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x)

    before = torch.relu
    assert poptorch.inferenceModel(Net())(torch.tensor([-1.0])).tolist() == [-2.0]
    assert torch.relu is before


def test_an_execution_strategy_hears_of_captures():
    heard = []

    class Listening(poptorch.ShardedExecution):
        def onStartTracing(self):
            super().onStartTracing()
            heard.append("start")

        def onEndTracing(self):
            super().onEndTracing()
            heard.append("end")

    class Net(torch.nn.Module):
        def forward(self, x):
            heard.append("forward")
            return x + 1

    opts = poptorch.Options()
    opts.setExecutionStrategy(Listening())
    executor = poptorch.inferenceModel(Net(), opts)
    executor(torch.ones(1))
    executor(torch.ones(1))
    assert heard == ["start", "forward", "end"]


def test_options_are_added_to_a_dict():
    opts = poptorch.Options().deviceIterations(3)
    assert opts.update({"other": 1})["device_iterations"] == 3
    with pytest.raises(AssertionError, match="device_iterations"):
        opts.update({"device_iterations": 1})


def test_a_host_operation_keeps_its_shapes():
    operation = poptorch.CPU(lambda x, y: (x + y, x.sum()), "sums")

    class Net(torch.nn.Module):
        def forward(self, x):
            return operation(x, x)

    poptorch.inferenceModel(Net())(torch.ones(2, 3))
    operation.registerPersistentData()
    for tensor in operation.inputs:
        assert tensor.shape == (2, 3)
        tensor.fill_(2)
    operation.execute()
    assert operation.outputs[0].tolist() == [[4.0] * 3] * 2
    assert operation.outputs[1].item() == 12

import copy

import pytest
import torch
from torch import nn

from ipu_train.ipumodel.tracer import trace

from .nets import images, small_net


def kinds(program):
    return [op.kind for op in program.forward()]


def test_every_layer_is_recorded_in_order_with_its_path():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
                          nn.Linear(4 * 7 * 7, 10))  # fmt: skip
    program = trace(model, images())
    layers = [(op.layer, op.kind) for op in program.forward() if op.layer]
    wanted = [("0", "conv"), ("1", "norm"), ("2", "unary"), ("3", "pool"), ("5", "matmul")]
    assert [pair for pair in layers if pair in wanted] == wanted
    assert program.unknown == {}
    assert program.batch == 2


def test_nothing_of_the_module_changes():
    model = small_net(norm="batch").eval()
    before = copy.deepcopy(model.state_dict())
    trace(model, images())
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_hooks_are_gone_after_an_error_too():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("no")

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Broken())
    with pytest.raises(RuntimeError, match="no"):
        trace(model, images())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_popart_keeps_differs_from_what_eager_torch_keeps():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Dropout(0.5))
    program = trace(model, images(), loss=None)
    by_kind = {op.kind: op for op in program.forward()}
    conv, norm, relu = by_kind["conv"], by_kind["norm"], by_kind["unary"]
    assert set(conv.saves) == set(conv.reads[:2])
    assert norm.saves[0] == conv.writes[0]  # the input, and the statistics
    assert len(norm.saves) == 3
    assert relu.saves == relu.writes  # the output alone
    assert by_kind["dropout"].saves == ()  # a seed, not a mask


def test_additions_keep_nothing_and_products_both_factors():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x):
            return (x + self.scale) * self.scale

    add, mul = (op for op in trace(Both(), images(), loss=None).forward() if op.kind == "binary")
    assert add.saves == ()
    assert set(mul.saves) == set(mul.reads)


def test_a_prelu_is_an_operation_of_two_tensors():
    """PopART's PReluOp is an elementwise binary operation of the input and the slopes (willow/src/op/prelu.cpp)."""
    program = trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4)), images(), loss=None)
    (prelu,) = (op for op in program.forward() if op.kind == "binary")
    assert program.unknown == {}
    assert set(prelu.saves) == set(prelu.reads)
    assert len(prelu.reads) == 2


def test_stages_begin_at_the_named_modules():
    model = small_net(blocks=4)
    program = trace(model, images(), splits=["layer1.1", "layer1.3"])
    stages = {op.layer.split(".conv")[0]: op.stage for op in program.forward() if op.kind == "conv"}
    assert stages == {"stem": 0, "layer1.0": 0, "layer1.1": 1, "layer1.2": 1, "layer1.3": 2}
    assert program.stages == 3
    assert program.forward()[-1].stage == 2  # the loss runs where the last stage does


def test_stages_can_come_from_annotations_of_modules_or_from_a_scope():
    model = small_net(blocks=2)
    marks = {"layer1.1": 1}
    by_module = trace(model, images(), stage_at=lambda name, module: marks.get(name))
    by_scope = trace(model, images(), current_stage=lambda: 5)
    assert by_module.stages == 2
    assert {op.stage for op in by_scope.forward()} == {5}


def test_a_split_that_names_no_module_is_refused_with_what_is_near():
    with pytest.raises(ValueError, match=r"pipeline split 'layer1\.9'.*near it are layer1"):
        trace(small_net(), images(), splits=["layer1.9"])


def test_an_operator_without_a_rule_is_listed_and_costed():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    program = trace(Odd(), images(), loss=None)
    assert program.unknown == {"aten::special_bessel_j0": 1}
    assert "unknown" in kinds(program)


def test_views_cost_nothing_and_share_storage():
    class Views(nn.Module):
        def forward(self, x):
            return x.flatten(1).t().unsqueeze(0) * 2

    assert kinds(trace(Views(), images(), loss=None, training=False)) == ["binary"]


def test_a_model_may_return_its_own_loss():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_net()

        def forward(self, x, y):
            out = self.net(x)
            return out, nn.functional.cross_entropy(out, y)

    program = trace(WithLoss(), (images(), torch.zeros(2, dtype=torch.int64)), loss=None)
    assert program.forward()[-1].kind == "loss"


def test_inference_records_no_gradients():
    program = trace(small_net(), images(), training=False)
    assert not any(op.differentiable for op in program.operations)
    assert not program.training

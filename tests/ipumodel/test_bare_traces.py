"""Traces on the meta device are those on fake tensors, by torch's own rules, and do without torch's compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ipu_train import models
from ipu_train.ipumodel import shape_rules
from ipu_train.ipumodel.tracer import trace

NORMS = [
    ("batch", False), ("layer", True), ("group", True), ("group", False), ("instance", False), ("none", False),

]  # fmt: skip


@pytest.mark.parametrize(
    "name, norm, proxy",
    [("resnet8", *one) for one in NORMS]
    + [("efficientnet_b0_g16", "group", True), ("resnet18", "group", True)],
)
def test_a_bare_trace_is_the_trace_on_fake_tensors(name, norm, proxy):
    groups = {"norm_groups": 4} if norm == "group" else {}
    network = models.build(name, num_classes=10, norm=norm, proxy_norm=proxy, **groups)
    images = [torch.zeros(2, 3, 32, 32)]
    assert trace(network, images, bare=True) == trace(network, images)


@pytest.mark.parametrize("call", [
    lambda x, y: torch.var_mean(x), lambda x, y: torch.var_mean(x, [1, -1], keepdim=True),
    lambda x, y: torch.var_mean(x, 1, unbiased=False), lambda x, y: torch.var_mean(x, (0, 2), correction=0),
    lambda x, y: x.mean(), lambda x, y: x.mean((2, 3)), lambda x, y: x.sum(1, keepdim=True), lambda x, y: x.sum(-1),
    lambda x, y: x.mean(1, dtype=torch.float64), lambda x, y: x.sum([]), lambda x, y: (x > 0).sum(),
    lambda x, y: x * y, lambda x, y: x.half() * y, lambda x, y: x.half() + 2.0, lambda x, y: x.transpose(1, 2) * 2,
    lambda x, y: x.int() / 2, lambda x, y: torch.addcmul(x, x, y, value=2), lambda x, y: x ** 2,
    lambda x, y: torch.rsqrt(x + 0.1), lambda x, y: torch.clamp(x, min=y), lambda x, y: x.to(torch.float64) * y,
    lambda x, y: torch.nn.functional.group_norm(x, 2, y.flatten()), lambda x, y: torch.log_softmax(x, 1),
    lambda x, y: torch.log_softmax(x.half(), 1, dtype=torch.float32), lambda x, y: x.flatten(1) @ x.flatten(1).t(),
    lambda x, y: torch.nn.functional.batch_norm(x, None, None, training=True),
    lambda x, y: torch.nn.functional.nll_loss(x.mean((2, 3)), torch.zeros(3, dtype=torch.int64, device=x.device)),
    lambda x, y: torch.nn.functional.nll_loss(x.mean((2, 3)), torch.zeros(3, dtype=torch.int64, device=x.device),
                                              reduction="none"),
    lambda x, y: nn.functional.conv2d(x, x.new_empty(6, 2, 3, 2), x.new_empty(6), 2, (1, 2), (1, 2), groups=2),
    lambda x, y: nn.functional.conv1d(x.flatten(2), x.new_empty(6, 4, 3), padding="same"),
    lambda x, y: nn.functional.conv_transpose2d(x, x.new_empty(4, 2, 3, 3), stride=2),
    lambda x, y: nn.functional.dropout(x, 0.3), lambda x, y: nn.functional.dropout(x.transpose(1, 2), 0.3),
    lambda x, y: torch.zeros_like(x), lambda x, y: torch.ones_like(x, dtype=torch.float64),
    lambda x, y: nn.functional.max_pool2d(x, 2, return_indices=True), lambda x, y: nn.functional.max_pool2d(x, 3, 2, 1),
    lambda x, y: nn.functional.max_pool2d(x, (2, 3), padding=1, return_indices=True),
    lambda x, y: nn.functional.max_pool2d(x, 2, ceil_mode=True), lambda x, y: nn.functional.max_pool2d(x, 2, 1, 0, 2),
    lambda x, y: nn.functional.linear(x.flatten(1), x.new_empty(7, 100), x.new_empty(7)),
])  # fmt: skip
def test_a_rule_gives_shape_type_and_strides_of_torchs_own(call):
    class Rules(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return shape_rules.result(func, func._schema.name, args, kwargs or {})

    def layout(found):
        tensors = found if isinstance(found, (tuple, list)) else [found]
        return [(tensor.shape, tensor.dtype, tensor.stride()) for tensor in tensors]

    shapes = (3, 4, 5, 5), (4, 1, 1)
    with FakeTensorMode():
        expected = layout(call(*(torch.empty(shape) for shape in shapes)))
    with Rules():
        found = layout(call(*(torch.empty(shape, device="meta") for shape in shapes)))
    assert found == expected


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_plan_does_without_torchs_compiler(name):
    program = (
        "import sys, torch; by_torch = set(sys.modules)\n"
        "from ipu_train import config, planning\n"
        f"planning.predict(config.load('cifar10_resnet20_gn_pn', ['model.name={name}']))\n"
        "own = 'torch._dynamo', 'torch.fx.experimental.symbolic_shapes', 'matplotlib'\n"
        "sys.exit(', '.join(name for name in own if name in set(sys.modules) - by_torch))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == ""

"""Which operations share code: what PopART's and TensorFlow's compilers make one function of."""

import pytest
import torch
from torch import nn

from ipu_train.ipumodel.convolution.forms import PlanOptions
from ipu_train.ipumodel.estimators import code_of, estimate
from ipu_train.ipumodel.planner import plan
from ipu_train.ipumodel.settings import Settings
from ipu_train.ipumodel.target import Target
from ipu_train.ipumodel.tracer import trace

from .nets import images, small_net

MK2 = Target.named("mk2")


def code_names(*layers, size=(2, 16, 16, 16)):
    """(names of code forward, names of code backward) of convolutions one after the other."""
    with torch.device("meta"):
        first = nn.Conv2d(size[1], size[1], 1, bias=False)  # whose input needs no gradient
        program = trace(nn.Sequential(first, *layers), torch.zeros(*size, device="meta"), loss=None)
    found = []
    for backward in (False, True):
        operations = [op for op in program.forward() if op.kind == "conv"][1:]
        costs = [estimate(op, MK2, PlanOptions(), 2, backward) for op in operations]
        found.append([name for op, cost in zip(operations, costs) for name, _ in code_of(op, cost, backward)])
    return found


def conv(channels, filters, kernel=1, **options):
    return nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False, **options)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_gradient_of_a_widening_convolution_is_a_narrowing_one(kernel, groups):
    forward, backward = code_names(conv(16, 32, kernel, groups=groups), conv(32, 16, kernel, groups=groups))
    of_input, of_weights = backward[0::2], backward[1::2]
    assert of_input == forward[::-1] and len(set(forward)) == 2
    assert not set(of_weights) & set(forward)


def test_the_gradient_of_a_strided_convolution_is_no_strided_convolution():
    forward, backward = code_names(conv(16, 16, 3, stride=2))
    assert backward[0] not in forward


def test_the_same_convolution_of_another_size_is_other_code():
    (first, second), _ = code_names(conv(16, 16, 3), conv(16, 16, 3, dilation=2))
    assert first != second


def code(report, ipu):
    memory = report.ipus[ipu].memory.categories
    return memory["vertex_state"] + memory["exchange_code"] + memory["control_code"]


def test_only_tensorflow_shares_the_code_of_what_runs_again():
    program = trace(small_net(blocks=4, channels=32), images(4), splits=["layer1.2"])

    def of(compiler, recompute):
        chosen = Settings(gradient_accumulation=8, recompute=recompute, compiler=compiler)
        return plan(program, MK2, chosen)

    popart, tensorflow, nothing = (
        of(compiler, mode)
        for compiler, mode in (("popart", "pipeline"), ("tensorflow", "pipeline"), ("popart", "none"))
    )
    # the first stage runs again; the last does not in PopART's pipeline
    assert code(popart, 0) > code(tensorflow, 0) == code(nothing, 0)
    assert code(popart, 1) == code(tensorflow, 1) == code(nothing, 1)


def test_tensorflow_fetches_offloaded_weights_for_the_update_only():
    program = trace(small_net(), images())

    def streamed(compiler, accumulation):
        chosen = Settings(weights_offload=True, compiler=compiler, gradient_accumulation=accumulation)
        return plan(program, MK2, chosen).throughput.stream_seconds

    assert streamed("tensorflow", 8) == streamed("tensorflow", 1) == pytest.approx(streamed("popart", 1) / 2)
    assert streamed("popart", 8) == pytest.approx(9 * streamed("tensorflow", 8))
    with pytest.raises(ValueError, match="compiler is 'torch'"):
        Settings(compiler="torch")

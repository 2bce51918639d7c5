"""The GPU's kernel against the definition, run on the CPU by Triton's interpreter in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")
if int(triton.__version__.split(".")[0]) < 3:
    pytest.skip("the interpreter of Triton 2 runs on GPUs only", allow_module_level=True)
REPOSITORY = Path(__file__).resolve().parent.parent.parent

PROGRAM = """
import torch
from ipu_train.kernels import gpu
from ipu_train.kernels.settings import Settings
from tests.kernels import reference

assert gpu.available() == (True, "")
composed = gpu.composed.norm_proxy_norm_act
gpu.composed.norm_proxy_norm_act = None  # whatever is not done by the kernel fails
cases = [((2, 12, 5, 3), 4), ((1, 6, 1, 1), 2), ((3, 5, 9), 1), ((2, 7, 3, 3), 7), ((2, 6, 4, 4), None),
         ((1, 2, 40, 50), 1), ((4, 8), 2)]
for index, (shape, groups) in enumerate(cases):
    for activation in ("relu", "silu"):
        kinds = ((torch.float32, 3e-5), (torch.float16, 6e-3), (torch.bfloat16, 5e-2))
        for dtype, tolerance in kinds if index == 0 else kinds[index % 3 : index % 3 + 1]:
            x, parameters, grad = reference.problem(shape, dtype)
            tolerance *= 30 if shape == (1, 6, 1, 1) else 1  # three elements a group, whose gradients cancel
            function = lambda x, *p: gpu.norm_proxy_norm_act(x, *p, Settings(groups, activation))
            actual = reference.gradients(function, x, parameters, grad)
            expected = reference.truth(x, parameters, grad, groups, activation=activation)
            for name, a, e in zip(("y", "dx", "dbeta", "dgamma", "dproxy_beta", "dproxy_gamma"), actual, expected):
                assert a.dtype == (dtype if name in ("y", "dx") else torch.float32)
                assert reference.error(a, e) < tolerance, (shape, activation, dtype, name, reference.error(a, e))
function = lambda x, *p: gpu.norm_proxy_norm_act(x, *p, Settings(2))
x, parameters, grad = reference.problem((2, 8, 12, 12), torch.float32)
for change in (lambda x: x + 1e4, lambda x: torch.where(x == x[0, 0, 0, 0], 170.0, x)):
    moved = change(x)
    actual = reference.gradients(function, moved, parameters, grad)
    for a, e in zip(actual, reference.truth(moved, parameters, grad, 2)):
        assert reference.error(a, e) < 1e-4, reference.error(a, e)
x.requires_grad_()
(dx,) = torch.autograd.grad(function(x, *parameters).sum(), x, create_graph=True)
try:
    dx.square().sum().backward()
    raise AssertionError("a second derivative was not refused")
except RuntimeError as error:
    assert "differentiable once" in str(error)
x = x.detach()
x[0, 1, 2, 2] = float("nan")
y = function(x, *parameters)
assert torch.isnan(y[0, :4]).all() and torch.isfinite(y[1]).all()
print("agrees with the definition")
"""


def test_the_kernel_is_the_definition():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=str(REPOSITORY),
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert "agrees with the definition" in run.stdout


def test_without_triton_the_composition_serves():
    program = """
import sys
sys.modules["triton"] = None  # importing it fails
import torch
from ipu_train.kernels import composed, gpu
from ipu_train.kernels.settings import Settings
usable, reason = gpu.available()
assert not usable and "install triton" in reason
x, vectors = torch.randn(2, 4, 3, 3), [torch.full((4,), v) for v in (0.0, 1.0, 0.0, 0.0)]
assert torch.equal(gpu.norm_proxy_norm_act(x, *vectors, Settings(2)),
                   composed.norm_proxy_norm_act(x, *vectors, Settings(2)))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:]

"""Runs the operators with the IPU's own branch of the codelets, and compares them with the definition.

    python -m tests.kernels.ipu_branch LIBRARY VERTICES

A program of its own, started by test_ipu_branch.py under the sanitizers: LIBRARY is the host's library, VERTICES a
second one whose vertices take the place of those of the first.
"""

import ctypes
import sys

import torch

from ipu_train.kernels import host
from tests.kernels import reference

NAMES = ("y", "dx", "dbeta", "dgamma", "dproxy_beta", "dproxy_gamma")
# Halves are rounded after each operation there, as in PopLibs' norms: about as much as the result itself again.
TOLERANCE = {torch.float32: 3e-5, torch.float16: 2e-2}
CASES = [
    ((2, 12, 5, 3), 4),
    ((1, 8, 1, 1), 2),
    ((3, 13, 7), 1),
    ((2, 7, 3, 3), 7),
    ((2, 16, 6, 5), 8),  # two channels a group: two groups in a vector of four channels
    ((2, 24, 6, 6), 3),
]


def errors(
    shape, groups, dtype, mapping, activation="relu", parameters_as=torch.float32, tiles=5, change=None
):
    """The largest error of each result, judged on the way; ``change`` alters x before it is rounded to ``dtype``."""
    x, parameters, grad = reference.problem(shape, torch.float64)
    x = (change(x) if change else x).to(dtype)
    parameters = [parameter.to(parameters_as) for parameter in parameters]
    if activation == "relu":  # rounding moves what lies near the kink to its other side
        by_channel = (1, -1) + (1,) * (len(shape) - 2)
        beta, gamma = (parameter.double().view(by_channel) for parameter in parameters[:2])
        z = gamma * reference.normalised(x.double(), groups) + beta
        grad = torch.where(z.abs() < 0.02, 0.0, grad)
    grad = grad.to(dtype)
    kinds = [(dtype, shape)] + [(parameters_as, parameters[0].shape)] * 4
    attributes = {"groups": groups, "activation": activation}
    session = host.Session(
        "GroupNormProxyNormAct", kinds, attributes, host.Options(tiles, mapping, judge=True)
    )
    outputs = session.forward([x, *parameters])
    values = {"in": [x, *parameters], "out": outputs, "grad_out": [grad]}
    gradients = session.backward([values[kind][i] for kind, i in session.grad_inputs])
    expected = reference.truth(x, parameters, grad, groups, activation=activation)
    return {name: reference.error(a, e) for name, a, e in zip(NAMES, [outputs[0], *gradients], expected)}


def require(found, tolerance, what):
    for name, error in found.items():
        assert error < tolerance, f"{what}: {name} is off by {error}"


def outlier(x):
    x[0, 0, 0, 0] = 100 * x.std()  # which is among the samples of its group's shift
    return x


def main():
    library, vertices = sys.argv[1:]
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(vertices)
    host._load = lambda: opened
    opened = host.open_library(library)

    for shape, groups in CASES:
        for dtype, tolerance in TOLERANCE.items():
            for activation in ("relu", "silu"):
                for mapping in ("linear", "odd", "grouped", "grouped4", "mixed"):
                    scale = 30 if shape[2:] == (1, 1) else 1  # few elements, whose gradients cancel
                    found = errors(shape, groups, dtype, mapping, activation)
                    require(found, scale * tolerance, (shape, dtype, activation, mapping))
    for activation in ("relu", "silu"):
        found = errors((2, 12, 5, 3), 4, torch.float16, "linear", activation, torch.float16)
        require(found, TOLERANCE[torch.float16], f"half parameters, {activation}")
    for mapping in ("linear", "grouped"):
        shape = (2, 8, 20, 20)
        far = errors(shape, 2, torch.float32, mapping, change=lambda x: x + 1000.0)
        require(far, 1e-3, "a mean of 1000")  # x itself is rounded to 6e-5 there
        far = errors(shape, 2, torch.float16, mapping, change=lambda x: 8 * x + 1000.0)
        require(far, 2e-2, "a mean of 1000, half")  # the deviation there is 27 units in the last place
        wild = errors(shape, 2, torch.float32, mapping, change=outlier)
        require(wild, 1e-4, "an outlier of 100 deviations")
    many = errors((1, 2, 260, 260), 1, torch.float16, "single")  # 67,600 pixels of a channel on one tile
    require(many, TOLERANCE[torch.float16], "more than 65,535 elements of a channel on a tile")

    for activation in (
        "relu",
        "silu",
    ):  # means far below and above zero, in deviations: both tails of a Gaussian
        parameters = [torch.tensor([-9.0, -4.0, -1.0, 0.0, 0.5, 3.0, 9.0]), torch.linspace(0.5, 1.7, 7)]
        parameters += [torch.full((7,), 0.1), torch.zeros(7)]
        kinds, exact = [(torch.float32, (7,))] * 4, {"activation": activation, "quantiles": 0}
        session = host.Session("ProxyNormStats", kinds, exact, host.Options(3, judge=True))
        found = session.forward(parameters)
        gradients = session.backward([*parameters, found[1], torch.ones(7), torch.ones(7)])
        expected = [*reference.exact_proxy_statistics(parameters, activation)]
        expected += reference.exact_proxy_gradients(parameters, activation)
        for name, a, e in zip(("m", "s", *NAMES[2:]), [*found, *gradients], expected):
            require({name: reference.error(a, e)}, 2e-5, f"a true Gaussian, {activation}")

    poisoned = torch.randn(2, 8, 4, 4)
    poisoned[0, 1, 2, 2] = float("nan")
    for name, groups in (("GroupNormProxyNormAct", {"groups": 2}), ("ProxyNormAct", {})):
        for dtype in (torch.float32, torch.float16):
            kinds = [(dtype, (2, 8, 4, 4))] + [(torch.float32, (8,))] * 4
            session = host.Session(name, kinds, groups, host.Options(3, "grouped", judge=True))
            y = session.forward([poisoned.to(dtype), *torch.rand(4, 8)])[0]
            lost = y[0, :4] if groups else y[0, 1, 2, 2]
            assert torch.isnan(lost).all(), f"{name}: a NaN of x does not show in y"
            assert torch.isfinite(y[1]).all()
    print("the IPU's branch agrees with the definition")


if __name__ == "__main__":
    main()
